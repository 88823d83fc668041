"""Webhooks about the account itself: limits, quality, templates, bans."""

import hashlib
from collections.abc import Mapping
from typing import Any, Final, NamedTuple

import orjson

from providers.events import (
    AccountSeen,
    Ignored,
    LimitSeen,
    Standing,
    TemplateSeen,
    TemplateStanding,
    WebhookEvent,
)
from providers.meta_cloud.codes import RATE_HIGH, is_unlimited, people_per_24h
from providers.wire import milliseconds, obj, objects, text, whole

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
# Whether a template may be sent. What else is told of it (in review, an edit refused, in appeal) is of one version or
# language, while another may well be sent: the answers to sends tell of these.
_TEMPLATE_STANDINGS: Final[Mapping[str, TemplateStanding]] = {
    "APPROVED": "usable",
    "REINSTATED": "usable",
    "PAUSED": "paused",
    "DISABLED": "disabled",
}
# Restrictions that keep messages from leaving. Others (adding numbers, say) do not concern what is sent.
_SENDING_RESTRICTED: Final = frozenset(
    {"RESTRICTED_BIZ_INITIATED_MESSAGING", "RESTRICTED_CUSTOMER_INITIATED_MESSAGING"}
)
_QUALITIES: Final = frozenset({"FLAGGED", "UNFLAGGED", "DOWNGRADE", "UPGRADE"})


class _Said(NamedTuple):
    standing: Standing | None = None
    reason: str = ""
    until_ms: int | None = None


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
            unlimited=is_unlimited(tier), quality=event if event in _QUALITIES else None,
            messages_per_second=RATE_HIGH if event == "THROUGHPUT_UPGRADE" else None,
        )  # fmt: skip
    if field == "business_capability_update":
        tier = _tier(value.get("max_daily_conversations_per_business", value.get("max_daily_conversation_per_phone")))
        return LimitSeen(
            key=key, raw=value, channel=channel, at_ms=at_ms, event="CAPABILITY", tier=tier, account=account,
            unique_per_24h=people_per_24h(tier), unlimited=is_unlimited(tier),
        )  # fmt: skip
    if field in _TEMPLATE_FIELDS:
        said_now = event or text(value.get("new_quality_score")) or text(value.get("new_category")) or field
        return TemplateSeen(
            key=key, raw=value, channel=channel, at_ms=at_ms, event=said_now, account=account,
            name=text(value.get("message_template_name")), language=text(value.get("message_template_language")),
            reason=text(value.get("reason")),
            standing=_TEMPLATE_STANDINGS.get(said_now) if field == "message_template_status_update" else None,
        )  # fmt: skip
    if field in _ACCOUNT_FIELDS:
        said_now = event or text(value.get("decision")) or text(value.get("alert_type")) or field
        told = _of_update(said_now, value) if field == "account_update" else _of_alert(field, value)
        return AccountSeen(
            key=key, raw=value, channel=channel, at_ms=at_ms, event=said_now, account=account,
            standing=told.standing, reason=told.reason, until_ms=told.until_ms,
        )  # fmt: skip
    return Ignored(key=key, raw=value, channel=channel, at_ms=at_ms, reason=f"field_{field or 'missing'}")


def _of_update(event: str, value: Mapping[str, Any]) -> _Said:
    match event:
        case "DISABLED_UPDATE":
            state = text(obj(value.get("ban_info")).get("waba_ban_state"))
            match state:
                case "DISABLE":
                    return _Said("disabled", "DISABLE")
                case "SCHEDULE_FOR_DISABLE":
                    return _Said("warned", "SCHEDULE_FOR_DISABLE")
                case "REINSTATE":
                    return _Said("good", "REINSTATE")
            return _Said()
        case "ACCOUNT_RESTRICTION":
            return _restriction(value)
        case "ACCOUNT_VIOLATION":
            violation = text(obj(value.get("violation_info")).get("violation_type"))
            return _Said("warned", violation or event)
        case "ACCOUNT_DELETED" | "ACCOUNT_OFFBOARDED":
            return _Said("disabled", event)
        case "ACCOUNT_RECONNECTED":
            return _Said("good", event)
        case _:
            return _Said()


def _restriction(value: Mapping[str, Any]) -> _Said:
    """The one that lasts longest of those that keep messages from leaving; one without an end outlasts all."""
    found = [
        (text(one.get("restriction_type")) or "", milliseconds(one.get("expiration")))
        for one in objects(value.get("restriction_info"))
        if text(one.get("restriction_type")) in _SENDING_RESTRICTED
    ]
    if not found:
        return _Said()
    reason, until_ms = max(found, key=lambda one: (one[1] is None, one[1] or 0))
    return _Said("restricted", reason, until_ms)


def _of_alert(field: str, value: Mapping[str, Any]) -> _Said:
    alert = obj(value.get("alert_info")) or value
    if field == "account_alerts" and text(alert.get("alert_severity")) in ("WARNING", "CRITICAL"):
        return _Said("warned", text(alert.get("alert_type")) or field)
    return _Said()


def _tier(value: object) -> str | int | None:
    number = whole(value)
    return number if number is not None else text(value)
