"""One row per message, upserted from every side in any order: what we sent, what came, what the provider reported.

Delivery is a lattice (the highest wins), a failure is evidence beside it; of two descriptions of one message the one
with the smallest event id wins. A status may come before the send: `dispatch_id` joins when MessageSent is here.
"""

from collections.abc import Iterable
from datetime import datetime
from typing import Any, Final, NamedTuple
from uuid import UUID

import orjson

from contracts.conversations import MessageDeleted, MessageEdited, MessageReceived
from contracts.envelope import Envelope
from contracts.messages import MessageResolved, MessageSent
from contracts.statuses import StatusReceived
from projections.folding import Key, fold, in_order, least, read_id

ACCEPTED: Final = 1
LEVELS: Final[dict[str, int]] = {"failed": 0, "sent": 2, "delivered": 3, "read": 4, "played": 5}
DELIVERED: Final = 3
READ: Final = 4


class SentPart(NamedTuple):
    account_id: UUID
    id: UUID
    instance_id: UUID
    provider_message_id: str
    send_event: UUID
    sent_chat_id: UUID | None
    dispatch_id: UUID
    campaign_id: UUID | None
    recipient_id: UUID | None
    contact_id: UUID | None
    step: int
    attempt: int
    phone: str | None
    content: str | None
    sent_at: datetime


class StatusPart(NamedTuple):
    account_id: UUID
    id: UUID
    instance_id: UUID
    provider_message_id: str
    delivery: int
    delivered_at: datetime | None
    read_at: datetime | None
    failed_at: datetime | None
    failure: str
    code: str
    detail: str
    billable: bool | None
    category: str | None


class ReceivedPart(NamedTuple):
    account_id: UUID
    id: UUID
    instance_id: UUID
    provider_message_id: str
    receive_event: UUID
    received_chat_id: UUID
    direction: str
    origin: str
    type: str
    text: str
    media: str | None
    reply_to: str | None
    sender: str | None
    profile_name: str | None
    details: str
    message_at: datetime
    received_at: datetime
    delivery: int


class EditPart(NamedTuple):
    account_id: UUID
    id: UUID
    instance_id: UUID
    provider_message_id: str
    edited_at: datetime | None
    edited_text: str | None
    deleted_at: datetime | None


# The other side's columns of a message that was seen from one side: what a row that nobody reported on has.
_NOT_SENT: Final = (None,) * (len(SentPart._fields) - 4)
_NOT_REPORTED: Final = (ACCEPTED, None, None, None, "", "", "", None, None)


def read_sent(envelope: Envelope, event: MessageSent | MessageResolved) -> SentPart | None:
    """None for a resolution that names no message."""
    if envelope.account_id is None or event.message_id is None or event.provider_message_id is None:
        return None
    return SentPart(
        envelope.account_id,
        event.message_id,
        event.instance_id,
        event.provider_message_id,
        envelope.id,
        event.chat_id,
        read_id(envelope.subject),
        event.campaign_id,
        event.recipient_id,
        event.contact_id,
        event.step,
        event.attempt,
        None if event.address is None else event.address.phone,
        None if event.content is None else event.content.model_dump_json(exclude_defaults=True),
        event.sent_at or envelope.time,
    )


def read_received(envelope: Envelope, event: MessageReceived) -> ReceivedPart | None:
    if envelope.account_id is None:
        return None
    return ReceivedPart(
        envelope.account_id,
        event.message_id,
        event.instance_id,
        event.provider_message_id,
        envelope.id,
        read_id(envelope.subject),
        event.direction,
        event.origin,
        event.type,
        event.text,
        None if event.media is None else event.media.model_dump_json(),
        event.reply_to,
        None if event.sender is None else event.sender.model_dump_json(exclude_none=True),
        event.profile_name,
        orjson.dumps(event.details).decode(),
        event.message_at,
        event.received_at,
        ACCEPTED if event.direction == "out" else 0,
    )


def read_status(envelope: Envelope, event: StatusReceived) -> StatusPart | None:
    """Read says delivered too: its time bounds both."""
    if envelope.account_id is None:
        return None
    level = LEVELS[event.status]
    failed = event.status == "failed"
    return StatusPart(
        envelope.account_id,
        read_id(envelope.subject),
        event.instance_id,
        event.provider_message_id,
        level,
        event.at if level >= DELIVERED else None,
        event.at if level >= READ else None,
        event.at if failed else None,
        (event.failure or "") if failed else "",
        (event.code or "") if failed else "",
        event.detail if failed else "",
        event.billable,
        event.category,
    )


def read_edit(envelope: Envelope, event: MessageEdited | MessageDeleted) -> EditPart | None:
    if envelope.account_id is None:
        return None
    place = (envelope.account_id, event.message_id, event.instance_id, event.provider_message_id)
    if isinstance(event, MessageEdited):
        return EditPart(*place, event.edited_at, event.text, None)
    return EditPart(*place, None, None, event.deleted_at)


def join_statuses(one: StatusPart, other: StatusPart) -> StatusPart:
    """The least upper bound: highest delivery, earliest times, the first failure. Commutative and idempotent."""
    failure = min(one, other, key=_failure_order)
    return StatusPart(
        *one[:4],
        max(one.delivery, other.delivery),
        earliest(one.delivered_at, other.delivered_at),
        earliest(one.read_at, other.read_at),
        *failure[7:11],
        billable=other.billable if one.billable is None else one.billable or bool(other.billable),
        category=max(one.category or "", other.category or "") or None,
    )


def earliest(one: datetime | None, other: datetime | None) -> datetime | None:
    if one is None or other is None:
        return one or other
    return min(one, other)


def join_edits(one: EditPart, other: EditPart) -> EditPart:
    """The newest text, the earliest deletion."""
    newest = max(one, other, key=lambda edit: (edit.edited_at is not None, edit.edited_at or 0, edit.edited_text or ""))
    return EditPart(*one[:4], newest.edited_at, newest.edited_text, earliest(one.deleted_at, other.deleted_at))


def fold_sides(sent: Iterable[SentPart], statuses: Iterable[StatusPart]) -> list[tuple[Any, ...]]:
    """What is known of our own sends from both sides, a row each: the columns of message_rows.OUTBOUND."""
    sends: dict[Key, SentPart] = fold(sent, least(SentPart._fields.index("send_event")))
    reports: dict[Key, StatusPart] = fold(statuses, join_statuses)
    sides: dict[Key, tuple[Any, ...]] = {key: part + _NOT_REPORTED for key, part in sends.items()}
    for key, report in reports.items():
        part = sends.get(key)
        delivery = max(report.delivery, 0 if part is None else ACCEPTED)
        sides[key] = (*(report[:4] + _NOT_SENT if part is None else part), delivery, *report[5:])
    return in_order(sides)


def fold_received(parts: Iterable[ReceivedPart]) -> list[ReceivedPart]:
    return in_order(fold(parts, least(ReceivedPart._fields.index("receive_event"))))


def fold_edits(parts: Iterable[EditPart]) -> list[EditPart]:
    return in_order(fold(parts, join_edits))


def _failure_order(part: StatusPart) -> tuple[Any, ...]:
    return (part.failed_at is None, part.failed_at or 0, part.failure, part.code, part.detail)
