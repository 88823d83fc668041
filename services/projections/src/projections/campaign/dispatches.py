"""One row per dispatch: the scheduler's latest word (highest version) and the evidence of its messages beside it."""
# ruff: noqa: S608  the statement is made of constants of this file

from collections.abc import Iterable, Iterator
from datetime import datetime
from typing import Any, Final, NamedTuple
from uuid import UUID

from contracts.envelope import Envelope
from contracts.ids import dispatch_id
from contracts.messages import MessageFailed
from contracts.progress import DispatchesChanged
from projections.campaign.volume import count_moved, quarter
from projections.conversation.messages import DELIVERED, READ, earliest
from projections.folding import Key, fold, greatest, in_order, read_id


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


def fold_words(
    changes: Iterable[Change], seen: Iterable[Evidence], failures: Iterable[Failure]
) -> list[tuple[Any, ...]]:
    """What scheduler, messages and sender say about each dispatch, in one row: the columns of UPSERT."""
    changed: dict[Key, Change] = fold(changes, greatest(Change._fields.index("version")))
    shown: dict[Key, Evidence] = fold(seen, join_evidence)
    failed: dict[Key, Failure] = fold(failures, greatest(Failure._fields.index("key")))
    words: dict[Key, tuple[Any, ...]] = {key: change + _NOT_SHOWN + _NOT_FAILED for key, change in changed.items()}
    for key, evidence in shown.items():
        known = words.get(key) or evidence[:5] + _NOT_CHANGED + _NOT_SHOWN + _NOT_FAILED
        words[key] = (*known[:_WORD_ENDS], *evidence[5:], *_NOT_FAILED)
    for key, failure in failed.items():
        known = words.get(key) or failure[:5] + _NOT_CHANGED + _NOT_SHOWN + _NOT_FAILED
        words[key] = (*known[:_EVIDENCE_ENDS], *failure[5:])
    return in_order(words)


# A failure counts only if nothing ≥ delivered is known; what was only seen in messages is still pending. Of a row `d`.
EFFECTIVE_STATE: Final = (
    "CASE WHEN d.state = 'failed' AND d.delivery >= 3 THEN 'accepted' ELSE coalesce(d.state, 'pending') END"
)
# Those that somebody waits for or has to look at: counted for each instance. Not what a person has given up.
QUEUE_STATES: Final = ("pending", "released", "failed", "unresolved")
_CHANGED: Final = "excluded.version > d.version"
_NEWER_MESSAGE: Final = """(excluded.message_id IS NOT NULL AND (d.message_id IS NULL
        OR (excluded.sent_at, excluded.message_id) > (d.sent_at, d.message_id)))"""
_LATER_FAILURE: Final = "excluded.error_key > d.error_key"
# Until the scheduler's word is here, campaign, recipient and step are known from the message.
_PLACE: Final = ", ".join(
    f"{column} = CASE WHEN {_CHANGED} THEN excluded.{column} ELSE coalesce(d.{column}, excluded.{column}) END"
    for column in ("subject_id", "recipient_id", "step")
)
_WORD: Final = ", ".join(
    f"{column} = CASE WHEN {_CHANGED} THEN excluded.{column} ELSE d.{column} END"
    for column in (
        "instance_id",
        "version",
        "attempt",
        "release",
        "state",
        "reason",
        "due_at",
        "changed_at",
        "may_duplicate",
        "given_up",
    )
)
_FAILED: Final = quarter("CASE WHEN {side}.state = 'failed' AND {side}.delivery < 3 THEN {side}.changed_at END")
_COUNTED: Final = count_moved(
    "new_subject_id, old_subject_id, new_failed, old_failed",
    "('campaign', new_subject_id, old_subject_id, 'failed', new_failed, old_failed)",
)
_QUEUED: Final = f"""queued AS (
    INSERT INTO queue_counter AS q (account_id, instance_id, state, value)
    SELECT t.account_id, e.instance_id, e.state, sum(e.rows)
    FROM (SELECT account_id, new_instance_id, CASE WHEN NOT new_given_up THEN new_state END AS new_state,
            old_instance_id, CASE WHEN NOT old_given_up THEN old_state END AS old_state, count(*) AS rows
        FROM moved GROUP BY 1, 2, 3, 4, 5) t
    CROSS JOIN LATERAL (VALUES (new_instance_id, new_state, t.rows), (old_instance_id, old_state, -t.rows))
        e (instance_id, state, rows)
    WHERE e.instance_id IS NOT NULL AND e.state IN ({", ".join(f"'{state}'" for state in QUEUE_STATES)})
    GROUP BY 1, 2, 3 HAVING sum(e.rows) <> 0
    ON CONFLICT (account_id, instance_id, state) DO UPDATE SET value = q.value + excluded.value
    RETURNING new.account_id, new.value
)"""
# What a dispatch adds to its campaign's figures, by its state; delivery is counted of accepted ones only.
_MEASURE: Final = (
    "'dispatches_' || CASE {side}_state WHEN 'accepted' THEN 'sent' WHEN 'released' THEN 'queued' ELSE {side}_state END"
)
_LEVELS: Final = (("dispatches_delivered", DELIVERED), ("dispatches_read", READ))
_MEASURED: Final = ", ".join(
    f"({side}_subject_id, {measure}, {rows})"
    for side, rows in (("new", "t.rows"), ("old", "-t.rows"))
    for measure in (
        _MEASURE.format(side=side),
        *(
            f"CASE WHEN {side}_state = 'accepted' AND {side}_delivery >= {level} THEN '{name}' END"
            for name, level in _LEVELS
        ),
    )
)
_TALLIED: Final = f"""tallied AS (
    INSERT INTO campaign_counter AS c (account_id, campaign_id, measure, reason, value)
    SELECT t.account_id, e.campaign_id, e.measure, '', sum(e.rows)
    FROM (SELECT account_id, new_subject_id, new_state, new_delivery, old_subject_id, old_state, old_delivery,
            count(*) AS rows
        FROM moved WHERE recipient_id IS NOT NULL GROUP BY 1, 2, 3, 4, 5, 6, 7) t
    CROSS JOIN LATERAL (VALUES {_MEASURED}) e (campaign_id, measure, rows)
    WHERE e.campaign_id IS NOT NULL AND e.measure IS NOT NULL
    GROUP BY 1, 2, 3 HAVING sum(e.rows) <> 0
    ON CONFLICT (account_id, campaign_id, measure, reason) DO UPDATE SET value = c.value + excluded.value
    RETURNING new.account_id, new.campaign_id, new.value
)"""
# Planned and nothing else, of a row `d`: a recipient's row says as much before anything happens, so it is not written.
JUST_PLANNED: Final = """(d.version = 1 AND d.state = 'pending' AND d.message_id IS NULL AND d.error_key = ''
    AND coalesce(d.reason, 'previous_step') = 'previous_step')"""
