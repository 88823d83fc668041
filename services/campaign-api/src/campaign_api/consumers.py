"""What campaign-api hears: progress of campaigns, health of instances, messages of people."""

import asyncio
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from functools import partial
from typing import assert_never
from uuid import UUID

from sqlalchemy.ext.asyncio import AsyncConnection

from campaign_api.campaign import campaign as campaigns
from campaign_api.campaign import store as campaign_store
from campaign_api.campaign.lifecycle import Decide
from campaign_api.campaign.lifecycle import apply as apply_to_campaign
from campaign_api.contact import contact as contacts
from campaign_api.contact import lifecycle as contact_lifecycle
from campaign_api.event_store import decide_in
from campaign_api.explanation.asking import sender_answer_id
from campaign_api.instance import instance as instances
from campaign_api.instance import store as instance_store
from campaign_api.instance.trouble import trouble_of
from campaign_api.operation import store as operation_store
from campaign_api.operation import webhooks
from campaign_api.operation.dead_letters import reopen
from chassis.database import driver
from chassis.inbox import Subscription
from chassis.kafka import Received
from contracts import ids
from contracts.contacts import ContactEvent, ContactSaved
from contracts.conversations import MessageReceived
from contracts.instances import (
    AccountStandingChanged,
    BreakerClosed,
    BreakerOpened,
    InstanceBanned,
    InstanceConfigured,
    InstanceConnected,
    InstanceConnecting,
    InstanceDisconnected,
    InstanceHealthEvent,
    InstanceLimitsChanged,
    InstanceRateRestored,
    InstanceThrottled,
    QrCodeUpdated,
    TemplateStatusChanged,
    UnreadWebhookSettled,
    WarmUpChanged,
    WebhookLeftUnread,
    kinds_of,
    newest_of,
)
from contracts.progress import (
    CampaignBlocked,
    CampaignDrained,
    CampaignDue,
    DeadLettersPreviewed,
    DeadLettersTaken,
    GateClosed,
    HoldTaken,
    LaneExplained,
    PlanPreviewed,
    SendingExplained,
    TemplateFreed,
    TemplateStopped,
)
from contracts.topics import CAMPAIGN_PROGRESS, INSTANCE_HEALTH, MESSAGE_RECEIVED

PROGRESS = Subscription(
    group="campaign-api",
    topics=(CAMPAIGN_PROGRESS,),
    handles=(
        GateClosed,
        CampaignDrained,
        CampaignDue,
        CampaignBlocked,
        LaneExplained,
        SendingExplained,
        PlanPreviewed,
        DeadLettersPreviewed,
        DeadLettersTaken,
        HoldTaken,
        TemplateStopped,
        TemplateFreed,
    ),
    linger_ms=10,  # people wait for `paused`
)
HEALTH = Subscription(
    group="campaign-api-health",
    topics=(INSTANCE_HEALTH,),
    handles=(
        InstanceConnected,
        InstanceDisconnected,
        InstanceConnecting,
        QrCodeUpdated,
        InstanceThrottled,
        InstanceRateRestored,
        BreakerOpened,
        BreakerClosed,
        InstanceLimitsChanged,
        WarmUpChanged,
        InstanceBanned,
        WebhookLeftUnread,
        UnreadWebhookSettled,
    ),
)
INBOUND = Subscription(group="campaign-api-inbound", topics=(MESSAGE_RECEIVED,), handles=(MessageReceived,))


@dataclass(frozen=True, slots=True)
class Progress:
    """Only here do other services' reports become events of a campaign's stream."""

    now: Callable[[], datetime]

    async def handle(self, connection: AsyncConnection, batch: Sequence[Received]) -> None:
        for record in batch:
            account_id = record.envelope.account_id
            if account_id is None:
                continue
            match record.event:
                case LaneExplained() | PlanPreviewed() | DeadLettersPreviewed() as event:
                    await operation_store.add_answer(connection, account_id, event.request_id, event)
                case SendingExplained() as event:
                    own_id = sender_answer_id(event.request_id)
                    await operation_store.add_answer(connection, account_id, own_id, event)
                case HoldTaken() as event:
                    await operation_store.note_taken(connection, account_id, event)
                case TemplateStopped() | TemplateFreed() as event:
                    await operation_store.note_template(connection, account_id, event)
                case GateClosed() | CampaignDrained() | CampaignDue() | CampaignBlocked() | DeadLettersTaken():
                    await self._report(connection, account_id, UUID(record.key), record)
                case _:
                    pass

    async def _report(self, connection: AsyncConnection, account_id: UUID, campaign_id: UUID, record: Received) -> None:
        decide: Decide
        match record.event:
            case GateClosed(run_epoch=run_epoch):
                decide = partial(campaigns.close_gate, run_epoch=run_epoch)
            case CampaignDrained(run_epoch=run_epoch, planned=planned):
                decide = partial(campaigns.drain, run_epoch=run_epoch, planned=planned)
            case CampaignBlocked(run_epoch=run_epoch, reason=reason, detail=detail):
                decide = partial(campaigns.block, run_epoch=run_epoch, reason=reason, detail=detail)
            case DeadLettersTaken() as taken:
                decide = partial(reopen, taken=taken)
            case CampaignDue(scheduled_at=scheduled_at):
                audience = await campaign_store.audience(connection, account_id, campaign_id)
                decide = partial(campaigns.come_due, scheduled_at=scheduled_at, audience=audience)
            case _:
                return
        await apply_to_campaign(connection, account_id, campaign_id, decide, now=self.now())


