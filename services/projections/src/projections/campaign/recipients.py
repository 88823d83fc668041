"""A contact's place in a campaign: its identity as imported, and its state, worst-first over its dispatches.

The state is found in SQL: it needs all dispatches of a recipient, and nothing of them has to leave the database.
Of an audience that another one replaced nobody is known any more, in whatever order the two come: `audience` holds, of
such campaigns, where the newest one begins.
"""
# ruff: noqa: S608  the statements are made of constants of ours

from collections.abc import Iterable, Iterator, Sequence
from datetime import datetime
from typing import Any, Final, NamedTuple
from uuid import UUID

import asyncpg
import orjson

from contracts.campaigns import RecipientsAdded
from contracts.envelope import Envelope
from projections.campaign.dispatches import EFFECTIVE_STATE, JUST_PLANNED
from projections.folding import fold, greatest, in_order, read_id, run

WORST_FIRST: Final = ("failed", "unresolved", "expired", "skipped", "cancelled", "pending", "released", "accepted")


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
    audience: int


class Audience(NamedTuple):
    """One that replaces others of the campaign `id`: its first chunk."""

    account_id: UUID
    id: UUID
    first_chunk: int


def read_identities(envelope: Envelope, event: RecipientsAdded) -> Iterator[Identity]:
    account_id = envelope.account_id
    if account_id is None:
        return
    campaign_id = read_id(envelope.subject)
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
            event.first_chunk,
        )


def read_audience(envelope: Envelope, event: RecipientsAdded) -> Audience | None:
    if envelope.account_id is None or event.first_chunk == 0:
        return None
    return Audience(envelope.account_id, read_id(envelope.subject), event.first_chunk)


def fold_identities(identities: Iterable[Identity]) -> list[Identity]:
    """Of two imports of one person that of the newest audience, with the smallest event id."""
    return in_order(fold(identities, _join))


def _join(one: Identity, other: Identity) -> Identity:
    return other if (-other.audience, other.source_event) < (-one.audience, one.source_event) else one


# Distinct transitions with how often they happened: a few, of thousands of rows. By position in counters.count_moves.
_COUNT_MOVES: Final = """
SELECT account_id, campaign_id, old_added, old_state, old_queued, old_reason, old_delivery, old_replied,
    new_added, new_state, new_queued, new_reason, new_delivery, new_replied, count(*)
FROM moved
GROUP BY account_id, campaign_id, old_added, old_state, old_queued, old_reason, old_delivery, old_replied,
    new_added, new_state, new_queued, new_reason, new_delivery, new_replied
"""
_RETURNING: Final = """
    RETURNING new.account_id AS account_id, new.campaign_id AS campaign_id,
        old.source_event IS NOT NULL AS old_added, old.state AS old_state, old.queued AS old_queued,
        old.reason AS old_reason, old.delivery AS old_delivery, old.replied_at IS NOT NULL AS old_replied,
        new.source_event IS NOT NULL AS new_added, new.state AS new_state, new.queued AS new_queued,
        new.reason AS new_reason, new.delivery AS new_delivery, new.replied_at IS NOT NULL AS new_replied
)
"""
IDENTITIES: Final = (
    """
WITH moved AS (
    INSERT INTO recipient AS r (account_id, id, campaign_id, source_event, contact_id, external_id, phone, name,
        custom_fields, added_at, audience)
    SELECT * FROM unnest($1::projections.given_recipient[])
    ON CONFLICT (account_id, id) DO UPDATE SET
        campaign_id = excluded.campaign_id, source_event = excluded.source_event, contact_id = excluded.contact_id,
        external_id = excluded.external_id, phone = excluded.phone, name = excluded.name,
        custom_fields = excluded.custom_fields, added_at = excluded.added_at, audience = excluded.audience
    WHERE r.source_event IS NULL OR (-excluded.audience, excluded.source_event) < (-r.audience, r.source_event)
"""
    + _RETURNING
    + _COUNT_MOVES
)
# Who is of an older audience loses the identity; the row stays, as it stays of somebody who comes too late (NOBODY).
REPLACED: Final = (
    """
WITH given AS (
    INSERT INTO audience AS a (account_id, id, first_chunk) SELECT * FROM unnest($1::projections.given_audience[])
    ON CONFLICT (account_id, id) DO UPDATE SET first_chunk = excluded.first_chunk
    WHERE excluded.first_chunk > a.first_chunk
    RETURNING account_id, id, first_chunk
), moved AS (
    UPDATE recipient r SET source_event = NULL, contact_id = NULL, external_id = NULL, phone = NULL, name = NULL,
        custom_fields = NULL, added_at = NULL, audience = 0
    FROM given g WHERE r.account_id = g.account_id AND r.campaign_id = g.id AND r.audience < g.first_chunk
        AND r.source_event IS NOT NULL
"""
    + _RETURNING
    + _COUNT_MOVES
)
NEWEST: Final = "SELECT account_id, id, first_chunk FROM audience WHERE id = ANY($1::uuid[])"
NOBODY: Final = """
INSERT INTO recipient (account_id, id, campaign_id)
SELECT account_id, id, campaign_id FROM unnest($1::projections.given_recipient[]) ON CONFLICT DO NOTHING
"""

