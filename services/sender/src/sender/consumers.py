"""What other services say that the sender must heed, and the table of subscriptions.

Guarantee: effect once, offsets in PostgreSQL. Orders and evidence have groups of their own, so that a flood of
statuses never delays a pause.
"""

from collections import Counter
from collections.abc import Awaitable, Callable, Mapping, Sequence
from datetime import datetime
from typing import Literal
from uuid import UUID

import asyncpg
from sqlalchemy.ext.asyncio import AsyncConnection

from chassis.database import Database, driver
from chassis.inbox import Subscription
from chassis.kafka import Received, outgoing
from chassis.lifecycle import utc_now
from chassis.outbox import append
from contracts import ids, topics
from contracts.campaigns import CampaignCancelling, CampaignPausing
from contracts.contacts import ContactErased, ContactOptedIn, ContactOptedOut
from contracts.conversations import MessageReceived
from contracts.envelope import Envelope
from contracts.ids import read_attempt_label, recipient_key
from contracts.instances import (
    AccountStandingChanged,
    InstanceBanned,
    InstanceConfigured,
    InstanceConnected,
    InstanceDisconnected,
    InstanceLimitsChanged,
    TemplateStatusChanged,
)
from contracts.operations import ExplainRequested, HoldSet, UnresolvedDecided
from contracts.progress import HoldTaken
from contracts.statuses import StatusReceived
from sender import gates, templates
from sender.instance import inbound as inbound_rates
from sender.instance import standing, stops, warming
from sender.instance.counts import Counts
from sender.instance.signals import Signals
from sender.instance.warm_up import Policy
from sender.ledger.attempt import WasAccepted
from sender.ledger.explanations import explain
from sender.settlement import evidence
from sender.settlement.consequences import Consequence, carry_out
from sender.settlement.evidence import Report
from sender.settlement.reconcile import hash_text
from sender.settlement.settling import settle
from sender.work import template_gate

CONTROL = Subscription(
    group="sender-control",
    topics=(
        topics.CAMPAIGNS, topics.OPERATIONS, topics.CONTACTS, topics.INSTANCES, topics.INSTANCE_HEALTH,
    ),
    handles=(
        CampaignPausing, CampaignCancelling, HoldSet, UnresolvedDecided, ExplainRequested, ContactOptedOut,
        ContactOptedIn, ContactErased, InstanceConfigured, InstanceConnected, InstanceDisconnected, InstanceBanned,
        InstanceLimitsChanged, AccountStandingChanged, TemplateStatusChanged,
    ),
    linger_ms=5,
)  # fmt: skip
EVIDENCE = Subscription(
    group="sender-evidence",
    topics=(topics.STATUS_RECEIVED, topics.MESSAGE_RECEIVED),
    handles=(StatusReceived, MessageReceived),
    # Evidence counts for what stays uncertain: nobody waits for it within a second, and most of it is no news.
    batch_max=4000,
    linger_ms=400,
)

CONSENTS: Mapping[type, Literal["out", "in", "forgotten"]] = {
    ContactOptedOut: "out",
    ContactOptedIn: "in",
    ContactErased: "forgotten",
}
_UNRESOLVED = """
SELECT account_id, dispatch_id, attempt FROM attempt
WHERE account_id = $1 AND dispatch_id = $2 AND state IN ('ambiguous', 'unresolved')
"""


class Control:
    """Orders: gates, holds, consent, instances, decisions. `closing` hears of the gates that were closed, `configured`
    wakes who reads the numbers."""

    def __init__(
        self, *, closing: Callable[[Sequence[gates.Close]], None], configured: Callable[[], None], warm_up: Policy
    ) -> None:
        self._warm_up = warm_up
        self._closing = closing
        self._closes: list[gates.Close] = []
        self._configured = configured

    async def handle(self, connection: AsyncConnection, batch: Sequence[Received]) -> None:
        raw = await driver(connection)
        closes: list[gates.Close] = []
        holds: list[gates.Hold] = []
        consents: list[gates.Consent] = []
        words: list[gates.Word] = []
        for received in batch:
            envelope, event = received.envelope, received.event
            match event:
                case CampaignPausing() | CampaignCancelling():
                    cancelled = isinstance(event, CampaignCancelling)
                    closes.append(
                        gates.Close(envelope.subject, envelope.account_id, event.run_epoch, cancelled, envelope.id)
                    )
                case HoldSet():
                    holds.append(_hold(event, envelope.account_id))
                case ContactOptedOut() | ContactOptedIn() | ContactErased() if envelope.account_id is not None:
                    kind = CONSENTS[type(event)]
                    consents.append(gates.Consent(envelope.account_id, event.recipient_key, kind, envelope.time))
                case TemplateStatusChanged() if (word := templates.read_word(envelope, event)) is not None:
                    words.append(word)
        await templates.tell(connection, await gates.change(raw, closes, holds, consents, words), utc_now())
        self._closes = closes
        for received in batch:
            await self._heed(connection, received)

    async def after(self) -> None:
        closes, self._closes = self._closes, []
        if closes:
            self._closing(closes)
        self._configured()

    async def _heed(self, connection: AsyncConnection, received: Received) -> None:
        raw = await driver(connection)
        envelope, event = received.envelope, received.event
        match event:
            case InstanceConfigured() | InstanceConnected() | InstanceDisconnected() | InstanceBanned():
                await stops.heed(connection, envelope, event)
                await warming.heed(connection, envelope, event, self._warm_up)
            case InstanceLimitsChanged():
                await warming.heed(connection, envelope, event, self._warm_up)
            case AccountStandingChanged():
                await standing.heed(connection, envelope, event, self._warm_up)
            case HoldSet() if envelope.account_id is not None:
                await _tell_taken(connection, envelope, event)
            case ExplainRequested() if envelope.account_id is not None:
                await _explain(connection, raw, envelope, event)
            case UnresolvedDecided(decision="was_sent"):
                rows = await raw.fetch(_UNRESOLVED, envelope.account_id, event.dispatch_id)
                found = WasAccepted(None, by="person")
                await settle(
                    connection,
                    [((row["account_id"], row["dispatch_id"], row["attempt"]), found) for row in rows],
                    utc_now(),
                )


