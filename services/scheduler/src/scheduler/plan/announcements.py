"""What a page of a plan tells the others: DispatchesChanged and ContactAllocated, a hundred thousand at a time.

Written as the bytes of the events without building an event for each row: the tests read them back through contracts.
"""

from collections.abc import Iterable, Sequence
from datetime import datetime
from uuid import UUID

import orjson

from chassis.kafka import Encoded
from contracts import ids
from contracts.contacts import ContactAllocated
from contracts.envelope import Envelope, Headers, write_headers
from contracts.progress import DispatchesChanged
from contracts.topics import ALLOCATIONS, CAMPAIGN_PROGRESS, SCHEDULER
from scheduler.dispatch.reports import CHANGES_MAX
from scheduler.plan.assignment import PlannedDispatch
from scheduler.plan.bindings import Binding
from scheduler.rows import Row

Change = dict[str, object]


def planned(one: PlannedDispatch) -> Change:
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


def stored(row: Row) -> Change:
    """The same of a dispatch's row, as it is by now."""
    return {
        "dispatch_id": str(row["dispatch_id"]),
        "recipient_id": str(row["recipient_id"]),
        "step": row["step"],
        "instance_id": str(row["instance_id"]),
        "version": row["version"],
        "attempt": row["attempt"],
        "release": row["release"],
        "state": row["state"],
        "reason": row["reason"],
        "due_at": row["due_at"],
    }


def changes(campaign_id: UUID, account_id: UUID, told: Sequence[Change], at: datetime) -> list[Encoded]:
    """One record per CHANGES_MAX dispatches."""
    key = str(campaign_id)
    records: list[Encoded] = []
    for start in range(0, len(told), CHANGES_MAX):
        some = told[start : start + CHANGES_MAX]
        event_id = ids.event_id(SCHEDULER, key, f"changed:{some[0]['dispatch_id']}:{some[0]['version']}")
        headers = write_headers(_envelope(DispatchesChanged.__name__, event_id, key, account_id, at))
        records.append(Encoded(CAMPAIGN_PROGRESS.name, key.encode(), orjson.dumps({"changes": some}), headers))
    return records


def allocations(account_id: UUID, bound: Iterable[Binding], at: datetime) -> list[Encoded]:
    """One record per contact. The envelope is written once; each record's own headers are its id and its subject."""
    headers = write_headers(_envelope(ContactAllocated.__name__, account_id, "", account_id, at))
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


def _envelope(event_type: str, event_id: UUID, subject: str, account_id: UUID, at: datetime) -> Envelope:
    return Envelope(
        id=event_id, type=event_type, version=1, source=SCHEDULER, subject=subject, time=at, account_id=account_id
    )
