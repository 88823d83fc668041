"""What a page of a plan tells the others: DispatchesChanged and ContactAllocated, a hundred thousand at a time."""

from collections.abc import Iterable
from datetime import datetime
from uuid import UUID

import orjson

from chassis.kafka import Encoded
from contracts import ids
from contracts.contacts import ContactAllocated
from contracts.envelope import Envelope, Headers, write_headers
from contracts.topics import ALLOCATIONS, SCHEDULER
from scheduler.dispatch.reports import Told
from scheduler.plan.assignment import PlannedDispatch
from scheduler.plan.bindings import Binding


def planned(one: PlannedDispatch) -> Told:
    return {
        "dispatch_id": str(one.dispatch_id),
        "recipient_id": str(one.recipient_id),
        "step": one.step,
        "instance_id": str(one.instance_id),
        "version": 1,
        "attempt": 1,
        "release": 0,
        "state": one.state,
        "reason": one.reason,
        "due_at": None,
    }


def allocations(account_id: UUID, bound: Iterable[Binding], at: datetime) -> list[Encoded]:
    """One record per contact. The envelope is written once; each record's own headers are its id and its subject."""
    envelope = Envelope(
        id=account_id,
        type=ContactAllocated.__name__,
        version=ContactAllocated.VERSION,
        source=SCHEDULER,
        subject="",
        time=at,
        account_id=account_id,
    )
    headers = write_headers(envelope)
    shared: Headers = [(name, value) for name, value in headers if name not in ("ce_id", "ce_subject")]
    topic, event_id = ALLOCATIONS.name, ids.event_id
    names: dict[UUID, str] = {}
    records: list[Encoded] = []
    for recipient_key, instance_id, contact_id in bound:
        instance = names.get(instance_id) or names.setdefault(instance_id, str(instance_id))
        contact = str(contact_id)
        own = str(event_id(SCHEDULER, contact, f"allocated:{instance}")).encode()
        subject = contact.encode()
        value = orjson.dumps({"instance_id": instance, "recipient_key": recipient_key})
        records.append(Encoded(topic, subject, value, [*shared, ("ce_id", own), ("ce_subject", subject)]))
    return records