# The given recipients' states from all of their dispatches: the worst one (by step and id where several are as bad)
# says state, reason and error; delivery is the least of all, once all were accepted. By dispatch_recipient and
# reply_recipient, whatever the planner believes: OFFSET 0 has each recipient looked up by itself, and IS NOT DISTINCT
# FROM fits no index, so that none that the account leads is taken. A plan made while the tables looked empty is kept.
SUMMARIES: Final = (
    """
WITH part AS (
    SELECT d.account_id, d.recipient_id, d.subject_id, d.step, d.id, d.reason, d.error, d.delivery, d.sent_at,
        CASE WHEN NOT {just_planned} THEN d.changed_at END AS changed_at,
        array_position(ARRAY[{worst_first}], {effective_state}) AS rank
    FROM unnest($1::projections.given_place[]) w (account_id, recipient_id)
    CROSS JOIN LATERAL (SELECT * FROM dispatch
        WHERE recipient_id = w.recipient_id AND account_id IS NOT DISTINCT FROM w.account_id OFFSET 0) d
), worst AS (
    SELECT account_id, recipient_id, any_value(subject_id) AS campaign_id,
        min(rank) AS rank, bool_or(rank = 7) AS released, min(delivery) AS delivery, max(sent_at) AS sent_at,
        max(changed_at) AS changed_at, (array_agg(reason ORDER BY rank, step, id))[1] AS reason,
        (array_agg(error ORDER BY rank, step, id))[1] AS error
    FROM part GROUP BY account_id, recipient_id
), moved AS (
    INSERT INTO recipient AS r (account_id, id, campaign_id, state, queued, reason, delivery, replied_at, sent_at,
        changed_at, error)
    SELECT w.account_id, w.recipient_id, w.campaign_id,
        (ARRAY[{worst_first}])[CASE w.rank WHEN 7 THEN 6 ELSE w.rank END], w.rank IN (6, 7) AND w.released,
        CASE WHEN w.rank < 8 THEN w.reason END,
        CASE WHEN w.rank = 8 THEN w.delivery ELSE 0 END,
        (SELECT min(y.replied_at) FROM reply y
            WHERE y.recipient_id = w.recipient_id AND y.account_id IS NOT DISTINCT FROM w.account_id),
        w.sent_at, w.changed_at, CASE WHEN w.rank <= 2 THEN w.error END
    FROM worst w ORDER BY w.account_id, w.recipient_id
    ON CONFLICT (account_id, id) DO UPDATE SET
        campaign_id = coalesce(r.campaign_id, excluded.campaign_id), state = excluded.state, queued = excluded.queued,
        reason = excluded.reason, delivery = excluded.delivery, replied_at = excluded.replied_at,
        sent_at = excluded.sent_at, changed_at = excluded.changed_at, error = excluded.error
    WHERE (r.state, r.queued, r.reason, r.delivery, r.replied_at, r.sent_at, r.changed_at, r.error)
        IS DISTINCT FROM (excluded.state, excluded.queued, excluded.reason, excluded.delivery, excluded.replied_at,
            excluded.sent_at, excluded.changed_at, excluded.error)
""".format(
        worst_first=", ".join(f"'{state}'" for state in WORST_FIRST),
        effective_state=EFFECTIVE_STATE,
        just_planned=JUST_PLANNED,
    )
    + _RETURNING
    + _COUNT_MOVES
)


async def write(
    connection: asyncpg.Connection, audiences: Iterable[Audience], identities: Sequence[Identity]
) -> list[Sequence[Any]]:
    """Answers the moves for counters.count_moves."""
    newest = in_order(fold(audiences, greatest(Audience._fields.index("first_chunk"))))
    moved = await run(connection, REPLACED, newest)
    if not identities:
        return moved
    campaigns = {one.campaign_id for one in identities}
    found = await connection.fetch(NEWEST, list(campaigns))
    firsts = {(row["account_id"], row["id"]): row["first_chunk"] for row in found}
    if not firsts:
        return moved + await run(connection, IDENTITIES, fold_identities(identities))
    current: list[Identity] = []
    late: list[Identity] = []
    for one in identities:
        of_older = one.audience < firsts.get((one.account_id, one.campaign_id), 0)
        (late if of_older else current).append(one)
    await run(connection, NOBODY, fold_identities(late))
    return moved + await run(connection, IDENTITIES, fold_identities(current))
