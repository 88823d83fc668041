"""Rests of numbers in PostgreSQL: begun by what is heard of them, told with reason and end."""

from datetime import datetime
from uuid import UUID

from sqlalchemy.ext.asyncio import AsyncConnection

from chassis.database import driver
from chassis.kafka import Outgoing, outgoing
from chassis.outbox import append
from chassis.telemetry import counter, log
from contracts.instances import BreakerOpened, InstanceHealthEvent
from contracts.topics import INSTANCE_HEALTH, SENDER
from sender.instance.rules import Policy, Rests, rest

STOPPED = counter("pombo_instances_stopped_total", "Times that a number was stopped or sent to rest.", ["reason"])

# Locks the number.
_STRIKES = """
SELECT account_id, strikes, rest_until FROM instance WHERE instance_id = $1 FOR NO KEY UPDATE
"""
_REST = """
UPDATE instance SET rest_reason = $2, rest_until = $3, resting = true, strikes = $4, revision = revision + 1
WHERE instance_id = $1
"""


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


def health(instance_id: UUID, account_id: UUID, event: InstanceHealthEvent, now: datetime) -> Outgoing:
    return outgoing(INSTANCE_HEALTH, str(instance_id), event, source=SENDER, account_id=account_id, time=now)
