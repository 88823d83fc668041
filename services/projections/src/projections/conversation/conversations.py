"""One row per conversation (an instance and a chat): who, and the newest of each kind of message. Only maxima."""

from collections.abc import Iterable
from datetime import datetime
from typing import Any, Final, NamedTuple
from uuid import UUID

from contracts import conversations as events
from contracts.envelope import Envelope, Event
from contracts.ids import Address, contact_id, recipient_key
from contracts.messages import MessageResolved, MessageSent
from projections.conversation.messages import earliest
from projections.folding import fold, in_order, read_id
from projections.registers import Fact, Row, version_key

Pair = tuple[datetime, UUID]


class Sighting(NamedTuple):
    """What one message, or several, say about their conversation. The columns of the table, in their order."""

    account_id: UUID
    id: UUID
    instance_id: UUID
    contact_id: UUID | None
    phone: str | None
    lid: str | None
    bsuid: str | None
    group_id: str | None
    profile_name: str | None
    profile_at: datetime | None
    first_at: datetime | None
    last_at: datetime
    last_message_id: UUID
    last_in_at: datetime | None
    last_out_at: datetime | None
    last_out_id: UUID | None
    last_campaign_at: datetime | None


def see_sent(envelope: Envelope, event: MessageSent | MessageResolved) -> Sighting | None:
    account_id, at = envelope.account_id, event.sent_at or envelope.time
    if account_id is None or event.chat_id is None or event.message_id is None or event.provider_message_id is None:
        return None
    address = event.address or Address()
    return Sighting(
        account_id,
        event.chat_id,
        event.instance_id,
        event.contact_id,
        *_names(address),
        None,
        None,
        at,
        at,
        event.message_id,
        None,
        at,
        event.message_id,
        None if event.campaign_id is None else at,
    )


def see_received(envelope: Envelope, event: events.MessageReceived) -> Sighting | None:
    account_id, at, inbound = envelope.account_id, event.message_at, event.direction == "in"
    if account_id is None:
        return None
    named = inbound and event.chat.group is None and event.profile_name is not None
    return Sighting(
        account_id,
        read_id(envelope.subject),
        event.instance_id,
        contact_id(account_id, recipient_key(event.chat)),
        *_names(event.chat),
        event.profile_name if named else None,
        at if named else None,
        at,
        at,
        event.message_id,
        at if inbound else None,
        None if inbound else at,
        None if inbound else event.message_id,
        None,
    )


def join(one: Sighting, other: Sighting) -> Sighting:
    """The least upper bound of both. Commutative and idempotent."""
    newest = max(one, other, key=lambda seen: (seen.last_at, seen.last_message_id))
    newest_out = max(
        (seen for seen in (one, other) if seen.last_out_at is not None),
        key=lambda seen: (seen.last_out_at, seen.last_out_id),
        default=one,
    )
    named = max(
        (seen for seen in (one, other) if seen.profile_at is not None),
        key=lambda seen: (seen.profile_at, seen.profile_name),
        default=one,
    )
    return Sighting(
        one.account_id,
        one.id,
        one.instance_id,
        _greatest(one.contact_id, other.contact_id),
        _greatest(one.phone, other.phone),
        _greatest(one.lid, other.lid),
        _greatest(one.bsuid, other.bsuid),
        _greatest(one.group_id, other.group_id),
        named.profile_name,
        named.profile_at,
        earliest(one.first_at, other.first_at),
        newest.last_at,
        newest.last_message_id,
        _greatest(one.last_in_at, other.last_in_at),
        newest_out.last_out_at,
        newest_out.last_out_id,
        _greatest(one.last_campaign_at, other.last_campaign_at),
    )


def fold_sightings(sightings: Iterable[Sighting]) -> list[Sighting]:
    return in_order(fold(sightings, join))


def _names(address: Address) -> tuple[str | None, str | None, str | None, str | None]:
    return address.phone, address.lid, address.bsuid, address.group


def _greatest(one: Any, other: Any) -> Any:
    if one is None or other is None:
        return other if one is None else one
    return max(one, other)


# Answers those of the conversations that can hold a reply.
UPSERT: Final = """
WITH seen AS (
INSERT INTO conversation AS c (account_id, id, instance_id, contact_id, phone, lid, bsuid, group_id, profile_name,
    profile_at, first_at, last_at, last_message_id, last_in_at, last_out_at, last_out_id, last_campaign_at)
SELECT * FROM unnest($1::projections.given_sighting[])
ON CONFLICT (account_id, id) DO UPDATE SET
    contact_id = greatest(c.contact_id, excluded.contact_id), phone = greatest(c.phone, excluded.phone),
    lid = greatest(c.lid, excluded.lid), bsuid = greatest(c.bsuid, excluded.bsuid),
    group_id = greatest(c.group_id, excluded.group_id),
    profile_name = CASE WHEN c.profile_at IS NULL
        OR (excluded.profile_at, excluded.profile_name) > (c.profile_at, c.profile_name)
        THEN excluded.profile_name ELSE c.profile_name END,
    profile_at = greatest(c.profile_at, excluded.profile_at),
    first_at = least(c.first_at, excluded.first_at),
    last_message_id = CASE WHEN (excluded.last_at, excluded.last_message_id) > (c.last_at, c.last_message_id)
        THEN excluded.last_message_id ELSE c.last_message_id END,
    last_at = greatest(c.last_at, excluded.last_at),
    last_in_at = greatest(c.last_in_at, excluded.last_in_at),
    last_out_id = CASE WHEN c.last_out_at IS NULL
        OR (excluded.last_out_at, excluded.last_out_id) > (c.last_out_at, c.last_out_id)
        THEN excluded.last_out_id ELSE c.last_out_id END,
    last_out_at = greatest(c.last_out_at, excluded.last_out_at),
    last_campaign_at = greatest(c.last_campaign_at, excluded.last_campaign_at)
RETURNING new.account_id, new.id, new.last_in_at IS NOT NULL AND new.last_campaign_at IS NOT NULL AS exchanging
)
SELECT account_id, id FROM seen WHERE exchanging
"""

DESK: Final = "conversation_desk"
EMPTY_DESK: Final[Row] = {"assignee_id": None, "state": "open", "read_at": None, "updated_at": None, "keys": {}}


def read_desk_fact(envelope: Envelope, event: Event) -> Fact | None:
    """What the team did with the conversation; None for any other event."""
    if envelope.account_id is None:
        return None
    values: dict[str, Any]
    match event:
        case events.ConversationAssigned():
            values = {"assignee_id": None if event.assignee is None else str(event.assignee)}
        case events.ConversationStateChanged():
            values = {"state": event.state}
        case events.ConversationRead():
            values = {"read_at": envelope.time.isoformat()}
        case _:
            return None
    values["updated_at"] = envelope.time.isoformat()
    return Fact(envelope.account_id, UUID(envelope.subject), version_key(envelope), values)
