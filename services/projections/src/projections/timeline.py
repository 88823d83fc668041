"""The read models that hang together: campaigns, recipients, dispatches, messages, conversations and their counters.

`gather` turns records into rows to write, without I/O; `write` writes them in one fixed order, each table by one
statement and none that the batch does not touch, so that what one statement learns about its rows feeds the next:
message → conversation → reply → dispatch → recipient → counters. The caller holds the component's writer lock.
"""

from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any, Final, NamedTuple, TypeVar, get_args
from uuid import UUID

import asyncpg

from contracts import campaigns as campaign_events
from contracts import conversations as chat_events
from contracts.envelope import Envelope, Event
from contracts.messages import MessageFailed, MessageResolved, MessageSent
from contracts.progress import DispatchesChanged
from contracts.statuses import StatusReceived
from projections import registers
from projections.campaign import counters, dispatches, recipients, replies, volume, words
from projections.campaign import lifecycle as campaigns
from projections.conversation import answers, conversations, message_rows, messages, resolutions
from projections.folding import run

Place = tuple[UUID, UUID]
Records = Iterable[tuple[Envelope, Event]]
T = TypeVar("T")


@dataclass(slots=True)
class Gathered:
    """Rows of one batch, not folded yet."""

    campaigns: list[registers.Fact] = field(default_factory=list)
    audiences: list[recipients.Audience] = field(default_factory=list)
    identities: list[recipients.Identity] = field(default_factory=list)
    changes: list[words.Change] = field(default_factory=list)
    failures: list[words.Failure] = field(default_factory=list)
    sent: list[messages.SentPart] = field(default_factory=list)
    received: list[messages.ReceivedPart] = field(default_factory=list)
    statuses: list[messages.StatusPart] = field(default_factory=list)
    edits: list[messages.EditPart] = field(default_factory=list)
    sightings: list[conversations.Sighting] = field(default_factory=list)
    desk: list[registers.Fact] = field(default_factory=list)
    written: list[answers.Answer] = field(default_factory=list)
    resolved: list[resolutions.Resolution] = field(default_factory=list)


@dataclass(slots=True)
class Touched:
    """What a batch changed, for the notices: (account, id)."""

    campaigns: set[Place] = field(default_factory=set)
    conversations: set[Place] = field(default_factory=set)
    instances: set[Place] = field(default_factory=set)
    contacts: set[Place] = field(default_factory=set)

    def add(self, other: "Touched") -> None:
        self.campaigns |= other.campaigns
        self.conversations |= other.conversations
        self.instances |= other.instances
        self.contacts |= other.contacts

    def clear(self) -> None:
        for places in (self.campaigns, self.conversations, self.instances, self.contacts):
            places.clear()

    @property
    def empty(self) -> bool:
        return not (self.campaigns or self.conversations or self.instances or self.contacts)


class Seen(NamedTuple):
    """A changed message: the evidence for its dispatch and, unless a campaign sent it, its conversation.

    `emptied`: some count of the whole statement came to nothing.
    """

    account_id: UUID
    dispatch_id: UUID | None
    campaign_id: UUID | None
    recipient_id: UUID | None
    step: int | None
    id: UUID
    sent_at: datetime | None
    delivery: int
    delivered_at: datetime | None
    read_at: datetime | None
    conversation_id: UUID | None
    emptied: bool


def gather(batch: Gathered, records: Records) -> None:
    """Facts without an account belong to nobody and are left out."""
    for envelope, event in records:
        if envelope.account_id is not None:
            _READERS[type(event)](batch, envelope, event)


def _read_sent(batch: Gathered, envelope: Envelope, event: MessageSent | MessageResolved) -> None:
    _keep(batch.sent, messages.read_sent(envelope, event))
    _keep(batch.sightings, conversations.see_sent(envelope, event))


def _read_received(batch: Gathered, envelope: Envelope, event: chat_events.MessageReceived) -> None:
    _keep(batch.received, messages.read_received(envelope, event))
    _keep(batch.sightings, conversations.see_received(envelope, event))


def _read_recipients(batch: Gathered, envelope: Envelope, event: campaign_events.RecipientsAdded) -> None:
    _keep(batch.audiences, recipients.read_audience(envelope, event))
    batch.identities.extend(recipients.read_identities(envelope, event))


def _read_desk(batch: Gathered, envelope: Envelope, event: Event) -> None:
    _keep(batch.desk, conversations.read_desk_fact(envelope, event))
    _keep(batch.resolved, resolutions.read_resolution(envelope, event))


def _keep(rows: list[T], row: T | None) -> None:
    if row is not None:
        rows.append(row)


