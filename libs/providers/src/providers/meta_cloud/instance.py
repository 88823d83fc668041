"""A number at Meta: its state, quality and limits; there is no QR code and nothing to create."""

from collections.abc import Mapping
from typing import Any, Final
from urllib.parse import quote

import orjson

from providers import failures as f
from providers.calls import (
    CallAnswer,
    CallDone,
    CallFailed,
    LimitsAnswered,
    LookUp,
    LookUpFailed,
    WebhookTarget,
)
from providers.meta_cloud.codes import RATE_HIGH, RATE_STANDARD, is_unlimited, people_per_24h, read_error
from providers.meta_cloud.send import graph_headers, graph_url
from providers.protocol import Account, HttpRequest, OutboundMessage, Rejected, Throttled
from providers.wire import obj, read_any, text

FIELDS: Final = (
    "display_phone_number,verified_name,quality_rating,status,name_status,code_verification_status,throughput,"
    "platform_type,health_status,whatsapp_business_manager_messaging_limit"
)


_RATES: Final[Mapping[str, int]] = {"STANDARD": RATE_STANDARD, "HIGH": RATE_HIGH}


def state_request(account: Account) -> HttpRequest:
    path = f"{quote(account.phone_number_id or '', safe='')}?fields={FIELDS}"
    return HttpRequest("GET", graph_url(account, path), graph_headers(account))


def probe_request(account: Account) -> HttpRequest:
    """Limits grow and shrink by themselves, and not every change is told."""
    return state_request(account)


def connect_requests(account: Account, webhook: WebhookTarget) -> tuple[HttpRequest, ...]:
    return (state_request(account), *webhook_requests(account, webhook))


def webhook_requests(account: Account, webhook: WebhookTarget) -> tuple[HttpRequest, ...]:
    """Subscribes our app to the account, overriding the callback for it; needs its id (`business_id`)."""
    waba = account.credentials.get("business_id")
    if not waba:
        return ()
    body = orjson.dumps({"override_callback_uri": webhook.url, "verify_token": webhook.key})
    url = graph_url(account, f"{quote(waba, safe='')}/subscribed_apps")
    return (HttpRequest("POST", url, graph_headers(account), body),)


def disconnect_requests(account: Account) -> tuple[HttpRequest, ...]:  # noqa: ARG001
    """None: deregistering a number is the owner's decision, made at Meta."""
    return ()


def delete_requests(account: Account) -> tuple[HttpRequest, ...]:  # noqa: ARG001
    return ()


def read_call(status: int, headers: Mapping[str, str], body: bytes) -> CallAnswer:  # noqa: ARG001
    answer = obj(read_any(body))
    error = answer.get("error")
    if isinstance(error, dict):
        return _failed(error, status)
    if not 200 <= status < 300:
        return CallFailed(f.PROVIDER_BUSY, status, retryable=status >= 500 or status == 429)
    if "display_phone_number" in answer or "quality_rating" in answer:
        throughput = text(obj(answer.get("throughput")).get("level"))
        tier = _tier(answer)
        return LimitsAnswered(
            phone=text(answer.get("display_phone_number")),
            verified_name=text(answer.get("verified_name")),
            quality=text(answer.get("quality_rating")),
            tier=tier,
            throughput=throughput,
            status=text(answer.get("status")),
            unique_per_24h=people_per_24h(tier),
            unlimited=is_unlimited(tier),
            messages_per_second=_RATES.get(throughput or ""),
        )
    return CallDone(answer)


def _tier(answer: Mapping[str, Any]) -> str | None:
    limit = answer.get("whatsapp_business_manager_messaging_limit")
    return text(limit) or text(obj(limit).get("current_limit")) or text(answer.get("messaging_limit_tier"))


def _failed(error: Mapping[str, Any], status: int) -> CallFailed:
    outcome = read_error(error, status, None)
    if isinstance(outcome, (Rejected, Throttled)):
        return CallFailed(outcome.failure, status, outcome.text, outcome.failure.retryable)
    return CallFailed(f.PROVIDER_BUSY, status, text(error.get("message")) or "", retryable=True)


def look_up_request(
    message: OutboundMessage,  # noqa: ARG001
    account: Account,  # noqa: ARG001
    *,
    since_ms: int,  # noqa: ARG001
    until_ms: int,  # noqa: ARG001
) -> None:
    """None: Meta's history is asked by message id, which is what we do not know; the label in statuses settles."""
    return


def read_look_up(
    message: OutboundMessage,  # noqa: ARG001
    since_ms: int,  # noqa: ARG001
    status: int,  # noqa: ARG001
    headers: Mapping[str, str],  # noqa: ARG001
    body: bytes,  # noqa: ARG001
) -> LookUp:
    return LookUpFailed("not_available")
