"""What a provider reported, as events with derived ids: pure. A repetition gives the same ids."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import NamedTuple
from uuid import UUID

import orjson

from contracts import ids, topics
from contracts.conversations import Media, MessageDeleted, MessageEdited, MessageReceived
from contracts.envelope import Event
from contracts.instances import (
    InstanceBanned,
    InstanceConnected,
    InstanceConnecting,
    InstanceDisconnected,
    QrCodeUpdated,
)
from contracts.statuses import StatusReceived
from contracts.topics import Topic
from providers import events as seen
from providers.failures import SEND_UNCERTAIN
from webhook_ingest.accounts import AccountEvent, concerns_sending, read_account
from webhook_ingest.admission import KnownInstance

RAW_MAX_BYTES = 64 * 1024  # inline media stays in the raw webhook only
BANNED = "403"  # the gateway's close reason for a number that WhatsApp forbids


class Report(NamedTuple):
    """One normalised event, ready for its topic. `fact` is the provider's own identity of it."""

    topic: Topic
    key: str
    event: Event
    instance: KnownInstance
    fact: str


@dataclass(frozen=True, slots=True)
class Unplaced:
    """Read, but about a number that no instance has: parked with this reason, to be translated again later."""

    reason: str


FindInstance = Callable[[seen.WebhookEvent], KnownInstance | None]
FindNumbers = Callable[[AccountEvent], Sequence[KnownInstance]]


def _no_numbers(_event: AccountEvent) -> Sequence[KnownInstance]:
    return ()


def read_reports(
    events: list[seen.WebhookEvent],
    find: FindInstance,
    received_at: datetime,
    find_numbers: FindNumbers = _no_numbers,
) -> tuple[list[Report], list[Unplaced]]:
    """What is of no use to anyone downstream (presence, calls, labels, …) yields nothing; the raw webhook is kept."""
    reports: list[Report] = []
    unplaced: list[Unplaced] = []
    for event in events:
        if isinstance(event, AccountEvent):
            numbers = find_numbers(event)
            told = read_account(event, numbers, _time(event.at_ms, received_at))
            reports += [Report(topics.INSTANCE_HEALTH, str(to.id), said, to, event.key) for to, said in told]
            if not numbers and concerns_sending(event):
                unplaced.append(Unplaced(f"no instance has the number or account {event.account!r} of this event"))
            continue
        if not isinstance(event, USED):
            continue
        instance = find(event)
        if instance is None:
            unplaced.append(Unplaced(f"no instance has the number {event.channel!r} of this event"))
            continue
        at = _time(event.at_ms, received_at)
        report = _report(event, instance, at, received_at)
        if report is not None:
            reports.append(report)
    return reports, unplaced


def _report(event: seen.WebhookEvent, instance: KnownInstance, at: datetime, received_at: datetime) -> Report | None:
    match event:
        case seen.StatusSeen():
            return _status(event, instance, at)
        case seen.MessageSeen():
            return _message(event, instance, at, received_at)
        case seen.ReactionSeen():
            return _reaction(event, instance, at, received_at)
        case seen.EditSeen():
            provider_id, identity = event.target, ids.message_id(instance.id, event.target)
            edited = MessageEdited(
                instance_id=instance.id,
                provider_message_id=provider_id,
                message_id=identity,
                text=event.text or "",
                edited_at=at,
            )
            return Report(topics.MESSAGE_RECEIVED, _chat_key(event, instance, identity), edited, instance, event.key)
        case seen.DeleteSeen():
            identity = ids.message_id(instance.id, event.target)
            deleted = MessageDeleted(
                instance_id=instance.id, provider_message_id=event.target, message_id=identity, deleted_at=at
            )
            return Report(topics.MESSAGE_RECEIVED, _chat_key(event, instance, identity), deleted, instance, event.key)
        case seen.ConnectionSeen() | seen.QrSeen():
            return Report(topics.INSTANCE_HEALTH, str(instance.id), _health(event, at), instance, event.key)
        case _:
            return None


USED = (
    seen.StatusSeen,
    seen.MessageSeen,
    seen.ReactionSeen,
    seen.EditSeen,
    seen.DeleteSeen,
    seen.ConnectionSeen,
    seen.QrSeen,
)


