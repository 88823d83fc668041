"""Webhooks about the account itself: limits, quality, templates, bans."""

import hashlib
from collections.abc import Mapping
from typing import Any

import orjson

from providers.events import AccountSeen, Ignored, LimitSeen, TemplateSeen, WebhookEvent
from providers.meta_cloud.codes import RATE_HIGH, people_per_24h
from providers.wire import milliseconds, text, whole

_DAY_MS = 86_400_000
_TEMPLATE_FIELDS = frozenset(
    {
        "message_template_status_update",
        "message_template_quality_update",
        "message_template_components_update",
        "template_category_update",
        "template_correct_category_detection",
    }
)
_ACCOUNT_FIELDS = frozenset(
    {
        "account_update",
        "account_alerts",
        "account_review_update",
        "account_settings_update",
        "phone_number_name_update",
        "security",
        "partner_solutions",
        "payment_configuration_update",
    }
)


def read_account_change(
    entry: Mapping[str, Any], field: str, value: Mapping[str, Any], channel: str | None
) -> WebhookEvent:
    """These carry no id of their own: the key is what they say, and the day that Meta says it on."""
    account = text(entry.get("id"))
    at_ms = milliseconds(entry.get("time"))
    said = hashlib.sha256(orjson.dumps(value, option=orjson.OPT_SORT_KEYS)).hexdigest()[:32]
    day = at_ms // _DAY_MS if at_ms is not None else ""
    key = f"{field}|{account}|{said}|{day}"
    event = text(value.get("event"))
    if field == "phone_number_quality_update":
        tier = _tier(value.get("max_daily_conversations_per_business")) or text(value.get("current_limit"))
        return LimitSeen(
            key=key, raw=value, channel=channel, at_ms=at_ms, event=event or "QUALITY", tier=tier, account=account,
            phone=text(value.get("display_phone_number")), unique_per_24h=people_per_24h(tier),
            messages_per_second=RATE_HIGH if event == "THROUGHPUT_UPGRADE" else None,
        )  # fmt: skip
    if field == "business_capability_update":
        tier = _tier(value.get("max_daily_conversations_per_business", value.get("max_daily_conversation_per_phone")))
        return LimitSeen(
            key=key,
            raw=value,
            channel=channel,
            at_ms=at_ms,
            event="CAPABILITY",
            tier=tier,
            account=account,
            unique_per_24h=people_per_24h(tier),
        )
    if field in _TEMPLATE_FIELDS:
        said_now = event or text(value.get("new_quality_score")) or text(value.get("new_category")) or field
        return TemplateSeen(
            key=key, raw=value, channel=channel, at_ms=at_ms, event=said_now, account=account,
            name=text(value.get("message_template_name")), language=text(value.get("message_template_language")),
            reason=text(value.get("reason")),
        )  # fmt: skip
    if field in _ACCOUNT_FIELDS:
        said_now = event or text(value.get("decision")) or text(value.get("alert_type")) or field
        return AccountSeen(key=key, raw=value, channel=channel, at_ms=at_ms, event=said_now, account=account)
    return Ignored(key=key, raw=value, channel=channel, at_ms=at_ms, reason=f"field_{field or 'missing'}")


def _tier(value: object) -> str | int | None:
    number = whole(value)
    return number if number is not None else text(value)
