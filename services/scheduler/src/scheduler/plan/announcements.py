"""What a page of a plan tells the others: DispatchesChanged and ContactsAllocated."""

from collections.abc import Iterable, Sequence
from datetime import datetime
from uuid import UUID

import orjson

from chassis.kafka import Encoded
from contracts import ids
from contracts.contacts import ContactsAllocated
from contracts.envelope import Envelope, write_headers
from contracts.topics import ALLOCATIONS, SCHEDULER
from scheduler.dispatch.reports import Told
from scheduler.plan.assignment import PlannedDispatch
from scheduler.plan.bindings import Binding

ALLOCATIONS_MAX = 500


def planned(one: PlannedDispatch) -> Told:
    """What it does not tell has its default in the contract: most of a plan's dispatches wait for nothing."""
    told: Told = {
        "dispatch_id": str(one.dispatch_id),
        "recipient_id": str(one.recipient_id),
        "step": one.step,
        "instance_id": str(one.instance_id),
        "version": 1,
        "attempt": 1,
        "release": 0,
        "state": one.state,
    }
    if one.reason is not None:
        told["reason"] = one.reason
    return told


def allocations(account_id: UUID, bound: Iterable[Binding], at: datetime) -> list[Encoded]:
    """By instance, at most ALLOCATIONS_MAX contacts a record: the same ones give the same records to the byte."""
    contacts: dict[UUID, list[tuple[str, UUID]]] = {}
    for recipient_key, instance_id, contact_id in sorted(bound):
        contacts.setdefault(instance_id, []).append((recipient_key, contact_id))
    return [
        _allocation(account_id, instance_id, some[start : start + ALLOCATIONS_MAX], at)
        for instance_id, some in contacts.items()
        for start in range(0, len(some), ALLOCATIONS_MAX)
    ]


def _allocation(account_id: UUID, instance_id: UUID, some: Sequence[tuple[str, UUID]], at: datetime) -> Encoded:
    key = str(instance_id)
    envelope = Envelope(
        id=ids.event_id(SCHEDULER, key, f"allocated:{some[0][1]}:{at.isoformat()}"),
        type=ContactsAllocated.__name__,
        version=ContactsAllocated.VERSION,
        source=SCHEDULER,
        subject=key,
        time=at,
        account_id=account_id,
    )
    contacts = [{"contact_id": str(contact_id), "recipient_key": name} for name, contact_id in some]
    value = orjson.dumps({"instance_id": key, "contacts": contacts})
    return Encoded(ALLOCATIONS.name, key.encode(), value, write_headers(envelope))