@dataclass(frozen=True, slots=True)
class Health:
    """The row shows what was said last of each kind; what changes the configuration goes through the instance's
    stream."""

    now: Callable[[], datetime]

    async def handle(self, connection: AsyncConnection, batch: Sequence[Received]) -> None:
        for record in batch:
            account_id, event = record.envelope.account_id, record.event
            if account_id is None or not isinstance(event, InstanceHealthEvent):
                continue
            instance_id = UUID(record.key)
            if isinstance(event, WebhookLeftUnread | UnreadWebhookSettled):
                await webhooks.note(connection, account_id, instance_id, event)
                continue
            if kinds := kinds_of(event):
                at = min(event.at, record.envelope.time)  # a gateway's clock may be ahead
                newest = await instance_store.heed(connection, account_id, instance_id, kinds, at)
                if (left := newest_of(event, newest)) is None:
                    continue
                event = left
            columns = _columns(event) | trouble_of(event)
            await instance_store.note_health(connection, account_id, instance_id, columns, event.at)
            decide = _configuration_change(event)
            if decide is not None:
                stream, now = instance_store.stream(account_id, instance_id), self.now()
                recorded = await decide_in(connection, stream, instances.evolve, instances.INITIAL, decide, now=now)
                if recorded.events:
                    await instance_store.write(connection, stream, recorded, now)


def _columns(event: InstanceHealthEvent) -> dict[str, object]:
    match event:
        case InstanceConnected():
            phone = {"connected_phone": event.phone_number} if event.phone_number else {}
            cleared = dict.fromkeys(("qr_code", "pairing_code", "breaker", "breaker_until"))
            return {"connection_status": "connected", **cleared, **phone}
        case InstanceDisconnected() | InstanceBanned():
            return {"connection_status": "disconnected", "qr_code": None, "pairing_code": None}
        case InstanceConnecting():
            return {"connection_status": "connecting"}
        case QrCodeUpdated():
            return {"connection_status": "connecting", "qr_code": event.qr_code, "pairing_code": event.pairing_code}
        case InstanceThrottled():
            return {"throttled_rate": event.messages_per_second}
        case InstanceRateRestored():
            return {"throttled_rate": None}
        case BreakerOpened():
            return {"breaker": event.reason, "breaker_until": event.until}
        case BreakerClosed():
            return {"breaker": None, "breaker_until": None}
        case WarmUpChanged(allowance=None):
            return {"warming_up": None}
        case WarmUpChanged():
            return {"warming_up": event.model_dump_json(exclude={"at"})}
        case InstanceLimitsChanged():
            unthrottled = {} if event.messages_per_second is None else {"throttled_rate": None}
            return unthrottled | ({"quality": event.quality} if event.quality else {})
        case AccountStandingChanged() | TemplateStatusChanged() | WebhookLeftUnread() | UnreadWebhookSettled():
            return {}  # what follows from it the sender tells: BreakerOpened, TemplateStopped
        case _:
            assert_never(event)


def _configuration_change(
    event: InstanceHealthEvent,
) -> Callable[[instances.Instance], Sequence[InstanceConfigured]] | None:
    match event:
        case InstanceConnected():
            return partial(instances.note_connected, phone_number=event.phone_number)
        case InstanceDisconnected():
            return partial(instances.note_lost, status="disconnected")
        case InstanceBanned():
            return partial(instances.note_lost, status="banned")
        case InstanceLimitsChanged():
            return partial(
                instances.note_limits,
                tier=event.tier,
                unique_per_24h=event.unique_per_24h,
                messages_per_second=event.messages_per_second,
                unlimited=event.unlimited,
            )
        case _:
            return None


@dataclass(slots=True)
class Inbound:
    """Stop words opt out; who writes for the first time becomes a contact; names that belong together are joined."""

    now: Callable[[], datetime]
    _stop_words: dict[UUID, tuple[datetime, tuple[str, ...]]]

    async def handle(self, connection: AsyncConnection, batch: Sequence[Received]) -> None:
        for record in batch:
            message, account_id = record.event, record.envelope.account_id
            if account_id is None or not isinstance(message, MessageReceived):
                continue
            if message.direction != "in" or message.chat.group is not None:
                continue
            await self._hear(connection, account_id, message)
            await asyncio.sleep(0)

    async def _hear(self, connection: AsyncConnection, account_id: UUID, message: MessageReceived) -> None:
        address = contacts.joined(message.chat, message.sender) if message.sender else message.chat
        key = ids.recipient_key(address)
        if not key:
            return
        contact_id = await contact_lifecycle.identify(connection, account_id, address)
        stops = contacts.is_stop_word(message.text, await self._words(connection, account_id))

        def decide(contact: contacts.Contact) -> list[ContactEvent]:
            if contact.saved:
                events = contacts.learn(contact, address, "message")
            else:
                name = message.profile_name or contact.name
                events = [ContactSaved(address=address, name=name, source="message")]
            return events + (contacts.opt_out(contact, key=key, reason="stop_word") if stops else [])

        await contact_lifecycle.apply(connection, account_id, contact_id, key, decide, now=self.now())

    async def _words(self, connection: AsyncConnection, account_id: UUID) -> tuple[str, ...]:
        """The account's stop words, asked for again after a minute."""
        now = self.now()
        until, words = self._stop_words.get(account_id, (now, ()))
        if until <= now:
            found = await (await driver(connection)).fetchval(
                "SELECT stop_words FROM account WHERE account_id = $1", account_id
            )
            words = tuple(found or ())
            self._stop_words[account_id] = (now + timedelta(minutes=1), words)
        return words
