"""People who had themselves erased: nothing more goes to them, and the plan forgets who they were.

What is out keeps its address until it has its outcome: the upkeep removes it then. Suppression stays.
"""

from collections import Counter
from collections.abc import Iterable
from datetime import datetime
from uuid import UUID

import asyncpg
from sqlalchemy.ext.asyncio import AsyncConnection

from chassis.database import driver
from contracts import ids
from scheduler.campaign.runs import Definitions, lock_shared
from scheduler.dispatch import dispatches
from scheduler.dispatch.reports import report_rows
from scheduler.lane import lanes
from scheduler.order import aliases
from scheduler.plan import bindings
from scheduler.signals import Stage

ERASED = "erased"
_CAMPAIGNS = """
SELECT campaign_id, coalesce(jsonb_array_length(definition -> 'steps'), 0) AS steps FROM campaign
WHERE account_id = $1 AND status <> 'deleted'
"""
_MARK = """
UPDATE recipient SET erased = true, name = '', custom_fields = '{}' WHERE recipient_id = ANY($1::uuid[])
RETURNING recipient_id, campaign_id
"""
_PLANNED = "SELECT dispatch_id, campaign_id, instance_id, state FROM dispatch WHERE dispatch_id = ANY($1::uuid[])"
_NO_RETRY = "UPDATE dispatch SET retryable = false WHERE dispatch_id = ANY($1::uuid[]) AND state || '' = 'failed'"
# Index recipient_erased.
_ADDRESSED = """
SELECT r.recipient_id, coalesce(jsonb_array_length(c.definition -> 'steps'), 0) AS steps
FROM recipient r JOIN campaign c USING (campaign_id, account_id) WHERE r.erased AND r.phone <> '' LIMIT 1000
"""
_OUT = """
SELECT recipient_id FROM dispatch WHERE dispatch_id = ANY($1::uuid[]) AND state || '' IN ('pending', 'released')
"""
_BLANK = "UPDATE recipient SET phone = '', recipient_key = '' WHERE recipient_id = ANY($1::uuid[]) AND erased"
_UNBIND = """
DELETE FROM binding WHERE account_id = $1 AND recipient_key = ANY($2::text[]) RETURNING instance_id, counted
"""
_BOUND = "SELECT DISTINCT instance_id FROM binding WHERE account_id = $1 AND recipient_key = ANY($2::text[])"
# Answers of people: what waits is cancelled, what was said is removed. Indexes dispatch_people and dispatch_answered.
_ANSWERS = """
WITH ended AS (
    UPDATE dispatch SET state = 'cancelled', reason = 'erased', waits = NULL, due_at = NULL, version = version + 1,
        ended_at = statement_timestamp()
    WHERE campaign_id IS NULL AND state IN ('pending', 'released') AND state = 'pending' AND account_id = $1
        AND contact_id = $2 RETURNING dispatch_id
), final AS (
    SELECT dispatch_id FROM ended UNION ALL SELECT dispatch_id FROM dispatch
    WHERE campaign_id IS NULL AND ended_at IS NOT NULL AND account_id = $1 AND contact_id = $2
)
DELETE FROM answer a USING final WHERE a.dispatch_id = final.dispatch_id AND a.account_id = $1
"""


async def erase(
    connection: AsyncConnection, account_id: UUID, contact_id: UUID, key: str, definitions: Definitions, stage: Stage
) -> None:
    """Locks lanes, campaigns, dispatches, then occupancy and bindings (see lanes.py, bindings.py)."""
    raw = await driver(connection)
    keys = (await aliases.all_names(raw, account_id, [key]))[key] if key else set()
    steps_of = {row["campaign_id"]: row["steps"] for row in await raw.fetch(_CAMPAIGNS, account_id)}
    derived = [ids.recipient_id(campaign, name) for campaign in steps_of for name in keys]
    recipients = await raw.fetch(_MARK, derived)
    dispatch_ids = [
        ids.dispatch_id(row["recipient_id"], step) for row in recipients for step in range(steps_of[row["campaign_id"]])
    ]
    planned = await raw.fetch(_PLANNED, dispatch_ids)
    pending = [row for row in planned if row["state"] == "pending"]
    await lanes.lock(raw, {row["instance_id"] for row in pending})
    await lock_shared(raw, definitions, {row["campaign_id"] for row in planned})
    rows = await dispatches.skip(raw, {row["dispatch_id"]: ERASED for row in pending})
    await raw.execute(_NO_RETRY, dispatch_ids)
    now: datetime = await raw.fetchval("SELECT statement_timestamp()")
    await report_rows(connection, rows, now)
    await raw.execute(_ANSWERS, account_id, contact_id)
    await _unbind(raw, account_id, keys)
    await aliases.forget(raw, account_id, keys)
    await forget_addresses(raw)
    stage.maybe_drained(row["campaign_id"] for row in rows)


async def _unbind(raw: asyncpg.Connection, account_id: UUID, keys: Iterable[str]) -> None:
    names = list(keys)
    bound = [row["instance_id"] for row in await raw.fetch(_BOUND, account_id, names)]
    await bindings.lock_counts(raw, account_id, bound)
    freed = Counter(row["instance_id"] for row in await raw.fetch(_UNBIND, account_id, names) if row["counted"])
    await bindings.occupy(raw, {instance_id: -count for instance_id, count in freed.items()})


async def forget_addresses(raw: asyncpg.Connection) -> int:
    """Of erased recipients who have nothing out any more."""
    addressed = await raw.fetch(_ADDRESSED)
    if not addressed:
        return 0
    derived = [ids.dispatch_id(row["recipient_id"], step) for row in addressed for step in range(row["steps"])]
    out = {row["recipient_id"] for row in await raw.fetch(_OUT, derived)}
    done = [row["recipient_id"] for row in addressed if row["recipient_id"] not in out]
    await raw.execute(_BLANK, done)
    return len(done)
