"""What a statement says about a row before and after it (RETURNING OLD/NEW): the ground of every counter."""

from collections.abc import Sequence
from datetime import datetime
from typing import Any, NamedTuple
from uuid import UUID


class MessageSide(NamedTuple):
    instance_id: UUID | None
    campaign_id: UUID | None
    sent_at: datetime | None
    delivery: int
    delivered_at: datetime | None
    read_at: datetime | None
    failed_at: datetime | None
    at: datetime | None
    direction: str | None


class MessageMove(NamedTuple):
    account_id: UUID
    id: UUID
    dispatch_id: UUID | None
    recipient_id: UUID | None
    step: int | None
    conversation_id: UUID | None
    new: MessageSide
    old: MessageSide


class DispatchSide(NamedTuple):
    subject_id: UUID | None
    state: str | None
    changed_at: datetime | None
    delivery: int


class DispatchMove(NamedTuple):
    account_id: UUID
    recipient_id: UUID | None
    new: DispatchSide
    old: DispatchSide


def message_move(row: Sequence[Any]) -> MessageMove:
    """From message_rows' RETURNING, by position. A row that did not exist has delivery 0."""
    old = MessageSide(row[15], row[16], row[17], row[18] or 0, row[19], row[20], row[21], row[22], row[23])
    new = MessageSide(row[2], row[4], row[7], row[8], row[9], row[10], row[11], row[12], row[13])
    return MessageMove(row[0], row[1], row[3], row[5], row[6], row[14], new, old)


def dispatch_move(row: Sequence[Any]) -> DispatchMove:
    """From dispatches' RETURNING, by position."""
    old = DispatchSide(row[6], row[7], row[8], row[9] or 0)
    return DispatchMove(row[0], row[1], DispatchSide(row[2], row[3], row[4], row[5]), old)
