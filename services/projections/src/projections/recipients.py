"""A contact's place in a campaign: its identity as imported, and its state, worst-first over its dispatches."""

from collections.abc import Iterable, Iterator, Sequence
from datetime import datetime
from itertools import groupby
from typing import Any, Final, NamedTuple
from uuid import UUID

import orjson

from contracts.campaigns import RecipientsAdded
from contracts.envelope import Envelope
from projections.dispatches import effective_state
from projections.messages import DELIVERED, READ, by_id

WORST_FIRST: Final = ("failed", "unresolved", "expired", "skipped", "cancelled", "pending", "released", "accepted")
_RANK: Final = {state: rank for rank, state in enumerate(WORST_FIRST)}
# What `tally` counts, by position.
TALLIES: Final = (*WORST_FIRST, "delivered", "read")


class Identity(NamedTuple):
    account_id: UUID
    id: UUID
    campaign_id: UUID
    source_event: UUID
    contact_id: UUID
    external_id: str
    phone: str
    name: str
    custom_fields: str
    added_at: datetime


class Part(NamedTuple):
    """What one dispatch contributes to its recipient."""

    step: int
    state: str | None
    reason: str | None
    delivery: int
    sent_at: datetime | None
    changed_at: datetime | None
    error: str | None


class Summary(NamedTuple):
    """`delivery`: the least over all dispatches, once all were accepted. `error`: of the dispatch that is worst."""

    state: str
    queued: bool
    reason: str | None
    delivery: int
    replied_at: datetime | None
    sent_at: datetime | None
    changed_at: datetime | None
    error: str | None
    tally: list[int]


def read_identities(envelope: Envelope, event: RecipientsAdded) -> Iterator[Identity]:
    account_id = envelope.account_id
    if account_id is None:
        return
    campaign_id = UUID(envelope.subject)
    for added in event.recipients:
        yield Identity(
            account_id,
            added.recipient_id,
            campaign_id,
            envelope.id,
            added.contact_id,
            added.external_id,
            added.phone,
            added.name,
            orjson.dumps(added.custom_fields).decode(),
            envelope.time,
        )


def fold_identities(identities: Iterable[Identity]) -> list[Identity]:
    """Of two imports of one person the one with the smallest event id."""
    folded: dict[tuple[UUID, UUID], Identity] = {}
    for identity in identities:
        known = folded.get(identity[:2])
        if known is None or identity.source_event < known.source_event:
            folded[identity[:2]] = identity
    return sorted(folded.values(), key=by_id)


def summarise(parts: Sequence[Part], replied_at: datetime | None) -> Summary:
    """The recipient's state from all of its dispatches (at least one), given by step and id: the first decides ties."""
    tally = [0] * len(TALLIES)
    worst: tuple[int, int, Part] | None = None
    for part in parts:
        rank = _RANK[effective_state(part.state, part.delivery)]
        tally[rank] += 1
        if WORST_FIRST[rank] == "accepted":
            tally[8] += part.delivery >= DELIVERED
            tally[9] += part.delivery >= READ
        if worst is None or (rank, part.step) < worst[:2]:
            worst = (rank, part.step, part)
    assert worst is not None
    state = WORST_FIRST[worst[0]]
    waiting = state in ("pending", "released")
    return Summary(
        "pending" if waiting else state,
        waiting and tally[_RANK["released"]] > 0,
        None if state == "accepted" else worst[2].reason,
        min(part.delivery for part in parts) if state == "accepted" else 0,
        replied_at,
        max((part.sent_at for part in parts if part.sent_at is not None), default=None),
        max((part.changed_at for part in parts if part.changed_at is not None), default=None),
        worst[2].error if state in ("failed", "unresolved") else None,
        tally,
    )


# Read by position in counters.count_moves.
_RETURNING: Final = """
RETURNING new.account_id, new.campaign_id,
    old.source_event IS NOT NULL, old.state, old.queued, old.reason, old.delivery, old.replied_at, old.tally,
    new.source_event IS NOT NULL, new.state, new.queued, new.reason, new.delivery, new.replied_at, new.tally
"""
IDENTITIES: Final = (
    """
INSERT INTO recipient AS r (account_id, id, campaign_id, source_event, contact_id, external_id, phone, name,
    custom_fields, added_at)
SELECT * FROM unnest($1::uuid[], $2::uuid[], $3::uuid[], $4::uuid[], $5::uuid[], $6::text[], $7::text[], $8::text[],
    $9::jsonb[], $10::timestamptz[])
ON CONFLICT (account_id, id) DO UPDATE SET
    campaign_id = excluded.campaign_id, source_event = excluded.source_event, contact_id = excluded.contact_id,
    external_id = excluded.external_id, phone = excluded.phone, name = excluded.name,
    custom_fields = excluded.custom_fields, added_at = excluded.added_at
WHERE r.source_event IS NULL OR excluded.source_event < r.source_event
"""
    + _RETURNING
)

# All dispatches of the given recipients. By dispatch_recipient and reply_recipient.
PARTS: Final = """
SELECT d.account_id, d.recipient_id, d.subject_id, d.step, d.state, d.reason, d.delivery, d.sent_at, d.changed_at,
    d.error,
    (SELECT min(r.replied_at) FROM reply r WHERE r.account_id = d.account_id AND r.recipient_id = d.recipient_id)
FROM unnest($1::uuid[], $2::uuid[]) w (account_id, recipient_id)
JOIN dispatch d ON d.account_id = w.account_id AND d.recipient_id = w.recipient_id
ORDER BY d.account_id, d.recipient_id, d.step, d.id
"""
SUMMARIES: Final = (
    """
INSERT INTO recipient AS r (account_id, id, campaign_id, state, queued, reason, delivery, replied_at, sent_at,
    changed_at, error, tally)
SELECT u.account_id, u.id, u.campaign_id, u.state, u.queued, u.reason, u.delivery, u.replied_at, u.sent_at,
    u.changed_at, u.error, u.tally::int[]
FROM unnest($1::uuid[], $2::uuid[], $3::uuid[], $4::text[], $5::bool[], $6::text[], $7::int[], $8::timestamptz[],
    $9::timestamptz[], $10::timestamptz[], $11::text[], $12::text[])
    u (account_id, id, campaign_id, state, queued, reason, delivery, replied_at, sent_at, changed_at, error, tally)
ON CONFLICT (account_id, id) DO UPDATE SET
    campaign_id = coalesce(r.campaign_id, excluded.campaign_id), state = excluded.state, queued = excluded.queued,
    reason = excluded.reason, delivery = excluded.delivery, replied_at = excluded.replied_at,
    sent_at = excluded.sent_at, changed_at = excluded.changed_at, error = excluded.error, tally = excluded.tally
"""
    + _RETURNING
)


def summarise_all(rows: Iterable[Any]) -> Iterator[tuple[Any, ...]]:
    """PARTS' rows, which come recipient by recipient, into SUMMARIES' rows."""
    for place, group in groupby(rows, key=lambda row: (row[0], row[1])):
        parts = list(group)
        summary = summarise([Part(*row[3:10]) for row in parts], parts[0][10])
        tally = "{" + ",".join(map(str, summary.tally)) + "}"
        campaign_id = next((row[2] for row in parts if row[2] is not None), None)
        yield *place, campaign_id, *summary[:8], tally
