"""What stops a number and what lets it go on: its configuration, and what its gateway says of its session."""

from typing import assert_never
from uuid import UUID

from sqlalchemy.ext.asyncio import AsyncConnection

from chassis.database import driver
from chassis.kafka import outgoing
from chassis.outbox import append
from contracts.envelope import Envelope
from contracts.ids import event_id
from contracts.instances import (
    BreakerClosed,
    BreakerOpened,
    InstanceBanned,
    InstanceConfigured,
    InstanceConnected,
    InstanceDisconnected,
)
from contracts.topics import INSTANCE_HEALTH, SENDER
from sender.instance.hearing import is_newest
from sender.instance.instances import WEB_KINDS

CONNECTING = "connecting"

# A newer configuration clears what had stopped the instance: a person has looked at it. It ends a rest only where the
# person asked for a connection or set the number from paused to active (the sweep tells that it ended).
# A session that was asked for ($4) stands until its gateway says that it is connected: a message sent while the code
# waits to be scanned hangs.
_CONFIGURE = """
INSERT INTO instance AS i (instance_id, account_id, config) VALUES ($1, $2, $3::jsonb)
ON CONFLICT (instance_id) DO UPDATE
SET config = excluded.config, revision = i.revision + 1, account_id = excluded.account_id,
    stopped_reason = CASE WHEN $4 AND (i.stopped_reason = 'connecting'
        OR (excluded.config ->> 'wanted_version')::int > (i.config ->> 'wanted_version')::int) THEN 'connecting'
        WHEN i.config - $5::text[] = excluded.config - $5::text[] THEN i.stopped_reason END,
    stopped_at = CASE WHEN i.config - $5::text[] = excluded.config - $5::text[] THEN i.stopped_at END,
    cleared_at = CASE WHEN i.stopped_reason IS NOT NULL AND i.config - $5::text[] <> excluded.config - $5::text[]
        THEN clock_timestamp() ELSE i.cleared_at END,
    rest_until = CASE WHEN i.resting AND (
        (excluded.config ->> 'wanted_version')::int > (i.config ->> 'wanted_version')::int
        OR i.config ->> 'status' = 'paused' AND excluded.config ->> 'status' = 'active')
        THEN clock_timestamp() ELSE i.rest_until END,
    tries = 0, tried_at = NULL
WHERE i.config <> excluded.config
RETURNING old.stopped_reason AS before, new.stopped_reason AS after, new.resting
"""
# What changes in a configuration without a person: the provider told it.
TOLD = ["limits", "limits_by_hand", "tier", "phone_number"]
# Of something that happened at $3: what is told again after somebody has cleared it stops nothing.
STOP = """
UPDATE instance SET stopped_reason = $2, stopped_at = now(), revision = revision + 1
WHERE instance_id = $1 AND stopped_reason IS DISTINCT FROM $2 AND (cleared_at IS NULL OR cleared_at <= $3)
RETURNING old.stopped_reason AS before, new.stopped_reason AS after, new.resting
"""
CLEAR = """
UPDATE instance
SET stopped_reason = NULL, stopped_at = NULL, cleared_at = greatest(cleared_at, $2), revision = revision + 1
WHERE instance_id = $1 AND stopped_reason IS NOT NULL
RETURNING old.stopped_reason AS before, new.stopped_reason AS after, new.resting
"""


async def heed(
    connection: AsyncConnection,
    envelope: Envelope,
    event: InstanceConfigured | InstanceConnected | InstanceDisconnected | InstanceBanned,
) -> None:
    """In the transaction of the event's offset. What changes by it is told on instance-health."""
    raw, instance_id = await driver(connection), UUID(envelope.subject)
    if not isinstance(event, InstanceConfigured) and not await is_newest(raw, envelope, event):
        return
    match event:
        case InstanceConfigured():
            if envelope.account_id is None:
                return
            pairing = event.wanted == "connected" and event.provider in WEB_KINDS
            config = event.model_dump_json()
            row = await raw.fetchrow(_CONFIGURE, instance_id, envelope.account_id, config, pairing, TOLD)
        case InstanceConnected():
            row = await raw.fetchrow(CLEAR, instance_id, event.at)
        case InstanceDisconnected():
            row = await raw.fetchrow(STOP, instance_id, "disconnected", event.at)
        case InstanceBanned():
            row = await raw.fetchrow(STOP, instance_id, "banned", event.at)
        case _:
            assert_never(event)
    if row is not None and row["before"] != row["after"] and not (row["resting"] and row["after"] is None):
        await _tell(connection, row["before"], row["after"], envelope)


async def _tell(connection: AsyncConnection, before: str | None, after: str | None, cause: Envelope) -> None:
    """Whoever waits for the number must hear that it goes on, or that it stands until its code is scanned. A ban or a
    log-out was told by the event itself."""
    told: BreakerOpened | BreakerClosed
    if after == CONNECTING:
        told = BreakerOpened(reason=CONNECTING, until=None, at=cause.time)
    elif before is not None and after is None:
        told = BreakerClosed(at=cause.time)
    else:
        return
    record = outgoing(
        INSTANCE_HEALTH,
        cause.subject,
        told,
        source=SENDER,
        account_id=cause.account_id,
        time=cause.time,
        event_id=event_id(SENDER, cause.subject, f"{after or 'lifted'}:{cause.id}"),
        causation_id=cause.id,
    )
    await append(connection, [record])
