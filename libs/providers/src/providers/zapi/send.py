"""Sending through Z-API: POST {server}/instances/{id}/token/{token}/send-<kind>, header `Client-Token`.

https://developer.z-api.io/en/message/send-message-text (read 2026-11). 200 means put into Z-API's own queue;
`messageId` is already the future WhatsApp id. A field `messageId` in the request is the message REPLIED to, not ours.
The instance's token is part of the URL: never log it.
"""

from collections.abc import Mapping
from pathlib import PurePosixPath
from typing import Any, Final
from urllib.parse import quote, urlsplit

import orjson

from providers import failures as f
from providers.events import Address
from providers.failures import Failure
from providers.protocol import (
    Accepted,
    Account,
    Ambiguous,
    Content,
    HttpRequest,
    OutboundMessage,
    Rejected,
    SendOutcome,
    Throttled,
    UnsendableMessage,
    media_url,
)
from providers.wire import identity, obj, read_any, retry_after_s, text
from providers.zapi.codes import classify_answer, classify_delivery

DEFAULT_URL: Final = "https://api.z-api.io"


def instance_url(account: Account, method: str) -> str:
    base = (account.server_url or DEFAULT_URL).rstrip("/")
    instance = account.credentials.get("instance_id") or account.instance_name or ""
    token = account.credentials.get("token", "")
    return f"{base}/instances/{quote(instance, safe='')}/token/{quote(token, safe='')}/{method}"


def instance_headers(account: Account) -> dict[str, str]:
    headers = {"Content-Type": "application/json"}
    client_token = account.credentials.get("client_token")
    if client_token:
        headers["Client-Token"] = client_token
    return headers


def build_request(message: OutboundMessage, account: Account) -> HttpRequest:
    method, body = _content(message.content)
    body["phone"] = _phone(message.recipient)
    if message.reply_to:
        body["messageId"] = message.reply_to
    return HttpRequest("POST", instance_url(account, method), instance_headers(account), orjson.dumps(body))


def _phone(recipient: Address) -> str:
    if recipient.group:
        return recipient.group.replace("@g.us", "-group")
    phone = recipient.phone or recipient.lid
    if not phone:
        raise UnsendableMessage(Rejected(f.BAD_REQUEST, text="neither phone, lid nor group"))
    return phone


def _content(content: Content) -> tuple[str, dict[str, Any]]:
    match content.kind:
        case "text":
            return "send-text", {"message": content.text}
        case "template":
            raise UnsendableMessage(Rejected(f.UNSUPPORTED, text="templates need the Cloud API"))
        case "document":
            return _document(content)
        case "audio":
            return "send-audio", {"audio": media_url(content)}
        case _:
            body: dict[str, Any] = {content.kind: media_url(content)}
            if content.text:
                body["caption"] = content.text
            return f"send-{content.kind}", body


def _document(content: Content) -> tuple[str, dict[str, Any]]:
    """The extension is part of the path; a file name without one would arrive unopenable."""
    url = media_url(content)
    name = content.filename or PurePosixPath(urlsplit(url).path).name
    extension = PurePosixPath(name).suffix.lstrip(".").lower()
    if not extension.isalnum() or not extension.isascii():
        extension = "pdf" if content.mime_type in (None, "application/pdf") else "bin"
    body: dict[str, Any] = {"document": url}
    if name:
        body["fileName"] = name
    if content.text:
        body["caption"] = content.text
    return f"send-document/{extension}", body


def read_response(status: int, headers: Mapping[str, str], body: bytes) -> SendOutcome:
    wait_s = retry_after_s(headers)
    answer = read_any(body)
    if not isinstance(answer, dict):
        return _without_text(status, wait_s)
    accepted = 200 <= status < 300
    message_id = identity(answer.get("messageId")) or identity(answer.get("id"))
    if accepted and message_id is not None:
        return Accepted(message_id, enqueued=True)
    said = error_text(answer)
    if said:
        return _read_error(status, said, wait_s)
    if accepted:
        refused = answer.get("value") is False
        return Rejected(f.OPERATION_REFUSED, str(status)) if refused else Ambiguous("accepted_without_id")
    return _without_text(status, wait_s)


def error_text(answer: Mapping[str, Any]) -> str:
    error = answer.get("error")
    if error is True:
        return text(answer.get("message")) or ""
    return text(error) or text(obj(error).get("message")) or text(answer.get("message")) or ""


def _read_error(status: int, said: str, wait_s: float | None) -> SendOutcome:
    if status in (405, 411, 413, 414, 415):
        return _rejected(f.BAD_REQUEST, status, said)
    failure = classify_answer(said)
    if failure is not None:
        return _rejected(failure, status, said)
    if status == 429:
        return Throttled("number", wait_s, "429", f.NUMBER_RATE, said)
    if status >= 500:
        return Ambiguous(f"zapi_{status}")
    if status in (401, 403):
        return _rejected(f.CREDENTIALS, status, said)
    failure = classify_delivery(said)
    if failure is f.SEND_UNCERTAIN:
        return Ambiguous("gateway_timed_out")
    return _rejected(f.BAD_REQUEST if failure is f.UNKNOWN_CODE and status >= 400 else failure, status, said)


def _rejected(failure: Failure, status: int, said: str) -> Rejected:
    return Rejected(failure, str(status), said, retryable=failure.retryable)


def _without_text(status: int, wait_s: float | None) -> SendOutcome:
    """An answer that says nothing: a proxy's page, or one cut short."""
    if status == 429:
        return Throttled("number", wait_s, "429", f.NUMBER_RATE)
    if status in (401, 403, 404):
        return Rejected(f.CREDENTIALS if status != 404 else f.NO_SUCH_INSTANCE, str(status))
    if status in (400, 405, 411, 413, 414, 415, 422):
        return Rejected(f.BAD_REQUEST, str(status))
    return Ambiguous(f"http_{status}_unreadable")


def own_message_id(message: OutboundMessage, account: Account) -> None:  # noqa: ARG001
    """None: the provider alone makes ids."""
    return