# By the event's own class: asking each class in turn whether the event is one of it costs more than reading the event.
_READERS: Final[dict[type[Event], Callable[[Gathered, Envelope, Any], None]]] = {
    **dict.fromkeys(
        get_args(campaign_events.CampaignEvent),
        lambda batch, envelope, event: _keep(batch.campaigns, campaigns.read_fact(envelope, event)),
    ),
    **dict.fromkeys(get_args(chat_events.ConversationEvent), _read_desk),
    campaign_events.RecipientsAdded: _read_recipients,
    DispatchesChanged: lambda batch, envelope, event: batch.changes.extend(words.read_changes(envelope, event)),
    MessageSent: _read_sent,
    MessageResolved: _read_sent,
    MessageFailed: lambda batch, envelope, event: _keep(batch.failures, words.read_failure(envelope, event)),
    StatusReceived: lambda batch, envelope, event: _keep(batch.statuses, messages.read_status(envelope, event)),
    chat_events.MessageReceived: _read_received,
    **dict.fromkeys(
        (chat_events.MessageEdited, chat_events.MessageDeleted),
        lambda batch, envelope, event: _keep(batch.edits, messages.read_edit(envelope, event)),
    ),
    chat_events.AnswerWritten: lambda batch, envelope, event: _keep(
        batch.written, answers.read_answer(envelope, event)
    ),
}
TYPES: Final = tuple(_READERS)


async def write(connection: asyncpg.Connection, batch: Gathered) -> Touched:
    """Writes the batch; duplicates and old versions change nothing."""
    touched = Touched()
    changed = await registers.apply(connection, campaigns.TABLE, campaigns.EMPTY, batch.campaigns)
    touched.campaigns = {(UUID(row["account_id"]), UUID(row["id"])) for row in changed}
    seen = await _write_messages(connection, batch)
    exchanging = await run(connection, conversations.UPSERT, conversations.fold_sightings(batch.sightings))
    replied = await replies.refresh(connection, _find_exchanges(batch, exchanging))
    touched.conversations = await _write_desk(connection, batch, seen)
    dirty, figured = await _write_dispatches(connection, batch, seen)
    rows = await recipients.write(connection, batch.audiences, batch.identities)
    rows += await run(connection, recipients.SUMMARIES, sorted(dirty | replied))
    counted = counters.count_moves(rows)
    await counters.add(connection, counted)
    touched.campaigns |= figured | {(account_id, campaign_id) for account_id, campaign_id, _, _ in counted}
    return touched


async def _write_messages(connection: asyncpg.Connection, batch: Gathered) -> list[Seen]:
    rows = await run(connection, message_rows.OUTBOUND, messages.fold_sides(batch.sent, batch.statuses))
    rows += await run(connection, message_rows.INBOUND, messages.fold_received(batch.received))
    await run(connection, message_rows.EDITED, messages.fold_edits(batch.edits))
    seen = [Seen(*row) for row in rows]
    if any(one.emptied for one in seen):
        await volume.clear(connection, [one.account_id for one in seen])
    return seen


def _find_exchanges(batch: Gathered, exchanging: Iterable[Place]) -> dict[Place, list[datetime]]:
    """The times in this batch that may make a reply: in conversations with both, sends of a campaign and inbound."""
    times: dict[Place, list[datetime]] = {(account_id, chat_id): [] for account_id, chat_id in exchanging}
    for seen in batch.sightings if times else ():
        if (seen.last_campaign_at is not None or seen.last_in_at is not None) and seen[:2] in times:
            times[seen[:2]].append(seen.last_at)
    return {place: found for place, found in times.items() if found}


async def _write_desk(connection: asyncpg.Connection, batch: Gathered, seen: Iterable[Seen]) -> set[Place]:
    """Answers the conversations that look different now: also those whose messages' delivery moved."""
    await run(connection, answers.INSERT, answers.fold_answers(batch.written))
    await run(connection, resolutions.INSERT, resolutions.fold_resolutions(batch.resolved))
    desk = await registers.apply(connection, conversations.DESK, conversations.EMPTY_DESK, batch.desk)
    touched = {(UUID(row["account_id"]), UUID(row["id"])) for row in desk}
    touched |= {(answer.account_id, answer.conversation_id) for answer in batch.written}
    # A campaign's own sends are told by the campaign's notices.
    return touched | {(one.account_id, one.conversation_id) for one in seen if one.conversation_id is not None}


async def _write_dispatches(
    connection: asyncpg.Connection, batch: Gathered, seen: Iterable[Seen]
) -> tuple[set[Place], set[Place]]:
    """Answers the recipients whose state may have changed, and the campaigns whose figures did."""
    evidence = [
        words.Evidence(
            one.account_id,
            one.dispatch_id,
            one.campaign_id,
            one.recipient_id,
            one.step or 0,
            one.id,
            one.sent_at,
            one.delivery,
            one.delivered_at,
            one.read_at,
        )
        for one in seen
        if one.dispatch_id is not None and one.sent_at is not None
    ]
    rows = await dispatches.write(connection, words.fold_words(batch.changes, evidence, batch.failures))
    found: dict[str, set[Any]] = {}
    for kind, *place in rows:
        found.setdefault(kind, set()).add(tuple(place))
    emptied = found.get("emptied_figure", set())
    await counters.clear(connection, emptied)
    if queues := found.get("emptied_queue"):
        await connection.execute(dispatches.CLEAR_QUEUES, sorted({account_id for account_id, _ in queues}))
    if volumes := found.get("emptied_volume"):
        await volume.clear(connection, [account_id for account_id, _ in volumes])
    return found.get("recipient", set()), found.get("campaign", set()) | emptied
