"""The read models that hang together: campaigns, recipients, dispatches, messages, conversations and their counters.

`gather` turns records into rows to write, without I/O; `apply` writes them in one fixed order, each table by one
statement, so that what one statement learns about a row (OLD and NEW) feeds the next: message → conversation →
reply → dispatch → recipient → counters. The caller holds the component's writer lock.
"""

from collections import defaultdict
from collections.abc import Iterable
from dataclasses import dataclass, field
from datetime import datetime
from typing import TypeVar
from uuid import UUID

import asyncpg

from contracts import campaigns as campaign_events
from contracts import conversations as chat_events
from contracts.envelope import Envelope, Event
from contracts.messages import MessageFailed, MessageResolved, MessageSent
from contracts.progress import DispatchesChanged
from contracts.statuses import StatusReceived
from projections import moves, registers
from projections.campaign import counters, dispatches, recipients, replies, volume
from projections.campaign import lifecycle as campaigns
from projections.conversation import answers, conversations, message_rows, messages, resolutions

Place = tuple[UUID, UUID]
Records = Iterable[tuple[Envelope, Event]]
T = TypeVar("T")


@dataclass(slots=True)
class Gathered:
    """Rows of one batch, not folded yet."""

    campaigns: list[registers.Fact] = field(default_factory=list)
    identities: list[recipients.Identity] = field(default_factory=list)
    changes: list[dispatches.Change] = field(default_factory=list)
    failures: list[dispatches.Failure] = field(default_factory=list)
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


def gather(records: Records) -> Gathered:
    """Facts without an account belong to nobody and are left out."""
    batch = Gathered()
    for envelope, event in records:
        if envelope.account_id is not None:
            _gather_one(batch, envelope, event)
    return batch


def _gather_one(batch: Gathered, envelope: Envelope, event: Event) -> None:
    match event:
        case StatusReceived():
            _keep(batch.statuses, messages.read_status(envelope, event))
        case DispatchesChanged():
            batch.changes.extend(dispatches.read_changes(envelope, event))
        case MessageSent() | MessageResolved():
            _keep(batch.sent, messages.read_sent(envelope, event))
            _keep(batch.sightings, conversations.see_sent(envelope, event))
        case MessageFailed():
            _keep(batch.failures, dispatches.read_failure(envelope, event))
        case chat_events.MessageReceived():
            _keep(batch.received, messages.read_received(envelope, event))
            _keep(batch.sightings, conversations.see_received(envelope, event))
        case chat_events.MessageEdited() | chat_events.MessageDeleted():
            _keep(batch.edits, messages.read_edit(envelope, event))
        case campaign_events.RecipientsAdded():
            batch.identities.extend(recipients.read_identities(envelope, event))
        case chat_events.AnswerWritten():
            _keep(batch.written, answers.read_answer(envelope, event))
        case _:
            _keep(batch.campaigns, campaigns.read_fact(envelope, event))
            _keep(batch.desk, conversations.read_desk_fact(envelope, event))
            _keep(batch.resolved, resolutions.read_resolution(envelope, event))


def _keep(rows: list[T], row: T | None) -> None:
    if row is not None:
        rows.append(row)


async def apply(connection: asyncpg.Connection, batch: Gathered) -> Touched:
    """Writes the batch; duplicates and old versions change nothing."""
    touched = Touched()
    changed = await registers.apply(connection, campaigns.TABLE, campaigns.EMPTY, batch.campaigns)
    touched.campaigns = {(UUID(row["account_id"]), UUID(row["id"])) for row in changed}
    seen = await _write_messages(connection, batch)
    touched.conversations = await _write_conversations(connection, batch, seen)
    replied = await replies.refresh(connection, await _find_exchanges(connection, batch))
    moved = await _write_dispatches(connection, batch, seen)
    dirty = replied | {(move.account_id, move.recipient_id) for move in moved if move.recipient_id is not None}
    counted = await _write_recipients(connection, batch, dirty)
    await counters.add(connection, counted)
    await volume.add(connection, volume.count_moves(seen, moved))
    touched.campaigns |= {(account_id, campaign_id) for account_id, campaign_id, _, _ in counted}
    return touched


