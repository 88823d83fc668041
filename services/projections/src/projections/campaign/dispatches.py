"""One row per dispatch: the scheduler's latest word (highest version) and the evidence of its messages beside it."""

from collections.abc import Iterable, Iterator
from datetime import datetime
from typing import Final, NamedTuple
from uuid import UUID

from contracts.envelope import Envelope
from contracts.ids import dispatch_id
from contracts.messages import MessageFailed
from contracts.progress import DispatchesChanged
from projections.conversation.messages import DELIVERED, by_id, earliest


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


def read_changes(envelope: Envelope, event: DispatchesChanged) -> Iterator[Change]:
    account_id = envelope.account_id
    if account_id is None:
        return
    subject_id = UUID(envelope.subject)
    for change in event.changes:
        yield Change(
            account_id,
            change.dispatch_id,
            subject_id,
            # Of a campaign only: what a person answers belongs to no recipient, and its id is not derived from one.
            change.recipient_id if change.dispatch_id == dispatch_id(change.recipient_id, change.step) else None,
            change.step,
            change.instance_id,
            change.version,
            change.attempt,
            change.release,
            change.state,
            change.reason,
            change.due_at,
            envelope.time,
        )


def read_failure(envelope: Envelope, event: MessageFailed) -> Failure | None:
    if envelope.account_id is None:
        return None
    error = ": ".join(part for part in (event.reason, event.code, event.detail) if part)
    key = f"{event.attempt:06d}|{event.release:06d}|{envelope.id}"
    return Failure(
        envelope.account_id, UUID(envelope.subject), event.campaign_id, event.recipient_id, event.step, key, error
    )


def fold_changes(changes: Iterable[Change]) -> list[Change]:
    """The highest version of each dispatch."""
    folded: dict[tuple[UUID, UUID], Change] = {}
    for change in changes:
        known = folded.get(change[:2])
        if known is None or change.version > known.version:
            folded[change[:2]] = change
    return sorted(folded.values(), key=by_id)


def fold_failures(failures: Iterable[Failure]) -> list[Failure]:
    folded: dict[tuple[UUID, UUID], Failure] = {}
    for failure in failures:
        known = folded.get(failure[:2])
        if known is None or failure.key > known.key:
            folded[failure[:2]] = failure
    return sorted(folded.values(), key=by_id)


def join_evidence(one: Evidence, other: Evidence) -> Evidence:
    """Of several messages the newest is shown; delivery is the best that any reached."""
    newest = max(one, other, key=lambda seen: (seen.sent_at, seen.message_id))
    return Evidence(
        *newest[:7],
        max(one.delivery, other.delivery),
        earliest(one.delivered_at, other.delivered_at),
        earliest(one.read_at, other.read_at),
    )


def fold_evidence(seen: Iterable[Evidence]) -> list[Evidence]:
    folded: dict[tuple[UUID, UUID], Evidence] = {}
    for evidence in seen:
        known = folded.get(evidence[:2])
        folded[evidence[:2]] = evidence if known is None else join_evidence(known, evidence)
    return sorted(folded.values(), key=by_id)


def effective_state(state: str | None, delivery: int) -> str:
    """A failure counts only if nothing ≥ delivered is known; what was only seen in messages is still pending."""
    if state == "failed" and delivery >= DELIVERED:
        return "accepted"
    return state or "pending"


# The same in SQL, of a row `d`.
EFFECTIVE_STATE: Final = (
    "CASE WHEN d.state = 'failed' AND d.delivery >= 3 THEN 'accepted' ELSE coalesce(d.state, 'pending') END"
)
# Read by position in moves.dispatch_move.
_RETURNING: Final = """
RETURNING new.account_id, new.recipient_id, new.subject_id, new.state, new.changed_at, new.delivery,
    old.subject_id, old.state, old.changed_at, old.delivery
"""
CHANGES: Final = (
    """
INSERT INTO dispatch AS d (account_id, id, subject_id, recipient_id, step, instance_id, version, attempt, release,
    state, reason, due_at, changed_at)
SELECT * FROM unnest($1::uuid[], $2::uuid[], $3::uuid[], $4::uuid[], $5::int[], $6::uuid[], $7::int[], $8::int[],
    $9::int[], $10::text[], $11::text[], $12::timestamptz[], $13::timestamptz[])
ON CONFLICT (account_id, id) DO UPDATE SET
    subject_id = excluded.subject_id, recipient_id = excluded.recipient_id, step = excluded.step,
    instance_id = excluded.instance_id, version = excluded.version, attempt = excluded.attempt,
    release = excluded.release, state = excluded.state, reason = excluded.reason, due_at = excluded.due_at,
    changed_at = excluded.changed_at
WHERE excluded.version > d.version
"""
    + _RETURNING
)

# Until the scheduler's word is here, campaign, recipient and step are known from the message.
_KNOWN_PLACE: Final = """
    subject_id = coalesce(d.subject_id, excluded.subject_id),
    recipient_id = coalesce(d.recipient_id, excluded.recipient_id),
    step = coalesce(d.step, excluded.step)"""
EVIDENCE: Final = (
    """
INSERT INTO dispatch AS d (account_id, id, subject_id, recipient_id, step, message_id, sent_at, delivery, delivered_at,
    read_at)
SELECT * FROM unnest($1::uuid[], $2::uuid[], $3::uuid[], $4::uuid[], $5::int[], $6::uuid[], $7::timestamptz[],
    $8::int[], $9::timestamptz[], $10::timestamptz[])
ON CONFLICT (account_id, id) DO UPDATE SET"""
    + _KNOWN_PLACE
    + """,
    message_id = CASE WHEN d.message_id IS NULL OR (excluded.sent_at, excluded.message_id) > (d.sent_at, d.message_id)
        THEN excluded.message_id ELSE d.message_id END,
    sent_at = greatest(d.sent_at, excluded.sent_at),
    delivery = greatest(d.delivery, excluded.delivery),
    delivered_at = least(d.delivered_at, excluded.delivered_at),
    read_at = least(d.read_at, excluded.read_at)
"""
    + _RETURNING
)
FAILURES: Final = (
    """
INSERT INTO dispatch AS d (account_id, id, subject_id, recipient_id, step, error_key, error)
SELECT * FROM unnest($1::uuid[], $2::uuid[], $3::uuid[], $4::uuid[], $5::int[], $6::text[], $7::text[])
ON CONFLICT (account_id, id) DO UPDATE SET"""
    + _KNOWN_PLACE
    + """,
    error_key = excluded.error_key, error = excluded.error
WHERE excluded.error_key > d.error_key
"""
    + _RETURNING
)
