"""From the request to start to the first message at the provider (G8)."""

import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor

from pombo.bench.arrivals import by_text
from pombo.bench.figures import Figure
from pombo.bench.measures import NS, spread_ms
from pombo.bench.running import Bench, Campaign
from pombo.demo.scenario import Stuck

FIGURES = ("start_to_first_send_p99_ms",)
PEOPLE = 20
EVERY_S = 0.5
ARRIVED_WITHIN_S = 20.0


def measure(bench: Bench) -> Iterator[Figure]:
    """Small campaigns, drafted before, each started at its time whether the one before has sent or not."""
    pool = bench.unpaced()
    bench.pace()  # warm
    campaigns = [bench.draft(PEOPLE, pool, fixed_text=True) for _ in range(int(bench.wishes.duration_s))]
    arrivals = bench.arrivals()
    began_ns = time.monotonic_ns()
    dues_ns = [began_ns + round(turn * EVERY_S * NS) for turn in range(len(campaigns))]

    def start(due_ns: int, campaign: Campaign) -> None:
        time.sleep(max(0.0, (due_ns - time.monotonic_ns()) / NS))
        bench.start(campaign)

    with ThreadPoolExecutor(8) as threads:
        list(threads.map(start, dues_ns, campaigns))
    for campaign in campaigns:
        bench.until(campaign, lambda found: bool(found["sent_count"] >= PEOPLE), within_s=ARRIVED_WITHIN_S)
    bench.simulator.stats()
    texts = by_text(arrivals.read()[0])
    if missing := [campaign.id for campaign in campaigns if campaign.text_sha not in texts]:
        raise Stuck(f"nothing arrived of campaigns {', '.join(missing)}")
    latencies_s = [
        (texts[campaign.text_sha][0] - due_ns) / NS for due_ns, campaign in zip(dues_ns, campaigns, strict=True)
    ]
    spread = spread_ms(latencies_s)
    yield bench.figure(
        FIGURES[0], spread["p99_ms"], "ms", **spread, people_each=PEOPLE, every_s=EVERY_S, beside="nothing else sends"
    )