# Whether something happened to a recipient's earlier or later step already.
_STIRRED: Final = """EXISTS (SELECT FROM recipient r WHERE r.account_id = moved.account_id AND r.id = moved.recipient_id
    AND coalesce(r.changed_at, r.sent_at, r.replied_at) IS NOT NULL)"""
# As in volume.py: whether a queue was ever longer than nothing depends on the batches. A few rows for each instance.
CLEAR_QUEUES: Final = "DELETE FROM queue_counter WHERE account_id = ANY($1::uuid[]) AND value = 0"
# A campaign's failures are dispatches that ended failed, whether or not a message existed. What tells nothing new
# is not written. Answers, each by (account, id): `recipient`, its state may have changed; `campaign`, its figures did;
# `emptied_figure` of a campaign, `emptied_queue` and `emptied_volume` of an account, whose row is to go.
UPSERT: Final = f"""
WITH moved AS (
    INSERT INTO dispatch AS d (account_id, id, subject_id, recipient_id, step, instance_id, version, attempt, release,
        state, reason, due_at, changed_at, may_duplicate, given_up, message_id, sent_at, delivery, delivered_at,
        read_at, error_key, error)
    SELECT * FROM unnest($1::projections.given_dispatch[])
    ON CONFLICT (account_id, id) DO UPDATE SET
        {_PLACE},
        {_WORD},
        message_id = CASE WHEN {_NEWER_MESSAGE} THEN excluded.message_id ELSE d.message_id END,
        sent_at = greatest(d.sent_at, excluded.sent_at),
        delivery = greatest(d.delivery, excluded.delivery),
        delivered_at = least(d.delivered_at, excluded.delivered_at),
        read_at = least(d.read_at, excluded.read_at),
        error = CASE WHEN {_LATER_FAILURE} THEN excluded.error ELSE d.error END,
        error_key = CASE WHEN {_LATER_FAILURE} THEN excluded.error_key ELSE d.error_key END
    WHERE {_CHANGED} OR {_NEWER_MESSAGE} OR {_LATER_FAILURE} OR excluded.delivery > d.delivery
        OR d.delivered_at IS DISTINCT FROM least(d.delivered_at, excluded.delivered_at)
        OR d.read_at IS DISTINCT FROM least(d.read_at, excluded.read_at)
        OR (d.subject_id IS NULL AND excluded.subject_id IS NOT NULL)
        OR (d.recipient_id IS NULL AND excluded.recipient_id IS NOT NULL)
    RETURNING new.account_id, new.recipient_id, new.subject_id AS new_subject_id, old.subject_id AS old_subject_id,
        {_FAILED.format(side="new")} AS new_failed, {_FAILED.format(side="old")} AS old_failed,
        new.instance_id AS new_instance_id, {EFFECTIVE_STATE.replace("d.", "new.")} AS new_state,
        old.instance_id AS old_instance_id, {EFFECTIVE_STATE.replace("d.", "old.")} AS old_state,
        new.delivery AS new_delivery, old.delivery AS old_delivery,
        new.given_up AS new_given_up, old.given_up AS old_given_up,
        {JUST_PLANNED.replace("d.", "new.")} AS just_planned
), {_COUNTED}, {_QUEUED}, {_TALLIED}
SELECT 'recipient', account_id, recipient_id FROM moved
WHERE recipient_id IS NOT NULL AND (NOT just_planned OR {_STIRRED})
UNION ALL SELECT CASE value WHEN 0 THEN 'emptied_figure' ELSE 'campaign' END, account_id, campaign_id FROM tallied
UNION ALL SELECT 'emptied_queue', account_id, NULL FROM queued WHERE value = 0
UNION ALL SELECT 'emptied_volume', account_id, NULL FROM counted WHERE value = 0
"""
