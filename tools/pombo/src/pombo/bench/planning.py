"""A spreadsheet to a draft, and its start to a plan that everybody sees (G8)."""

import time
from collections.abc import Iterator

from pombo.bench.figures import Figure
from pombo.bench.running import Bench, Campaign, closed_hours
from pombo.stack import Service

FIGURES = ("import_rows_per_second", "plan_recipients_per_second")


def measure(bench: Bench) -> Iterator[Figure]:
    pool = bench.unpaced()
    bench.pace()  # warm
    campaign = bench.draft(bench.wishes.rows, pool, policy=closed_hours())
    yield bench.figure(
        FIGURES[0],
        campaign.rows / campaign.made_in_s,
        "rows/s",
        rows=campaign.rows,
        people=campaign.people,
        seconds=round(campaign.made_in_s, 1),
        format="csv",
        campaign_api_rss_mib_after=bench.process_rss_mib(Service.CAMPAIGN_API),
    )
    made_s = time.monotonic()
    bench.wait_idle()  # a draft's audience is published when it is made: the start is that of a plan alone
    known_s = time.monotonic() - made_s
    began_s = time.monotonic()
    bench.start(campaign)
    bench.until(campaign, lambda _: _is_planned(bench, campaign))
    took_s = time.monotonic() - began_s
    yield bench.figure(
        FIGURES[1],
        campaign.people / took_s,
        "recipients/s",
        recipients=campaign.people,
        seconds=round(took_s, 1),
        numbers=len(pool),
        until="visible in the statistics",
        audience_taken_in_within_s=round(known_s, 1),
        scheduler_rss_mib_after=bench.process_rss_mib(Service.SCHEDULER),
    )


def _is_planned(bench: Bench, campaign: Campaign) -> bool:
    """Every dispatch is in the read model; nothing is sent in these hours, so all of them stay pending."""
    return int(bench.statistics(campaign)["dispatches"].get("pending", 0)) >= campaign.people
