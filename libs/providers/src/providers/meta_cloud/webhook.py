"""Webhooks of the WhatsApp Cloud API: verified over the raw bytes, then every entry, change and item read.

https://developers.facebook.com/docs/whatsapp/cloud-api/webhooks (read 2026-11). One POST may mix accounts, numbers,
messages and statuses; duplicates and disorder are normal.
"""

import hmac
from collections.abc import Mapping, Sequence
from functools import lru_cache
from typing import Any

from providers.events import (
    Address,
    CallSeen,
    ChannelErrorSeen,
    ContactSeen,
    GroupSeen,
    HistorySeen,
    Ignored,
    PreferenceSeen,
    UnreadablePayload,
    WebhookEvent,
)
from providers.meta_cloud.account import read_account_change
from providers.meta_cloud.message import read_message, read_person
from providers.meta_cloud.status import read_status
from providers.protocol import WebhookKeys
from providers.wire import (
    header,
    milliseconds,
    obj,
    objects,
    read_object,
    redact_headers,
    text,
    whole,
)

GROUP_FIELDS = frozenset(
    {"group_lifecycle_update", "group_participants_update", "group_settings_update", "group_status_update"}
)


def matching_secret(secrets: Sequence[str], signature: str | None, body: bytes) -> int | None:
    """Which of the secrets signed these bytes (X-Hub-Signature-256: sha256=<hex>); all are tried."""
    if not signature or not signature.startswith("sha256="):
        return None
    given = signature[7:].strip().lower().encode("utf-8", "surrogateescape")
    found: int | None = None
    for index, secret in enumerate(secrets):
        signed = _keyed(secret).copy()
        signed.update(body)
        if hmac.compare_digest(signed.hexdigest().encode(), given) and secret:
            found = index
    return found


@lru_cache(maxsize=1024)
def _keyed(secret: str) -> hmac.HMAC:
    """To be copied: to make it takes as long as to sign a webhook with it."""
    return hmac.new(secret.encode(), digestmod="sha256")


def verify_signature(secrets: Sequence[str], signature: str | None, body: bytes) -> bool:
    return matching_secret(secrets, signature, body) is not None


def verify(
    headers: Mapping[str, str],
    body: bytes,
    keys: WebhookKeys,
    path_secret: str | None = None,  # noqa: ARG001 - Meta signs the body instead
) -> bool:
    return verify_signature(keys.signing_secrets, header(headers, "x-hub-signature-256"), body)


def answer_handshake(query: Mapping[str, str], verify_tokens: Sequence[str]) -> str | None:
    """The challenge to send back as plain text, or None: refuse with 403."""
    if query.get("hub.mode") != "subscribe":
        return None
    given = query.get("hub.verify_token", "").encode("utf-8", "surrogateescape")
    known = False
    for token in verify_tokens:
        known |= bool(token) and hmac.compare_digest(token.encode(), given)
    return query.get("hub.challenge", "") if known else None


def redact(headers: Mapping[str, str], body: bytes) -> tuple[dict[str, str], bytes]:
    """Meta's bodies hold no secret; the bytes stay as signed."""
    return redact_headers(headers), body


def read_webhook(body: bytes) -> list[WebhookEvent]:
    payload = read_object(body)
    entries = payload.get("entry")
    if not isinstance(entries, list):
        raise UnreadablePayload("no_entries")
    events: list[WebhookEvent] = []
    for entry in objects(entries):
        for change in objects(entry.get("changes")):
            events.extend(_read_change(entry, change))
    if not events:
        events.append(Ignored(key="ignored|meta|empty", raw=payload, reason="empty"))
    return events


