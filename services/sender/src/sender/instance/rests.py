"""Rests of numbers in PostgreSQL: begun by what is heard of them, told with reason and end."""

from collections.abc import Mapping, Sequence
from datetime import datetime, timedelta
from typing import NamedTuple
from uuid import UUID

import asyncpg
from sqlalchemy.ext.asyncio import AsyncConnection

from chassis.database import driver
from chassis.kafka import Outgoing, outgoing
from chassis.outbox import append
from chassis.telemetry import counter, log
from contracts.instances import BreakerOpened, InstanceHealthEvent
from contracts.topics import INSTANCE_HEALTH, SENDER
from sender.instance.rules import Policy, Reports, Rests, rest

STOPPED = counter("pombo_instances_stopped_total", "Times that a number was stopped or sent to rest.", ["reason"])
SLOT_S = 300  # reports are counted in slots of this length

# Locks the number.
_STRIKES = """
SELECT account_id, strikes, rest_until FROM instance WHERE instance_id = $1 FOR NO KEY UPDATE
"""
_REST = """
UPDATE instance SET rest_reason = $2, rest_until = $3, resting = true, strikes = $4, revision = revision + 1
WHERE instance_id = $1
"""
_COUNT = """
INSERT INTO instance_report AS r (instance_id, account_id, slot, sent, delivered, errors, answers)
SELECT * FROM unnest($1::uuid[], $2::uuid[], $3::timestamptz[], $4::int[], $5::int[], $6::int[], $7::int[])
  AS k(instance_id, account_id, slot, sent, delivered, errors, answers) ORDER BY instance_id, slot
ON CONFLICT (instance_id, slot) DO UPDATE
SET sent = r.sent + excluded.sent, delivered = r.delivered + excluded.delivered, errors = r.errors + excluded.errors,
    answers = r.answers + excluded.answers
"""
# Since its last rest: what led to that one leads to no other.
_WITHIN = """
SELECT r.instance_id, sum(r.sent)::int AS sent, sum(r.delivered)::int AS delivered, sum(r.errors)::int AS errors
FROM instance_report r JOIN instance i ON i.instance_id = r.instance_id
WHERE r.instance_id = ANY($1::uuid[]) AND r.slot > greatest($2, coalesce(i.rest_until, '-infinity'))
GROUP BY 1 ORDER BY 1
"""


class Slot(NamedTuple):
    instance_id: UUID
    account_id: UUID
    at: datetime


async def begin_rest(
    connection: AsyncConnection,
    instance_id: UUID,
    reason: str,
    now: datetime,
    policy: Policy,
    at_least: datetime | None = None,
    happened_at: datetime | None = None,
) -> bool:
    """Whether a rest began: one that is under way is not begun again."""
    raw = await driver(connection)
    row = await raw.fetchrow(_STRIKES, instance_id)
    if row is None:
        return False
    begun = rest(Rests(row["strikes"], row["rest_until"]), now, policy, at_least, happened_at)
    if begun is None:
        return False
    await raw.execute(_REST, instance_id, reason, begun.until, begun.number)
    event = BreakerOpened(reason=reason, until=begun.until, at=now)
    await append(connection, [health(instance_id, row["account_id"], event, now)])
    STOPPED.labels(reason=reason).inc()
    log.warning("instance_rests", instance_id=str(instance_id), reason=reason, until=str(begun.until))
    return True


async def count(raw: asyncpg.Connection, reports: Mapping[Slot, Reports]) -> None:
    slots = list(reports)
    if slots:
        await raw.execute(_COUNT, *map(list, zip(*((*slot, *reports[slot]) for slot in slots), strict=True)))


async def count_within(
    raw: asyncpg.Connection, instance_ids: Sequence[UUID], now: datetime, policy: Policy
) -> dict[UUID, Reports]:
    since = slot_of(now - timedelta(seconds=policy.window_s))
    rows = await raw.fetch(_WITHIN, list(instance_ids), since)
    return {row["instance_id"]: Reports(row["sent"], row["delivered"], row["errors"]) for row in rows}


def slot_of(at: datetime) -> datetime:
    return at - timedelta(seconds=at.timestamp() % SLOT_S)


def health(instance_id: UUID, account_id: UUID, event: InstanceHealthEvent, now: datetime) -> Outgoing:
    return outgoing(INSTANCE_HEALTH, str(instance_id), event, source=SENDER, account_id=account_id, time=now)
