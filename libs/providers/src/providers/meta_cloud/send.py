"""Sending through the WhatsApp Cloud API: POST /{version}/{phone number id}/messages.

https://developers.facebook.com/docs/whatsapp/cloud-api/reference/messages (read 2026-11). There is no idempotency
key: a repeated POST is a second message. Our label travels as `biz_opaque_callback_data` and comes back on statuses.
"""

import hashlib
import hmac
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Final
from urllib.parse import quote

import orjson

from providers import failures as f
from providers.events import Address
from providers.meta_cloud.codes import CAPTION_LIMIT, LABEL_LIMIT, TEXT_LIMIT, read_error, unreadable_answer
from providers.protocol import (
    Accepted,
    Account,
    Ambiguous,
    Content,
    HttpRequest,
    OutboundMessage,
    Rejected,
    SendOutcome,
    UnsendableMessage,
    media_url,
)
from providers.wire import header, identity, obj, objects, read_any, retry_after_s, text, whole

DEFAULT_URL: Final = "https://graph.facebook.com"
_HELD: Final = frozenset({"held_for_quality_assessment", "paused"})


@dataclass(frozen=True, slots=True)
class Usage:
    """X-Business-Use-Case-Usage: the highest share of the limit used (percent), and minutes to wait as seconds."""

    percent: int
    regain_access_s: float


def graph_url(account: Account, path: str) -> str:
    """An address under the Graph API; `appsecret_proof` is added where the app's secret is known."""
    base = (account.server_url or DEFAULT_URL).rstrip("/")
    url = f"{base}/{account.graph_version}/{path}"
    secret = account.credentials.get("app_secret")
    if secret:
        token = account.credentials.get("access_token", "")
        proof = hmac.new(secret.encode(), token.encode(), hashlib.sha256).hexdigest()
        url += f"{'&' if '?' in path else '?'}appsecret_proof={proof}"
    return url


def graph_headers(account: Account) -> dict[str, str]:
    return {
        "Authorization": f"Bearer {account.credentials.get('access_token', '')}",
        "Content-Type": "application/json",
    }


def build_request(message: OutboundMessage, account: Account) -> HttpRequest:
    body: dict[str, Any] = {"messaging_product": "whatsapp"}
    recipient = message.recipient
    if recipient.group:
        body["recipient_type"] = "group"
        body["to"] = recipient.group
    else:
        body["recipient_type"] = "individual"
        if recipient.phone:
            body["to"] = recipient.phone
        elif recipient.bsuid:
            body["recipient"] = recipient.bsuid
        else:
            raise UnsendableMessage(Rejected(f.BAD_REQUEST, text="neither phone nor bsuid"))
    kind, value = _content(message.content)
    body["type"] = kind
    body[kind] = value
    if message.reply_to:
        body["context"] = {"message_id": message.reply_to}
    if message.client_ref:
        body["biz_opaque_callback_data"] = message.client_ref[:LABEL_LIMIT]
    path = f"{quote(account.phone_number_id or '', safe='')}/messages"
    return HttpRequest("POST", graph_url(account, path), graph_headers(account), orjson.dumps(body))


def _content(content: Content) -> tuple[str, dict[str, Any]]:
    limit = TEXT_LIMIT if content.kind == "text" else CAPTION_LIMIT
    if content.kind not in ("template", "audio") and len(content.text) > limit:
        raise UnsendableMessage(Rejected(f.BAD_REQUEST, text=f"longer than {limit} characters"))
    if content.kind == "text":
        return "text", {"body": content.text, "preview_url": False}
    if content.kind == "template":
        if not content.template_name:
            raise UnsendableMessage(Rejected(f.BAD_REQUEST, text="a template without a name"))
        template: dict[str, Any] = {
            "name": content.template_name,
            "language": {"code": content.template_language or "pt_BR"},
        }
        if content.template_components:
            template["components"] = [dict(component) for component in content.template_components]
        return "template", template
    media: dict[str, Any] = {"link": media_url(content)}
    if content.text and content.kind != "audio":
        media["caption"] = content.text
    if content.kind == "document" and content.filename:
        media["filename"] = content.filename
    return content.kind, media


def read_response(status: int, headers: Mapping[str, str], body: bytes) -> SendOutcome:
    wait_s = _wait_s(status, headers)
    answer = read_any(body)
    if not isinstance(answer, dict):
        return unreadable_answer(status, wait_s)
    error = answer.get("error")
    if isinstance(error, dict):
        return read_error(error, status, wait_s)
    if not 200 <= status < 300:
        return unreadable_answer(status, wait_s)
    message = obj(next(iter(objects(answer.get("messages"))), None))
    wamid = identity(message.get("id"))
    if wamid is None:
        return Ambiguous("accepted_without_id")
    return Accepted(wamid, _canonical(answer), held=message.get("message_status") in _HELD)


def _canonical(answer: Mapping[str, Any]) -> Address | None:
    for contact in objects(answer.get("contacts")):
        address = Address(phone=text(contact.get("wa_id")), bsuid=text(contact.get("user_id")))
        if address:
            return address
    return None


def read_usage(headers: Mapping[str, str]) -> Usage | None:
    """How much of the business limits is used; slow down above 80 percent."""
    value = header(headers, "x-business-use-case-usage")
    if value is None:
        return None
    reports = [
        report
        for reports_of_account in obj(read_any(value.encode())).values()
        for report in objects(reports_of_account)
    ]
    if not reports:
        return None
    percent = max(
        whole(report.get(name)) or 0 for report in reports for name in ("call_count", "total_cputime", "total_time")
    )
    minutes = max(whole(report.get("estimated_time_to_regain_access")) or 0 for report in reports)
    return Usage(percent, minutes * 60.0)


def _wait_s(status: int, headers: Mapping[str, str]) -> float | None:
    wait_s = retry_after_s(headers)
    if wait_s is None and status >= 400:
        usage = read_usage(headers)
        wait_s = usage.regain_access_s if usage and usage.regain_access_s else None
    return wait_s


def own_message_id(message: OutboundMessage, account: Account) -> None:  # noqa: ARG001
    """None: the provider alone makes ids."""
    return
