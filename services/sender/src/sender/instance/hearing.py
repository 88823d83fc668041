"""What gateways and providers say of a number, late, in any order and again: of each kind the latest word holds."""

from uuid import UUID

import asyncpg

from chassis.database import hear_latest
from contracts.envelope import Envelope
from contracts.instances import InstanceHealthEvent, kinds_of


async def is_newest(raw: asyncpg.Connection, envelope: Envelope, event: InstanceHealthEvent) -> bool:
    """Notes the word; False if a later one of its kind was heard. In the transaction of the event's offset."""
    at = min(event.at, envelope.time)  # a gateway's clock may be ahead
    instance_id = UUID(envelope.subject)
    return bool(await hear_latest(raw, "instance", "instance_id = $3", kinds_of(event), at, instance_id))
