"""Daily limits: how many of its messages a campaign has released in its present day, over all lanes."""

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from datetime import datetime
from uuid import UUID

import asyncpg

from scheduler.campaign.runs import CampaignRun
from scheduler.lane import hours
from scheduler.rows import Row

# Locks the day's rows in order of campaign, so that two replicas cannot spend the same allowance.
_LOCK = """
INSERT INTO release_day AS r (campaign_id, account_id, day, used)
SELECT campaign_id, account_id, day, 0 FROM unnest($1::uuid[], $2::uuid[], $3::timestamptz[])
    AS d(campaign_id, account_id, day) ORDER BY campaign_id
ON CONFLICT (campaign_id, day, account_id) DO UPDATE SET used = r.used RETURNING campaign_id, used
"""
_CHARGE = """
UPDATE release_day r SET used = greatest(0, r.used + d.used)
FROM unnest($1::uuid[], $2::timestamptz[], $3::int[]) AS d(campaign_id, day, used)
WHERE r.campaign_id = d.campaign_id AND r.day = d.day
"""
_UNLIMITED = 1_000_000_000


def left(run: CampaignRun, used: Mapping[UUID, int]) -> int:
    limit = run.definition.policy.daily_limit
    return _UNLIMITED if limit is None else limit - used.get(run.campaign_id, 0)


async def lock_used(raw: asyncpg.Connection, runs: Iterable[CampaignRun], now: datetime) -> dict[UUID, int]:
    """Only campaigns with a limit appear; the counts stay as they are until the transaction ends."""
    limited = {run.campaign_id: run for run in runs if run.definition.policy.daily_limit is not None}
    if not limited:
        return {}
    rows = await raw.fetch(
        _LOCK,
        list(limited),
        [run.account_id for run in limited.values()],
        [hours.local_day(run.definition.policy, now) for run in limited.values()],
    )
    return {row["campaign_id"]: row["used"] for row in rows}


async def charge(
    raw: asyncpg.Connection,
    rows: Sequence[Row],
    runs: Mapping[UUID, CampaignRun],
    at: datetime,
    *,
    back: bool = False,
) -> None:
    """Counts released dispatches; `back`: they were returned unsent in the same day."""
    counts = Counter(
        row["campaign_id"]
        for row in rows
        if (run := runs.get(row["campaign_id"])) is not None and run.definition.policy.daily_limit is not None
    )
    if counts:
        ordered = sorted(counts)
        days = [hours.local_day(runs[campaign].definition.policy, at) for campaign in ordered]
        await raw.execute(_CHARGE, ordered, days, [-counts[c] if back else counts[c] for c in ordered])
