"""Which instance a contact is bound to: the newest word wins, the greater event id where two are of one moment."""

from collections.abc import Iterable, Iterator
from datetime import datetime
from typing import Final, NamedTuple
from uuid import UUID

from contracts.contacts import AllocationEvent, ContactMoved, ContactsAllocated
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


def read_allocations(envelope: Envelope, event: AllocationEvent) -> Iterator[Allocation]:
    account_id, at, event_id = envelope.account_id, envelope.time, envelope.id
    if account_id is None:
        return
    if isinstance(event, ContactsAllocated):
        for one in event.contacts:
            yield Allocation(account_id, one.contact_id, event.instance_id, None, one.recipient_key, at, event_id)
        return
    moved_from = event.from_instance_id if isinstance(event, ContactMoved) else None
    contact_id = read_id(envelope.subject)
    yield Allocation(account_id, contact_id, event.instance_id, moved_from, event.recipient_key, at, event_id)


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
