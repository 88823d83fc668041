"""Sending through Evolution API v2: POST {server}/message/<verb>/{instance name}, header `apikey`.

https://doc.evolution-api.com/v2 and the source (read 2026-11). 201 means handed to the local socket (Baileys) or
answered by Graph (Cloud), not acknowledged by WhatsApp. From 2.4 on some verbs take our own message id, and the same
id twice is one message for the receiver.
"""

import hashlib
import re
from collections.abc import Mapping
from typing import Any, Final
from urllib.parse import quote

import orjson

from providers import failures as f
from providers.address import join_addresses, read_jid
from providers.events import Address
from providers.evolution.codes import read_error_answer
from providers.meta_cloud.codes import read_error
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
from providers.wire import identity, obj, read_any, retry_after_s, whole

# Of the verbs used here, those that hand `messageId` on to Baileys; sendWhatsAppAudio does not.
_VERBS_WITH_ID: Final = frozenset({"sendText", "sendMedia"})
_VERSION: Final = re.compile(r"(\d+)\.(\d+)")


def gateway_url(account: Account, path: str) -> str:
    return f"{account.server_url.rstrip('/')}/{path}/{quote(account.instance_name or '', safe='')}"


def gateway_headers(account: Account) -> dict[str, str]:
    return {"apikey": account.credentials.get("apikey", ""), "Content-Type": "application/json"}


def derive_message_id(client_ref: str) -> str:
    """Our own WhatsApp id, always the same for one label. 22 characters from `3E` are what a web client makes."""
    return "3EB0" + hashlib.sha256(client_ref.encode()).hexdigest()[:18].upper()


def takes_message_id(account: Account) -> bool:
    """Whether this gateway honours an id of ours: 2.4 and later, on WhatsApp Web only."""
    version = _VERSION.match((account.gateway_version or "").lstrip("v"))
    if version is None or account.kind != "evolution_web":
        return False
    return (int(version.group(1)), int(version.group(2))) >= (2, 4)


def build_request(message: OutboundMessage, account: Account) -> HttpRequest:
    verb, body = _content(message.content, account)
    body["number"] = _number(message.recipient)
    if message.reply_to:
        body["quoted"] = {"key": {"id": message.reply_to}}
    if verb in _VERBS_WITH_ID and takes_message_id(account):
        body["messageId"] = _own_id(message)
    url = gateway_url(account, f"message/{verb}")
    return HttpRequest("POST", url, gateway_headers(account), orjson.dumps(body))


def own_message_id(message: OutboundMessage, account: Account) -> str | None:
    """None too for audio, whose verb does not hand it on."""
    return _own_id(message) if takes_message_id(account) and message.content.kind != "audio" else None


def _own_id(message: OutboundMessage) -> str:
    return message.message_id or derive_message_id(message.client_ref)


def _number(recipient: Address) -> str:
    number = recipient.group or recipient.phone or recipient.lid
    if not number:
        raise UnsendableMessage(Rejected(f.BAD_REQUEST, text="neither phone, lid nor group"))
    return number


def _content(content: Content, account: Account) -> tuple[str, dict[str, Any]]:
    match content.kind:
        case "text":
            return "sendText", {"text": content.text, "linkPreview": False}
        case "template":
            return "sendTemplate", _template(content, account)
        case "audio":
            return "sendWhatsAppAudio", {"audio": media_url(content), "encoding": True}
        case _:
            body: dict[str, Any] = {"mediatype": content.kind, "media": media_url(content)}
            if content.text:
                body["caption"] = content.text
            if content.mime_type:
                body["mimetype"] = content.mime_type
            if content.filename:
                body["fileName"] = content.filename
            return "sendMedia", body


def _template(content: Content, account: Account) -> dict[str, Any]:
    if account.kind == "evolution_web":
        raise UnsendableMessage(Rejected(f.UNSUPPORTED, text="templates need the Cloud API"))
    if not content.template_name:
        raise UnsendableMessage(Rejected(f.BAD_REQUEST, text="a template without a name"))
    return {
        "name": content.template_name,
        "language": content.template_language or "pt_BR",
        "components": [dict(component) for component in content.template_components],
    }


def read_response(status: int, headers: Mapping[str, str], body: bytes) -> SendOutcome:
    wait_s = retry_after_s(headers)
    answer = read_any(body)
    if not isinstance(answer, dict):
        return _unreadable(status, wait_s)
    if not 200 <= status < 300:
        return read_error_answer(status, answer, wait_s)
    key = obj(answer.get("key"))
    message_id = identity(key.get("id"))
    if message_id is not None:
        canonical = join_addresses(read_jid(key.get("remoteJid")), read_jid(key.get("remoteJidAlt")))
        return Accepted(message_id, canonical or None)
    refused = _graph_error(answer)
    if refused is not None:
        return read_error(refused, status, wait_s)
    return Ambiguous("accepted_without_id")


def _graph_error(answer: Mapping[str, Any]) -> Mapping[str, Any] | None:
    """Cloud mode answers 201 with Graph's error object in place of the message."""
    inner = obj(answer.get("error"))
    if whole(inner.get("code")) is not None:
        return inner
    return answer if whole(answer.get("code")) is not None else None


def _unreadable(status: int, wait_s: float | None) -> SendOutcome:
    """An answer that Evolution did not write: a proxy's page, or one cut short."""
    if status == 429:
        return Throttled("account", wait_s, "429", f.ACCOUNT_RATE)
    if status in (401, 403, 404):
        return Rejected(f.CREDENTIALS if status != 404 else f.NO_SUCH_INSTANCE, str(status))
    if status in (405, 411, 413, 414, 415):
        return Rejected(f.BAD_REQUEST, str(status))
    return Ambiguous(f"http_{status}_unreadable")