async def _write_messages(connection: asyncpg.Connection, batch: Gathered) -> list[moves.MessageMove]:
    rows = await messages.upsert(connection, message_rows.SENT, messages.fold_sent(batch.sent))
    rows += await messages.upsert(connection, message_rows.RECEIVED, messages.fold_received(batch.received))
    rows += await messages.upsert(connection, message_rows.STATUS, messages.fold_statuses(batch.statuses))
    await messages.upsert(connection, message_rows.EDITED, messages.fold_edits(batch.edits))
    return [moves.message_move(row) for row in rows]


async def _write_conversations(
    connection: asyncpg.Connection, batch: Gathered, seen: Iterable[moves.MessageMove]
) -> set[Place]:
    """Answers the conversations that look different now: also those whose messages' delivery moved."""
    await messages.upsert(connection, conversations.UPSERT, conversations.fold_sightings(batch.sightings))
    await messages.upsert(connection, answers.INSERT, answers.fold_answers(batch.written))
    await messages.upsert(connection, resolutions.INSERT, resolutions.fold_resolutions(batch.resolved))
    desk = await registers.apply(connection, conversations.DESK, conversations.EMPTY_DESK, batch.desk)
    touched = {(UUID(row["account_id"]), UUID(row["id"])) for row in desk}
    touched |= {answer[:1] + answer[2:3] for answer in batch.written}
    # A campaign's own sends are told by the campaign's notices.
    return touched | {
        (move.account_id, move.conversation_id)
        for move in seen
        if move.conversation_id is not None and move.new.campaign_id is None
    }


async def _find_exchanges(connection: asyncpg.Connection, batch: Gathered) -> dict[Place, list[datetime]]:
    """The times in this batch that may make a reply: of conversations with both, sends of a campaign and inbound."""
    times: dict[Place, list[datetime]] = defaultdict(list)
    for seen in batch.sightings:
        if seen.last_campaign_at is not None or seen.last_in_at is not None:
            times[seen.account_id, seen.id].append(seen.last_at)
    if not times:
        return times
    places = sorted(times, key=messages.by_id)
    rows = await connection.fetch(conversations.EXCHANGING, *zip(*places, strict=True))
    return {(account_id, chat_id): times[account_id, chat_id] for account_id, chat_id in rows}


async def _write_dispatches(
    connection: asyncpg.Connection, batch: Gathered, seen: Iterable[moves.MessageMove]
) -> list[moves.DispatchMove]:
    evidence = [
        dispatches.Evidence(
            move.account_id,
            move.dispatch_id,
            move.new.campaign_id,
            move.recipient_id,
            move.step or 0,
            move.id,
            move.new.sent_at,
            move.new.delivery,
            move.new.delivered_at,
            move.new.read_at,
        )
        for move in seen
        if move.dispatch_id is not None and move.new.sent_at is not None
    ]
    rows = await messages.upsert(connection, dispatches.CHANGES, dispatches.fold_changes(batch.changes))
    rows += await messages.upsert(connection, dispatches.EVIDENCE, dispatches.fold_evidence(evidence))
    rows += await messages.upsert(connection, dispatches.FAILURES, dispatches.fold_failures(batch.failures))
    return [moves.dispatch_move(row) for row in rows]


async def _write_recipients(
    connection: asyncpg.Connection, batch: Gathered, dirty: set[Place]
) -> dict[counters.Place, int]:
    rows = await messages.upsert(connection, recipients.IDENTITIES, recipients.fold_identities(batch.identities))
    rows += await messages.upsert(connection, recipients.SUMMARIES, sorted(dirty, key=messages.by_id))
    return counters.count_moves(rows)