async def _tell_taken(connection: AsyncConnection, envelope: Envelope, event: HoldSet) -> None:
    """In the transaction of the gate itself: who ordered it may be told once this is committed."""
    told = outgoing(
        topics.CAMPAIGN_PROGRESS,
        envelope.subject,
        HoldTaken(scope=event.scope, key=event.key, held=event.held, version=event.version),
        source=topics.SENDER,
        account_id=envelope.account_id,
        time=utc_now(),
        event_id=ids.event_id(topics.SENDER, envelope.subject, f"hold_taken:{envelope.id}"),
        causation_id=envelope.id,
    )
    await append(connection, [told])


async def _explain(
    connection: AsyncConnection, raw: asyncpg.Connection, envelope: Envelope, request: ExplainRequested
) -> None:
    assert envelope.account_id is not None
    answer = await explain(raw, envelope.account_id, request, envelope.time)
    subject = request.campaign_id or request.instance_id or request.dispatch_id or envelope.account_id
    told = outgoing(
        topics.CAMPAIGN_PROGRESS,
        str(subject),
        answer,
        source=topics.SENDER,
        account_id=envelope.account_id,
        time=utc_now(),
        event_id=ids.event_id(topics.SENDER, str(subject), f"answer:{request.request_id}"),
    )
    await append(connection, [told])


class Evidence:
    """Statuses and echoes. `stopped` wakes who reads the numbers."""

    def __init__(self, database: Database, signals: Signals, *, stopped: Callable[[], None]) -> None:
        self._database = database
        self._signals = signals
        self._stopped = stopped
        self._consequences: list[Consequence] = []
        self._refused: list[UUID] = []

    async def handle(self, connection: AsyncConnection, batch: Sequence[Received]) -> None:
        raw = await driver(connection)
        reports: list[Report] = []
        traffic: dict[UUID, tuple[UUID, datetime]] = {}
        inbound: dict[tuple[UUID, UUID, str], datetime] = {}
        received_by: Counter[UUID] = Counter()
        labels: dict[str | None, tuple[UUID, int] | None] = {None: None}
        for received in batch:
            account_id, at, event = received.envelope.account_id, received.envelope.time, received.event
            if account_id is None or not isinstance(event, StatusReceived | MessageReceived):
                continue
            before = traffic.get(event.instance_id)
            if before is None or before[1] < at:
                traffic[event.instance_id] = (account_id, at)
            if isinstance(event, StatusReceived):
                if (label := event.client_ref) not in labels:  # a message has several statuses
                    labels[label] = _read_label(label)
                reports.append(_status(account_id, event, at, labels[label]))
            elif event.direction == "out":
                reports.append(_echo(account_id, event))
            else:
                received_by[event.instance_id] += 1
                key = recipient_key(event.chat)
                if not key or event.chat.group is not None:
                    continue
                place = (account_id, event.instance_id, key)
                inbound[place] = max(inbound.get(place, event.message_at), event.message_at)
        await evidence.note_traffic(raw, traffic)
        await inbound_rates.note(raw, received_by)
        now, counts = utc_now(), Counts()
        await evidence.open_windows(raw, inbound, counts)
        if await self._signals.note(connection, reports, now):
            self._stopped()
        self._consequences += await evidence.apply(connection, reports, now, counts)
        await counts.write(raw, now)
        self._refused = counts.refused

    async def after(self) -> None:
        consequences, self._consequences = self._consequences, []
        await carry_out(self._database, consequences)
        refused, self._refused = self._refused, []
        if refused:
            async with self._database.transaction() as connection:
                changed = await self._signals.weigh(connection, refused, utc_now())
            if changed:
                self._stopped()


Handle = Callable[[AsyncConnection, Sequence[Received]], Awaitable[None]]


def _hold(event: HoldSet, account_id: UUID | None) -> gates.Hold:
    account = str(account_id)
    match event.scope:
        case "everything":
            key = ""
        case "account":
            key = account
        case "instance":
            key = event.key
        case "template":
            key = template_gate(account_id, event.key)[1] if account_id is not None else event.key
    return gates.Hold(event.scope, key, account_id, event.held, event.version)


def _read_label(client_ref: str | None) -> tuple[UUID, int] | None:
    """None if it is not one that we made."""
    label = read_attempt_label(client_ref) if client_ref else None
    return None if label is None or not 0 < label[1] < 2**31 else label


def _status(account_id: UUID, event: StatusReceived, received_at: datetime, label: tuple[UUID, int] | None) -> Report:
    return Report(
        account_id=account_id,
        instance_id=event.instance_id,
        provider_message_id=event.provider_message_id,
        fact=event.status,
        at=event.at,
        received_at=received_at,
        key=None if label is None else (account_id, *label),
        failure=event.failure,
        code=event.code,
        detail=event.detail,
    )


def _echo(account_id: UUID, event: MessageReceived) -> Report:
    return Report(
        account_id=account_id,
        instance_id=event.instance_id,
        provider_message_id=event.provider_message_id,
        fact="echo",
        at=event.message_at,
        received_at=event.received_at,
        recipient=recipient_key(event.chat),
        text_hash=hash_text(event.text),
    )
