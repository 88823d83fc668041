"""Life cycle of a Z-API instance: bought in its panel, so there is nothing to create or delete here.

On reconnecting, Z-API flushes what it queued while disconnected; so queueing is switched off, and the queue is
emptied before the QR code is asked for.
"""

from collections.abc import Mapping
from typing import Any
from urllib.parse import quote

import orjson

from providers import failures as f
from providers.address import join_addresses, same_number
from providers.calls import (
    CallAnswer,
    CallDone,
    CallFailed,
    Found,
    LookUp,
    LookUpFailed,
    NotFound,
    NumberChecked,
    NumbersChecked,
    QrAnswered,
    StateAnswered,
    WebhookTarget,
)
from providers.events import Address
from providers.protocol import Account, HttpRequest, OutboundMessage
from providers.wire import milliseconds, obj, objects, read_any, text
from providers.zapi.codes import LOOK_UP_ROWS, classify_answer
from providers.zapi.message import read_phone
from providers.zapi.send import error_text, instance_headers, instance_url


def _call(account: Account, verb: str, method: str, body: Mapping[str, Any] | None = None) -> HttpRequest:
    content = orjson.dumps(body) if body is not None else b""
    return HttpRequest(verb, instance_url(account, method), instance_headers(account), content)


def state_request(account: Account) -> HttpRequest:
    return _call(account, "GET", "status")


def qr_request(account: Account) -> HttpRequest:
    """A new code every 20 s or so; stop asking after three unread ones."""
    return _call(account, "GET", "qr-code/image")


def restart_request(account: Account) -> HttpRequest:
    return _call(account, "GET", "restart")


def queue_settings_request(account: Account) -> HttpRequest:
    return _call(account, "PUT", "update-queue-settings", {"disableEnqueueWhenDisconnected": True})


def purge_request(account: Account) -> HttpRequest:
    return _call(account, "DELETE", "queue")


def number_request(account: Account, phone: str) -> HttpRequest:
    return _call(account, "GET", f"phone-exists/{quote(phone, safe='')}")


def probe_request(account: Account) -> None:  # noqa: ARG001
    """None: it has neither versions nor limits to tell."""
    return


def webhook_requests(account: Account, webhook: WebhookTarget) -> tuple[HttpRequest, ...]:
    """One address for all callbacks; the key is in its path, as Z-API signs nothing."""
    body = {"value": webhook.url, "notifySentByMe": True}
    return (_call(account, "PUT", "update-every-webhooks", body),)


def connect_requests(account: Account, webhook: WebhookTarget) -> tuple[HttpRequest, ...]:
    return (
        *webhook_requests(account, webhook),
        queue_settings_request(account),
        purge_request(account),
        qr_request(account),
    )


def disconnect_requests(account: Account) -> tuple[HttpRequest, ...]:
    return (_call(account, "GET", "disconnect"),)


def delete_requests(account: Account) -> tuple[HttpRequest, ...]:
    """Ends the session only: the subscription is cancelled in Z-API's panel."""
    return disconnect_requests(account)


def read_call(status: int, headers: Mapping[str, str], body: bytes) -> CallAnswer:  # noqa: ARG001
    answer = read_any(body)
    if isinstance(answer, list) and 200 <= status < 300:
        return NumbersChecked(tuple(_number(row) for row in objects(answer)))
    fields = obj(answer)
    said = error_text(fields)
    if not 200 <= status < 300:
        failure = classify_answer(said) or (f.PROVIDER_BUSY if status >= 500 else f.BAD_REQUEST)
        return CallFailed(failure, status, said, failure.retryable)
    if "connected" in fields:
        # `error` is a sentence even when all is well.
        return StateAnswered("open" if fields["connected"] is True else "closed", said)
    if said:
        failure = classify_answer(said) or f.OPERATION_REFUSED
        return CallFailed(failure, status, said, failure.retryable)
    value = fields.get("value")
    if isinstance(value, str) and value:
        is_image = value.startswith("data:")
        return QrAnswered(code=None if is_image else value, image=value if is_image else None)
    if value is False:
        return CallFailed(f.OPERATION_REFUSED, status)
    return CallDone(fields)


def _number(row: Mapping[str, Any]) -> NumberChecked:
    phone = read_phone(row.get("outputPhone") or row.get("phone"))
    return NumberChecked(row.get("exists") is True, join_addresses(phone, Address(lid=read_phone(row.get("lid")).lid)))


def look_up_request(
    message: OutboundMessage,  # noqa: ARG001
    account: Account,
    *,
    since_ms: int,  # noqa: ARG001
    until_ms: int,  # noqa: ARG001
) -> HttpRequest:
    """What waits in the queue. A message that is not there may have left already: its callback will tell."""
    return _call(account, "POST", "queue", {"pageSize": LOOK_UP_ROWS})


def read_look_up(
    message: OutboundMessage,
    since_ms: int,
    status: int,
    headers: Mapping[str, str],  # noqa: ARG001
    body: bytes,
) -> LookUp:
    answer = read_any(body)
    rows = obj(answer).get("messages") if isinstance(answer, dict) else answer
    if not 200 <= status < 300 or not isinstance(rows, list):
        return LookUpFailed(f"http_{status}")
    for row in objects(rows):
        message_id = text(row.get("MessageId"))
        created_ms = milliseconds(row.get("Created"))
        if message_id is None or created_ms is None or created_ms < since_ms:
            continue
        peer = read_phone(row.get("Phone"))
        same_chat = same_number(peer.phone, message.recipient.phone) or (
            peer.lid is not None and peer.lid == message.recipient.lid
        )
        if same_chat and (text(row.get("Message")) or "") == message.content.text:
            return Found(message_id, where="queued")
    return NotFound(len(rows))
