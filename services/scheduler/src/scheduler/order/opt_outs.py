"""People who want no campaign message any more: what is pending to them is skipped."""

from collections.abc import Collection, Sequence
from datetime import datetime
from uuid import UUID

import asyncpg
from sqlalchemy.ext.asyncio import AsyncConnection

from contracts import ids
from scheduler.campaign.runs import Definitions, lock_shared
from scheduler.dispatch import dispatches
from scheduler.dispatch.reports import report_rows
from scheduler.lane import lanes
from scheduler.rows import Row
from scheduler.signals import Stage

_ADD = """
INSERT INTO opt_out (account_id, recipient_key) SELECT $1, key FROM unnest($2::text[]) AS n(key) ON CONFLICT DO NOTHING
"""
_REMOVE = "DELETE FROM opt_out WHERE account_id = $1 AND recipient_key = ANY($2::text[])"
# Recipients' and dispatches' ids are derived, so that no index by person is needed. Index campaign_active.
_CAMPAIGNS = """
SELECT account_id, campaign_id, coalesce(jsonb_array_length(definition -> 'steps'), 0) AS steps FROM campaign
WHERE status NOT IN ('completed', 'cancelled', 'deleted') AND chunk_count IS NOT NULL AND account_id = ANY($1::uuid[])
"""
_PENDING = """
SELECT dispatch_id, campaign_id, instance_id FROM dispatch WHERE dispatch_id = ANY($1::uuid[]) AND state = 'pending'
"""


async def add(raw: asyncpg.Connection, account_id: UUID, keys: Collection[str]) -> None:
    await raw.execute(_ADD, account_id, sorted(keys))


async def remove(raw: asyncpg.Connection, account_id: UUID, keys: Collection[str]) -> None:
    await raw.execute(_REMOVE, account_id, list(keys))


async def skip_pending(
    connection: AsyncConnection,
    raw: asyncpg.Connection,
    people: Sequence[tuple[UUID, str]],
    definitions: Definitions,
    stage: Stage,
) -> None:
    """Locks lanes, then campaigns, then dispatches (see lanes.py)."""
    campaigns_of: dict[UUID, list[Row]] = {}
    for row in await raw.fetch(_CAMPAIGNS, list({account for account, _ in people})):
        campaigns_of.setdefault(row["account_id"], []).append(row)
    derived = [
        ids.dispatch_id(ids.recipient_id(row["campaign_id"], key), step)
        for account, key in people
        for row in campaigns_of.get(account, ())
        for step in range(row["steps"])
    ]
    pending = await raw.fetch(_PENDING, derived)
    if not pending:
        return
    await lanes.lock(raw, {row["instance_id"] for row in pending})
    campaigns = {row["campaign_id"] for row in pending}
    await lock_shared(raw, definitions, campaigns)
    rows = await dispatches.skip(raw, {row["dispatch_id"]: "opted_out" for row in pending})
    now: datetime = await raw.fetchval("SELECT statement_timestamp()")
    await report_rows(connection, rows, now)
    stage.maybe_drained(campaigns)
