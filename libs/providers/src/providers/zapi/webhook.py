"""Webhooks of Z-API: one URL for all, told apart by `type`.

https://developer.z-api.io/en/webhooks/introduction (read 2026-11). No signature: the path's secret, and the header
`z-api-token` once it is known. `momment` differs between deliveries of one fact, so it is never part of a key.
"""

import re
from collections.abc import Callable, Mapping
from typing import Any, Final

from providers.events import (
    Address,
    ChannelErrorSeen,
    ConnectionSeen,
    Ignored,
    PresenceSeen,
    StatusSeen,
    UnreadablePayload,
    WebhookEvent,
)
from providers.failures import Failure
from providers.protocol import WebhookKeys
from providers.wire import (
    REDACTED,
    hash_matches,
    header,
    milliseconds,
    read_object,
    redact_headers,
    text,
)
from providers.zapi.codes import OWN_READS, STATUSES, classify_delivery
from providers.zapi.message import read_phone, read_received

# A lid is 14 digits or more; a Brazilian number 12 or 13. Status callbacks name participants by bare lids.
_LID_DIGITS: Final = 14
_PROXY_LOGIN: Final = re.compile(rb"(\w+://)[^/\s@\"\\]+@")
_TOKEN_PATH: Final = re.compile(rb"(/instances/[^/\s\"\\]+/token/)[^/\s\"\\]+")


def verify(
    headers: Mapping[str, str],
    body: bytes,  # noqa: ARG001 - nothing in it is signed
    keys: WebhookKeys,
    path_secret: str | None = None,
) -> bool:
    """The secret in our address, and the instance's token as a header where it has been learnt."""
    known_path = hash_matches(path_secret, keys.key_hashes)
    known_token = not keys.token_hashes or hash_matches(header(headers, "z-api-token"), keys.token_hashes)
    return known_path and known_token


def redact(headers: Mapping[str, str], body: bytes) -> tuple[dict[str, str], bytes]:
    """Proxy callbacks quote the proxy's login; some bodies quote instance URLs with the token."""
    hidden = REDACTED.encode()
    if b"ProxyCallback" in body:
        body = _PROXY_LOGIN.sub(rb"\1" + hidden + b"@", body)
    return redact_headers(headers), _TOKEN_PATH.sub(rb"\1" + hidden, body)


def read_webhook(body: bytes) -> list[WebhookEvent]:
    payload = read_object(body)
    kind = text(payload.get("type"))
    if kind is None:
        raise UnreadablePayload("no_type")
    channel = text(payload.get("instanceId"))
    if kind == "MessageStatusCallback":
        return _read_statuses(payload, channel)
    reader = _READERS.get(kind)
    if reader is not None:
        return [reader(payload, channel)]
    return [_ignored(payload, channel, f"type_{kind}")]


def _read_delivery(payload: Mapping[str, Any], channel: str | None) -> WebhookEvent:
    """Without an error: accepted by WhatsApp, which is sent and not delivered."""
    message_id = text(payload.get("messageId")) or text(payload.get("zaapId"))
    if message_id is None:
        return _ignored(payload, channel, "delivery_without_id")
    error = text(payload.get("error"))
    code = text(payload.get("errorCode"))
    failure: Failure | None = classify_delivery(error or "", code) if error or code else None
    return StatusSeen(
        key=f"delivery|{channel}|{message_id}|{'ok' if failure is None else 'error'}",
        raw=payload,
        channel=channel,
        at_ms=milliseconds(payload.get("momment")),
        id=message_id,
        status="sent" if failure is None else "failed",
        peer=read_phone(payload.get("phone")) or None,
        failure=failure,
        error_text=error or code or "",
    )


def _read_statuses(payload: Mapping[str, Any], channel: str | None) -> list[WebhookEvent]:
    """One callback names up to dozens of messages."""
    word = text(payload.get("status")) or ""
    ids = payload.get("ids")
    found = [name for name in map(text, ids) if name] if isinstance(ids, list) else []
    status = STATUSES.get(word)
    if status is None or not found:
        reason = "own_read" if word in OWN_READS else f"status_{word or 'missing'}"
        return [_ignored(payload, channel, reason if found else "status_without_ids")]
    participant = _participant(payload.get("participant"))
    who = participant.phone or participant.lid or ""
    return [
        StatusSeen(
            key=f"status|{channel}|{message_id}|{word}|{who}",
            raw=payload,
            channel=channel,
            at_ms=milliseconds(payload.get("momment")),
            id=message_id,
            status=status,
            peer=read_phone(payload.get("phone"), is_group=payload.get("isGroup") is True) or None,
            participant=participant or None,
        )
        for message_id in found
    ]


def _participant(value: object) -> Address:
    name = text(value)
    if name is not None and name.isascii() and name.isdigit() and len(name) >= _LID_DIGITS:
        return Address(lid=f"{name}@lid")
    return read_phone(name)


def _read_connected(payload: Mapping[str, Any], channel: str | None) -> WebhookEvent:
    at_ms = milliseconds(payload.get("momment"))
    is_open = payload.get("connected") is not False
    return ConnectionSeen(
        key=f"connection|{channel}|{'open' if is_open else 'closed'}|{at_ms}",
        raw=payload,
        channel=channel,
        at_ms=at_ms,
        state="open" if is_open else "closed",
        phone=text(payload.get("phone")),
    )


def _read_disconnected(payload: Mapping[str, Any], channel: str | None) -> WebhookEvent:
    at_ms = milliseconds(payload.get("momment"))
    return ConnectionSeen(
        key=f"connection|{channel}|closed|{at_ms}",
        raw=payload,
        channel=channel,
        at_ms=at_ms,
        state="closed",
        reason=text(payload.get("error")),
    )


def _read_presence(payload: Mapping[str, Any], channel: str | None) -> WebhookEvent:
    peer = read_phone(payload.get("phone"))
    event = text(payload.get("status")) or "unknown"
    key = f"presence|{channel}|{text(payload.get('phone'))}|{event}"
    return PresenceSeen(key=key, raw=payload, channel=channel, peer=peer, event=event)


def _read_fault(payload: Mapping[str, Any], channel: str | None) -> WebhookEvent:
    """The text quotes the proxy's login, so it is not handed on outside the raw part."""
    said = _PROXY_LOGIN.sub(rb"\1" + REDACTED.encode() + b"@", (text(payload.get("error")) or "").encode())
    return ChannelErrorSeen(
        key=f"error|{channel}|proxy", raw=payload, channel=channel, text=said.decode("utf-8", "replace")
    )


def _ignored(payload: Mapping[str, Any], channel: str | None, reason: str) -> Ignored:
    about = text(payload.get("messageId")) or text(payload.get("zaapId"))
    return Ignored(key=f"ignored|{channel}|{reason}|{about}", raw=payload, channel=channel, reason=reason)


_READERS: Final[Mapping[str, Callable[[Mapping[str, Any], str | None], WebhookEvent]]] = {
    "ReceivedCallback": read_received,
    "DeliveryCallback": _read_delivery,
    "ConnectedCallback": _read_connected,
    "DisconnectedCallback": _read_disconnected,
    "PresenceChatCallback": _read_presence,
    "ProxyCallback": _read_fault,
}
