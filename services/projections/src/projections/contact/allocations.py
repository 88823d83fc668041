"""Which instance a contact is bound to: the newest word wins, the greater event id where two are of one moment."""

from collections.abc import Iterable
from datetime import datetime
from typing import Final, NamedTuple
from uuid import UUID

from contracts.contacts import ContactAllocated, ContactMoved
from contracts.envelope import Envelope
from projections.folding import fold, in_order, read_id


class Allocation(NamedTuple):
    account_id: UUID
    id: UUID
    instance_id: UUID
    from_instance_id: UUID | None
    recipient_key: str
    allocated_at: datetime
    event_id: UUID


def read_allocation(envelope: Envelope, event: ContactAllocated | ContactMoved) -> Allocation | None:
    if envelope.account_id is None:
        return None
    return Allocation(
        envelope.account_id,
        read_id(envelope.subject),
        event.instance_id,
        event.from_instance_id if isinstance(event, ContactMoved) else None,
        event.recipient_key,
        envelope.time,
        envelope.id,
    )


def fold_allocations(allocations: Iterable[Allocation]) -> list[Allocation]:
    return in_order(fold(allocations, lambda one, other: max(one, other, key=lambda told: told[5:])))


UPSERT: Final = """
INSERT INTO allocation AS a (account_id, id, instance_id, from_instance_id, recipient_key, allocated_at, event_id)
SELECT * FROM unnest($1::projections.given_allocation[])
ON CONFLICT (account_id, id) DO UPDATE SET
    instance_id = excluded.instance_id, from_instance_id = excluded.from_instance_id,
    recipient_key = excluded.recipient_key, allocated_at = excluded.allocated_at, event_id = excluded.event_id
WHERE (excluded.allocated_at, excluded.event_id) > (a.allocated_at, a.event_id)
"""
