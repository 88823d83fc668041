"""Webhooks of Evolution API v2, also of its own Kafka topics: verified by a header, read by event name.

Read in the source of 2.2 to 2.4 (2026-11). Its retries stop at 400, 401, 403, 404 and 422; nothing is in order.
`date_time` is local time with a false Z: never used. Names are normalised, as versions write them differently.
"""

import re
from collections.abc import Callable, Mapping
from functools import partial
from typing import Any, Final

from providers.address import read_jid
from providers.events import (
    ChannelErrorSeen,
    ConnectionSeen,
    HistorySeen,
    Ignored,
    MessageSeen,
    QrSeen,
    StatusSeen,
    UnreadablePayload,
    WebhookEvent,
)
from providers.evolution.codes import STATES, STATUSES, error_texts
from providers.evolution.message import read_delete, read_edit, read_participant, read_peer, read_upsert
from providers.evolution.people import read_call, read_contact, read_group, read_presence
from providers.failures import CAUSE_LOST
from providers.protocol import WebhookKeys
from providers.wire import (
    REDACTED,
    hash_matches,
    header,
    obj,
    objects,
    read_any,
    read_object,
    redact_headers,
    text,
)

KEY_HEADERS: Final = ("apikey", "x-hook-token", "x-api-key")
_SEPARATORS: Final = re.compile(r"[.\-\s]")
# Inside a JSON string the quotes are escaped, so these match keys of the payload only, never a person's text.
_SECRET_VALUES: Final = tuple(
    (b'"' + name + b'"', re.compile(rb'("' + name + rb'"\s*:\s*)"(?:[^"\\]|\\.)*"'))
    for name in (b"apikey", b"api_key", b"apiKey")
)
_DESTINATION: Final = re.compile(rb'("destination"\s*:\s*"[^"?\\]*)\?(?:[^"\\]|\\.)*"')


def verify(
    headers: Mapping[str, str],
    body: bytes,
    keys: WebhookKeys,
    path_secret: str | None = None,
) -> bool:
    """The key that we set as a header of the webhook; else the gateway's `apikey` in the body, or our address's."""
    for name in KEY_HEADERS:
        given = header(headers, name)
        if given is not None:
            return hash_matches(given, keys.key_hashes)
    bearer = header(headers, "authorization")
    if bearer is not None and bearer.startswith("Bearer "):
        return hash_matches(bearer[7:], keys.key_hashes)
    if path_secret:
        return hash_matches(path_secret, keys.key_hashes)
    return hash_matches(text(obj(read_any(body)).get("apikey")), keys.key_hashes)


def redact(headers: Mapping[str, str], body: bytes) -> tuple[dict[str, str], bytes]:
    """`apikey` may be the instance's real key, in Cloud mode even Meta's token; our address may hold one too."""
    for name, value in _SECRET_VALUES:
        if name in body:
            body = value.sub(rb'\1"' + REDACTED.encode() + b'"', body)
    return redact_headers(headers), _DESTINATION.sub(rb'\1"', body)


def read_webhook(body: bytes, *, cloud: bool) -> list[WebhookEvent]:
    """`cloud`: statuses of Cloud mode say fromMe false though they are about our messages."""
    payload = read_object(body)
    name = text(payload.get("event"))
    if name is None:
        raise UnreadablePayload("no_event")
    channel = text(payload.get("instance")) or text(obj(payload.get("instance")).get("instanceName"))
    event = _SEPARATORS.sub("_", name).lower()
    data = payload.get("data")
    if event == "messages_update":
        return _each(data, channel, event, partial(_read_status, cloud=cloud))
    reader = _READERS.get(event)
    if reader is not None:
        return _each(data, channel, event, reader)
    single = _SINGLE.get(event)
    if single is not None:
        return [single(payload, obj(data), channel)]
    return [Ignored(key=f"ignored|{channel}|{event}", raw=payload, channel=channel, reason=f"event_{event}")]


Reader = Callable[[Mapping[str, Any], str | None], WebhookEvent]


def _each(data: object, channel: str | None, event: str, reader: Reader) -> list[WebhookEvent]:
    events = [reader(item, channel) for item in objects(data)]
    if not events:
        reason = f"empty_{event}"
        events.append(Ignored(key=f"ignored|{channel}|{reason}", raw=data, channel=channel, reason=reason))
    return events