def _status(event: seen.StatusSeen, instance: KnownInstance, at: datetime) -> Report | None:
    """None for `accepted` (the send's answer said so) and for a failure that proves nothing (it stays ambiguous)."""
    if event.status == "accepted" or event.failure is SEND_UNCERTAIN:
        return None
    failure = event.failure
    received = StatusReceived(
        instance_id=instance.id,
        provider_message_id=event.id,
        status=event.status,
        at=at,
        client_ref=event.client_ref,
        address=_address(event.peer),
        failure=failure.name if failure else None,
        code=str(event.error_code) if event.error_code is not None else None,
        detail=event.error_text,
        billable=event.billable,
        category=event.category,
    )
    key = str(ids.message_id(instance.id, event.id))
    return Report(topics.STATUS_RECEIVED, key, received, instance, event.key)


def _message(event: seen.MessageSeen, instance: KnownInstance, at: datetime, received_at: datetime) -> Report | None:
    if event.id is None or not _is_chat(event.peer):
        return None
    details: dict[str, object] = {}
    if event.location is not None:
        details["location"] = {"latitude": event.location.latitude, "longitude": event.location.longitude}
    if event.choice_id is not None:
        details["choice_id"] = event.choice_id
    if event.referral is not None:
        details["referral"] = dict(event.referral)
    media = event.media and Media(
        mime_type=event.media.mime_type,
        provider_media_id=event.media.id,
        url=event.media.url,
        file_name=event.media.filename,
        voice=bool(event.voice),
    )
    return _received(
        event, instance, at, received_at, type=event.type, text=event.text or "", details=details, media=media or None,
        reply_to=event.reply_to, id=event.id,
    )  # fmt: skip


def _reaction(event: seen.ReactionSeen, instance: KnownInstance, at: datetime, received_at: datetime) -> Report | None:
    if not _is_chat(event.peer):
        return None
    details: dict[str, object] = {"emoji": event.emoji}
    return _received(
        event, instance, at, received_at, type="reaction", text=event.emoji, details=details, media=None,
        reply_to=event.target, id=event.id or event.key,
    )  # fmt: skip


def _received(
    event: seen.ChatSeen,
    instance: KnownInstance,
    at: datetime,
    received_at: datetime,
    *,
    id: str,
    type: str,
    text: str,
    details: dict[str, object],
    media: Media | None,
    reply_to: str | None,
) -> Report:
    chat = _address(event.peer) or ids.Address()
    raw = orjson.dumps(event.raw, default=str)
    if len(raw) <= RAW_MAX_BYTES:
        details["raw"] = event.raw
    received = MessageReceived(
        instance_id=instance.id,
        message_id=ids.message_id(instance.id, id),
        provider_message_id=id,
        chat=chat,
        sender=_address(event.participant),
        direction=event.direction or "in",
        origin=event.origin or "contact",
        type=type,
        text=text,
        media=media,
        reply_to=reply_to,
        profile_name=event.profile,
        details=details,
        message_at=at,
        received_at=received_at,
    )
    return Report(topics.MESSAGE_RECEIVED, str(ids.chat_id(instance.id, chat)), received, instance, event.key)


def _time(at_ms: int | None, otherwise: datetime) -> datetime:
    return otherwise if at_ms is None else datetime.fromtimestamp(at_ms / 1000, UTC)


def _health(event: seen.ConnectionSeen | seen.QrSeen, at: datetime) -> Event:
    match event:
        case seen.QrSeen(exhausted=True):
            return InstanceDisconnected(reason="qr_code_limit", at=at)
        case seen.QrSeen():
            return QrCodeUpdated(qr_code=event.image or event.code, pairing_code=event.pairing_code, at=at)
        case seen.ConnectionSeen(state="open"):
            return InstanceConnected(phone_number=event.phone, at=at)
        case seen.ConnectionSeen(state="connecting"):
            return InstanceConnecting(at=at)
        case seen.ConnectionSeen():
            if event.reason == BANNED:
                return InstanceBanned(reason=event.reason, at=at)
            return InstanceDisconnected(reason=event.reason or event.state, at=at)


def _chat_key(event: seen.ChatSeen, instance: KnownInstance, message: UUID) -> str:
    """Edits and deletions follow their chat; where the provider names no chat, they follow the message."""
    chat = _address(event.peer)
    return str(ids.chat_id(instance.id, chat)) if chat else str(message)


def _is_chat(peer: seen.Address | None) -> bool:
    """Status stories, broadcast lists and newsletters are no conversations."""
    return peer is not None and bool(peer.phone or peer.lid or peer.bsuid or peer.group)


def _address(address: seen.Address | None) -> ids.Address | None:
    if address is None or not _is_chat(address):
        return None
    return ids.Address(phone=address.phone, lid=address.lid, bsuid=address.bsuid, group=address.group)
