"""Asking Evolution whether an uncertain send arrived: its newest messages of ours, matched on our side."""

from collections.abc import Mapping
from datetime import UTC, datetime
from typing import Any, Final

import orjson

from providers.address import same_number
from providers.calls import Found, LookUp, LookUpFailed, NotFound
from providers.evolution.content import read_content
from providers.evolution.message import read_peer
from providers.evolution.send import derive_message_id, gateway_headers, gateway_url
from providers.protocol import Account, HttpRequest, OutboundMessage
from providers.wire import milliseconds, obj, objects, read_any, text

_LOOK_UP_ROWS: Final = 50


def look_up_request(
    message: OutboundMessage,  # noqa: ARG001 - the gateway's own filters are not to be trusted
    account: Account,
    *,
    since_ms: int,
    until_ms: int,
) -> HttpRequest:
    """The newest messages of ours in the window; both bounds are needed. Matching is done on our side."""
    window = {"gte": _iso(since_ms), "lte": _iso(until_ms)}
    where = {"key": {"fromMe": True}, "messageTimestamp": window}
    body = orjson.dumps({"where": where, "page": 1, "offset": _LOOK_UP_ROWS})
    return HttpRequest("POST", gateway_url(account, "chat/findMessages"), gateway_headers(account), body)


def _iso(at_ms: int) -> str:
    return datetime.fromtimestamp(at_ms // 1000, UTC).strftime("%Y-%m-%dT%H:%M:%SZ")


def read_look_up(
    message: OutboundMessage,
    since_ms: int,
    status: int,
    headers: Mapping[str, str],  # noqa: ARG001
    body: bytes,
) -> LookUp:
    answer = obj(read_any(body))
    records = obj(answer.get("messages")).get("records")
    if not 200 <= status < 300 or not isinstance(records, list):
        return LookUpFailed(f"http_{status}")
    own_ids = {message.message_id, derive_message_id(message.client_ref)}
    for record in objects(records):
        key = obj(record.get("key"))
        message_id = text(key.get("id"))
        if message_id is None or key.get("fromMe") is not True:
            continue
        if message_id in own_ids or _same_message(message, record, since_ms):
            return Found(message_id)
    return NotFound(len(records))


def _same_message(message: OutboundMessage, record: Mapping[str, Any], since_ms: int) -> bool:
    """Same chat, same words, not older than the attempt (whole seconds: the gateway keeps no more)."""
    at_ms = milliseconds(record.get("messageTimestamp"))
    if at_ms is None or at_ms < since_ms // 1000 * 1000:
        return False
    peer, recipient = read_peer(obj(record.get("key"))), message.recipient
    same_chat = (
        same_number(peer.phone, recipient.phone)
        or (peer.lid is not None and peer.lid == recipient.lid)
        or (peer.group is not None and peer.group == recipient.group)
    )
    if not same_chat:
        return False
    said = read_content(obj(record.get("message")), text(record.get("messageType")))
    if message.content.kind == "audio":
        return said.type == "audio"
    kind = "template" if message.content.kind == "template" else message.content.kind
    return said.type == kind and (said.text or "") == message.content.text