def _read_status(data: Mapping[str, Any], channel: str | None, *, cloud: bool) -> WebhookEvent:
    """`keyId` is WhatsApp's id, `messageId` the gateway's own row. It carries no time.

    On WhatsApp Web, fromMe false is our own reading of what came in. DELETED is what old versions say when an
    update has no status, and comes with edits too.
    """
    key = obj(data.get("key"))
    message_id = text(data.get("keyId")) or text(key.get("id")) or text(data.get("id"))
    word = text(data.get("status")) or text(obj(data.get("update")).get("status")) or ""
    status = STATUSES.get(word.upper())
    from_me = data.get("fromMe", key.get("fromMe"))
    graph = cloud or (message_id is not None and message_id.startswith("wamid."))
    if message_id is None or status is None or (from_me is False and not graph):
        reason = "own_read" if status is not None and message_id is not None else f"status_{word or 'missing'}"
        key_ = f"ignored|{channel}|{message_id}|{reason}"
        return Ignored(key=key_, raw=data, channel=channel, reason=reason)
    names = data if data.get("remoteJid") is not None else key
    peer = read_peer(names)
    return StatusSeen(
        key=f"status|{channel}|{message_id}|{status}",
        raw=data,
        channel=channel,
        id=message_id,
        status=status,
        peer=peer or None,
        participant=read_participant(names) if peer.group else None,
        failure=CAUSE_LOST if status == "failed" else None,
    )


def _read_connection(payload: Mapping[str, Any], data: Mapping[str, Any], channel: str | None) -> WebhookEvent:
    word = text(data.get("state")) or text(data.get("status")) or ""
    state = STATES.get(word.lower())
    reason = text(data.get("statusReason")) or text(data.get("disconnectionReasonCode"))
    if state is None:
        key = f"ignored|{channel}|state|{word}"
        return Ignored(key=key, raw=payload, channel=channel, reason=f"state_{word or 'missing'}")
    return ConnectionSeen(
        key=f"connection|{channel}|{state}|{reason}|{text(payload.get('date_time'))}",
        raw=payload,
        channel=channel,
        state=state,
        reason=reason,
        phone=read_jid(data.get("wuid")).phone,
    )


def _read_end(payload: Mapping[str, Any], data: Mapping[str, Any], channel: str | None) -> WebhookEvent:  # noqa: ARG001
    event = text(payload.get("event"))
    key = f"connection|{channel}|closed|{event}|{text(payload.get('date_time'))}"
    return ConnectionSeen(key=key, raw=payload, channel=channel, state="closed", reason=event)


def _read_qr(payload: Mapping[str, Any], data: Mapping[str, Any], channel: str | None) -> WebhookEvent:
    qr = obj(data.get("qrcode")) or data
    code = text(qr.get("code"))
    return QrSeen(
        key=f"qr|{channel}|{code or text(payload.get('date_time'))}",
        raw=payload,
        channel=text(qr.get("instance")) or channel,
        code=code,
        image=text(qr.get("base64")),
        pairing_code=text(qr.get("pairingCode")),
        exhausted=code is None and text(qr.get("base64")) is None,
    )


def _read_history(payload: Mapping[str, Any], data: Mapping[str, Any], channel: str | None) -> WebhookEvent:
    """The list is the data itself, or under `messages` (2.4)."""
    items = data.get("messages") if data else payload.get("data")
    seen = [read_upsert(item, channel, by_api=False) for item in objects(items)]
    messages = tuple(event for event in seen if isinstance(event, MessageSeen))
    first, last = (messages[0].id, messages[-1].id) if messages else (None, None)
    key = f"history|{channel}|{len(seen)}|{first}|{last}"
    return HistorySeen(key=key, raw=payload, channel=channel, messages=messages)


def _read_fault(payload: Mapping[str, Any], data: Mapping[str, Any], channel: str | None) -> WebhookEvent:
    key = f"error|{channel}|{text(payload.get('date_time'))}"
    return ChannelErrorSeen(key=key, raw=payload, channel=channel, text=error_texts(data))


_READERS: Final[Mapping[str, Reader]] = {
    "messages_upsert": partial(read_upsert, by_api=False),
    "send_message": partial(read_upsert, by_api=True),
    "messages_edited": read_edit,
    "send_message_update": read_edit,
    "messages_delete": read_delete,
    "contacts_upsert": read_contact,
    "contacts_update": read_contact,
    "contacts_set": read_contact,
    "group_participants_update": read_group,
    "groups_upsert": partial(read_group, event="upsert"),
    "groups_update": partial(read_group, event="update"),
    "group_update": partial(read_group, event="update"),
    "presence_update": read_presence,
    "call": read_call,
}
_SINGLE: Final[Mapping[str, Callable[[Mapping[str, Any], Mapping[str, Any], str | None], WebhookEvent]]] = {
    "connection_update": _read_connection,
    "status_instance": _read_connection,
    "logout_instance": _read_end,
    "remove_instance": _read_end,
    "qrcode_updated": _read_qr,
    "qrcode_update": _read_qr,
    "messages_set": _read_history,
    "messaging_history_set": _read_history,
    "error": _read_fault,
}
