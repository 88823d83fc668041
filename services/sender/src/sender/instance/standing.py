"""What a provider says of the account behind a number: the last word holds, and its end frees the number by itself."""

from datetime import datetime
from typing import Any, assert_never
from uuid import UUID

from sqlalchemy.ext.asyncio import AsyncConnection

from chassis.database import driver
from chassis.outbox import append
from chassis.telemetry import log
from contracts.envelope import Envelope
from contracts.instances import AccountStandingChanged, BreakerClosed, BreakerOpened
from sender.instance import warming
from sender.instance.rests import STOPPED, health
from sender.instance.rules import Rests, restrict
from sender.instance.stops import CLEAR, STOP
from sender.instance.warm_up import Policy

RESTRICTED = "account_restricted"
DISABLED = "account_disabled"
WORDS = [RESTRICTED, DISABLED]

# Webhooks are repeated for days and come in any order: an older word than the last changes nothing. Locks the number.
_HEAR = """
UPDATE instance SET account_word_at = $2
WHERE instance_id = $1 AND (account_word_at IS NULL OR account_word_at < $2)
RETURNING account_id, strikes, rest_until, resting, stopped_reason
"""
# What the word before had begun; the sweep of rests tells that this one ended.
_LIFT_REST = """
UPDATE instance SET rest_until = clock_timestamp(), revision = revision + 1
WHERE instance_id = $1 AND resting AND rest_reason = ANY($2::text[])
"""
_REST = """
UPDATE instance SET rest_reason = $2, rest_until = $3, resting = true, revision = revision + 1 WHERE instance_id = $1
"""


async def heed(connection: AsyncConnection, envelope: Envelope, event: AccountStandingChanged, policy: Policy) -> None:
    """In the transaction of the event's offset."""
    raw, instance_id, now = await driver(connection), UUID(envelope.subject), envelope.time
    row = await raw.fetchrow(_HEAR, instance_id, event.at)
    if row is None:
        return
    log.warning("account_standing", instance_id=str(instance_id), standing=event.standing, reason=event.reason)
    match event.standing:
        case "warned":
            await warming.slow(connection, instance_id, "account_warned", now, policy)
        case "good":
            await raw.execute(_LIFT_REST, instance_id, WORDS)
            await _lift(connection, instance_id, row, event.at, envelope)
        case "restricted" if event.until is not None:
            await _lift(connection, instance_id, row, event.at, envelope)
            if event.until > now:
                await _rest(connection, instance_id, row, event, envelope)
        case "restricted":
            await _stop(connection, instance_id, RESTRICTED, event.at, envelope)
        case "disabled":
            await _stop(connection, instance_id, DISABLED, event.at, envelope)
        case _:
            assert_never(event.standing)


async def _lift(connection: AsyncConnection, instance_id: UUID, row: Any, at: datetime, cause: Envelope) -> None:
    if row["stopped_reason"] not in WORDS:
        return
    await (await driver(connection)).execute(CLEAR, instance_id, at)
    if not row["resting"]:
        closed = health(instance_id, row["account_id"], BreakerClosed(at=cause.time), cause.time)
        await append(connection, [closed])


async def _stop(connection: AsyncConnection, instance_id: UUID, reason: str, at: datetime, cause: Envelope) -> None:
    changed = await (await driver(connection)).fetchrow(STOP, instance_id, reason, at)
    if changed is not None and cause.account_id is not None:
        STOPPED.labels(reason=reason).inc()
        opened = BreakerOpened(reason=reason, until=None, at=cause.time)
        await append(connection, [health(instance_id, cause.account_id, opened, cause.time)])


async def _rest(
    connection: AsyncConnection, instance_id: UUID, row: Any, event: AccountStandingChanged, cause: Envelope
) -> None:
    """Beside the number's own rests: the longer one holds, and keeps its reason."""
    assert event.until is not None
    before = Rests(row["strikes"], row["rest_until"] if row["resting"] else None)
    after = restrict(before, event.until)
    if after.until == before.until:
        return
    await (await driver(connection)).execute(_REST, instance_id, RESTRICTED, after.until)
    STOPPED.labels(reason=RESTRICTED).inc()
    opened = BreakerOpened(reason=RESTRICTED, until=after.until, at=cause.time)
    await append(connection, [health(instance_id, row["account_id"], opened, cause.time)])
