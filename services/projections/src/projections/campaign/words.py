"""What scheduler, messages and sender say about dispatches, folded to one row for each."""

from collections.abc import Iterable, Iterator
from datetime import datetime
from typing import Any, Final, NamedTuple
from uuid import UUID

from contracts.envelope import Envelope
from contracts.ids import dispatch_id
from contracts.messages import MessageFailed
from contracts.progress import DispatchesChanged
from projections.conversation.messages import earliest
from projections.folding import Key, fold, greatest, read_id


class Change(NamedTuple):
    account_id: UUID
    id: UUID
    subject_id: UUID
    recipient_id: UUID | None
    step: int
    instance_id: UUID | None
    version: int
    attempt: int
    release: int
    state: str
    reason: str | None
    due_at: datetime | None
    changed_at: datetime
    may_duplicate: bool
    given_up: bool


class Evidence(NamedTuple):
    """What the messages of one dispatch show."""

    account_id: UUID
    id: UUID
    subject_id: UUID | None
    recipient_id: UUID | None
    step: int
    message_id: UUID
    sent_at: datetime
    delivery: int
    delivered_at: datetime | None
    read_at: datetime | None


class Failure(NamedTuple):
    """What the sender said about a failed attempt; `key` orders attempts."""

    account_id: UUID
    id: UUID
    subject_id: UUID | None
    recipient_id: UUID | None
    step: int
    key: str
    error: str


# What the columns of the others hold in a row of one of them; they change nothing.
_NOT_CHANGED: Final = (None, -1, 0, 0, None, None, None, None, False, False)
_NOT_SHOWN: Final = (None, None, 0, None, None)
_NOT_FAILED: Final = ("", None)
PLACE_ENDS: Final = Change._fields.index("version")
_WORD_ENDS: Final = len(Change._fields)
_EVIDENCE_ENDS: Final = _WORD_ENDS + len(_NOT_SHOWN)


def read_changes(envelope: Envelope, event: DispatchesChanged) -> Iterator[Change]:
    account_id = envelope.account_id
    if account_id is None or not event.changes:
        return
    subject_id, time, first = read_id(envelope.subject), envelope.time, event.changes[0]
    # A record is about one campaign or one conversation. What a person answers belongs to no recipient, and its id is
    # not derived from one.
    of_campaign = first.dispatch_id == dispatch_id(first.recipient_id, first.step)
    for change in event.changes:
        yield Change(
            account_id,
            change.dispatch_id,
            subject_id,
            change.recipient_id if of_campaign else None,
            change.step,
            change.instance_id,
            change.version,
            change.attempt,
            change.release,
            change.state,
            change.reason,
            change.due_at,
            time,
            change.may_duplicate,
            change.given_up,
        )


def read_failure(envelope: Envelope, event: MessageFailed) -> Failure | None:
    if envelope.account_id is None:
        return None
    error = ": ".join(part for part in (event.reason, event.code, event.detail) if part)
    key = f"{event.attempt:06d}|{event.release:06d}|{envelope.id}"
    return Failure(
        envelope.account_id, read_id(envelope.subject), event.campaign_id, event.recipient_id, event.step, key, error
    )


def join_evidence(one: Evidence, other: Evidence) -> Evidence:
    """Of several messages the newest is shown; delivery is the best that any reached."""
    newest = max(one, other, key=lambda seen: (seen.sent_at, seen.message_id))
    return Evidence(
        *newest[:7],
        max(one.delivery, other.delivery),
        earliest(one.delivered_at, other.delivered_at),
        earliest(one.read_at, other.read_at),
    )


class Words(NamedTuple):
    """Of one batch, of each dispatch in one of the two. `planned`: nothing but its plan is said of it. `others`: a row
    of Change, then message, sent, delivery, delivered, read of Evidence, then key and error of Failure."""

    planned: dict[Key, Change]
    others: dict[Key, tuple[Any, ...]]


def fold_words(changes: Iterable[Change], seen: Iterable[Evidence], failures: Iterable[Failure]) -> Words:
    """What scheduler, messages and sender say about each dispatch, in one row."""
    changed: dict[Key, Change] = fold(changes, greatest(Change._fields.index("version")))
    shown: dict[Key, Evidence] = fold(seen, join_evidence)
    failed: dict[Key, Failure] = fold(failures, greatest(Failure._fields.index("key")))
    words = Words({}, {})
    for key, change in changed.items():
        if _is_planned(change) and key not in shown and key not in failed:
            words.planned[key] = change
        else:
            words.others[key] = only_changed(change)
    for key, evidence in shown.items():
        known = words.others.get(key) or evidence[:5] + _NOT_CHANGED + _NOT_SHOWN + _NOT_FAILED
        words.others[key] = (*known[:_WORD_ENDS], *evidence[5:], *_NOT_FAILED)
    for key, failure in failed.items():
        known = words.others.get(key) or failure[:5] + _NOT_CHANGED + _NOT_SHOWN + _NOT_FAILED
        words.others[key] = (*known[:_EVIDENCE_ENDS], *failure[5:])
    return words


def only_changed(change: Change) -> tuple[Any, ...]:
    """The row of a dispatch of which only the scheduler speaks."""
    return change + _NOT_SHOWN + _NOT_FAILED


def _is_planned(change: Change) -> bool:
    return (
        change.version == 1
        and change.state == "pending"
        and change[PLACE_ENDS:] == (1, 1, 0, "pending", change.reason, None, change.changed_at, False, False)
    )