def _read_change(entry: Mapping[str, Any], change: Mapping[str, Any]) -> list[WebhookEvent]:
    field = text(change.get("field")) or ""
    value = obj(change.get("value"))
    channel = text(obj(value.get("metadata")).get("phone_number_id"))
    match field:
        case "messages" | "standby":
            return _read_messages(value, channel)
        case "smb_message_echoes":
            return [
                read_message(value, message, channel, echo=True) for message in objects(value.get("message_echoes"))
            ]
        case "history":
            key = f"history|{channel}|{text(entry.get('id'))}|{text(entry.get('time'))}"
            return [HistorySeen(key=key, raw=value, channel=channel)]
        case "smb_app_state_sync":
            return [_contact(item, channel) for item in objects(value.get("state_sync"))]
        case "user_preferences":
            return [_preference(item, channel) for item in objects(value.get("user_preferences"))]
        case "calls":
            return [_call(item, channel) for item in objects(value.get("calls"))]
    if field in GROUP_FIELDS or field.startswith("group_"):
        return [_group(item, channel, field) for item in objects(value.get("groups"))]
    return [read_account_change(entry, field, value, channel)]


def _read_messages(value: Mapping[str, Any], channel: str | None) -> list[WebhookEvent]:
    events: list[WebhookEvent] = [
        read_message(value, message, channel, echo=False) for message in objects(value.get("messages"))
    ]
    events.extend(read_status(status, channel) for status in objects(value.get("statuses")))
    if not events:
        events.extend(_fault(error, channel) for error in objects(value.get("errors")))
    return events


def _fault(error: Mapping[str, Any], channel: str | None) -> WebhookEvent:
    code = whole(error.get("code"))
    return ChannelErrorSeen(
        key=f"error|{channel}|{code}",
        raw=error,
        channel=channel,
        text=text(obj(error.get("error_data")).get("details")) or text(error.get("title")) or "",
        error_code=code,
    )


def _preference(item: Mapping[str, Any], channel: str | None) -> WebhookEvent:
    peer = read_person(item.get("wa_id"), item.get("user_id"))
    event = text(item.get("value")) or "unknown"
    at_ms = milliseconds(item.get("timestamp"))
    who = peer.phone or peer.bsuid
    return PreferenceSeen(
        key=f"preference|{channel}|{who}|{event}|{at_ms}",
        raw=item,
        channel=channel,
        at_ms=at_ms,
        event=event,
        peer=peer,
        category=text(item.get("category")),
    )


def _contact(item: Mapping[str, Any], channel: str | None) -> WebhookEvent:
    contact = obj(item.get("contact"))
    at_ms = milliseconds(obj(item.get("metadata")).get("timestamp"))
    peer = read_person(contact.get("phone_number"), contact.get("user_id"))
    return ContactSeen(
        key=f"contact|{channel}|{peer.phone or peer.bsuid}|{at_ms}",
        raw=item,
        channel=channel,
        at_ms=at_ms,
        peer=peer,
        name=text(contact.get("full_name")) or text(contact.get("first_name")),
    )


def _call(item: Mapping[str, Any], channel: str | None) -> WebhookEvent:
    ours = item.get("direction") == "BUSINESS_INITIATED"
    event = text(item.get("event")) or text(item.get("status")) or "unknown"
    call_id = text(item.get("id"))
    peer = (
        read_person(item.get("to"), item.get("to_user_id"))
        if ours
        else read_person(item.get("from"), item.get("from_user_id"))
    )
    return CallSeen(
        key=f"call|{channel}|{call_id}|{event}",
        raw=item,
        channel=channel,
        at_ms=milliseconds(item.get("timestamp")),
        event=event,
        id=call_id,
        peer=peer or None,
        direction="out" if ours else "in",
    )


def _group(item: Mapping[str, Any], channel: str | None, field: str) -> WebhookEvent:
    group = text(item.get("group_id"))
    event = text(item.get("type")) or field
    request = text(item.get("request_id")) or text(item.get("timestamp"))
    people = [
        read_person(person.get("wa_id"), person.get("user_id"))
        for name in ("added_participants", "removed_participants", "participants")
        for person in objects(item.get(name))
    ]
    return GroupSeen(
        key=f"group|{channel}|{group}|{event}|{request}",
        raw=item,
        channel=channel,
        at_ms=milliseconds(item.get("timestamp")),
        event=event,
        id=group,
        peer=Address(group=group) if group else None,
        participants=tuple(person for person in people if person),
    )
