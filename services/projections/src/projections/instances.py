"""Instances as people see them: the configuration without secrets, and their health. Two orders that never mix."""

from typing import Any, Final
from uuid import UUID

from contracts import instances as events
from contracts.envelope import Envelope, Event
from projections.registers import Fact, Row, time_key, version_key

TABLE: Final = "instance"
EMPTY: Final[Row] = {
    "name": "",
    "provider": None,
    "server_url": None,
    "phone_number": None,
    "phone_number_id": None,
    "gateway_instance": None,
    "portfolio_id": None,
    "webhook_url": None,
    "status": "active",
    "is_active": True,
    "is_default": False,
    "max_users": 250,
    "tier": None,
    "limits": None,
    "deleted": False,
    "owner_id": None,
    "created_at": None,
    "updated_at": None,
    "connection": "disconnected",
    "connection_reason": None,
    "connected_phone": None,
    "qr_code": None,
    "pairing_code": None,
    "banned_at": None,
    "banned_reason": None,
    "throttled_mps": None,
    "breaker": "closed",
    "breaker_reason": None,
    "breaker_until": None,
    "measured_tier": None,
    "measured_unique_per_24h": None,
    "measured_mps": None,
    "quality": None,
    "last_event_at": None,
    "keys": {},
}
_SECRET: Final = {
    "credentials",
    "webhook_key_hashes",
    "wanted",
    "wanted_version",
    "created_at",
    "warm_up",
    "limits_by_hand",
}


def read_fact(envelope: Envelope, event: Event) -> Fact | None:
    """None for any event of another family."""
    if envelope.account_id is None:
        return None
    instance_id = UUID(envelope.subject)
    if isinstance(event, events.InstanceConfigured):
        values = event.model_dump(mode="json", exclude=_SECRET)
        values["updated_at"] = envelope.time.isoformat()
        # The topic is compacted: the time of the first configuration must be told by each, it cannot be remembered.
        values["created_at"] = (event.created_at or envelope.time).isoformat()
        return Fact(envelope.account_id, instance_id, version_key(envelope), values)
    if isinstance(event, events.InstanceHealthEvent):
        values = {"last_event_at": event.at.isoformat(), **_health(event)}
        return Fact(envelope.account_id, instance_id, time_key(event.at, envelope.id), values)
    return None


def _health(event: events.InstanceHealthEvent) -> dict[str, Any]:
    match event:
        case events.InstanceConnected():
            connected = {"connection": "connected", "connection_reason": None, "qr_code": None, "pairing_code": None}
            return connected if event.phone_number is None else connected | {"connected_phone": event.phone_number}
        case events.InstanceDisconnected():
            return {"connection": "disconnected", "connection_reason": event.reason, "qr_code": None}
        case events.InstanceConnecting():
            return {"connection": "connecting", "connection_reason": None}
        case events.QrCodeUpdated():
            return {"connection": "connecting", "qr_code": event.qr_code, "pairing_code": event.pairing_code}
        case events.InstanceThrottled():
            return {"throttled_mps": event.messages_per_second}
        case events.InstanceRateRestored():
            return {"throttled_mps": None}
        case events.BreakerOpened():
            until = None if event.until is None else event.until.isoformat()
            return {"breaker": "open", "breaker_reason": event.reason, "breaker_until": until}
        case events.BreakerClosed():
            return {"breaker": "closed", "breaker_reason": None, "breaker_until": None}
        case events.InstanceLimitsChanged():
            told = {
                "measured_tier": event.tier,
                "measured_unique_per_24h": event.unique_per_24h,
                "measured_mps": event.messages_per_second,
                "quality": event.quality,
            }
            return {name: value for name, value in told.items() if value is not None}
        case events.WarmUpChanged() | events.AccountStandingChanged() | events.TemplateStatusChanged():
            return {}
        case events.WebhookLeftUnread() | events.UnreadWebhookSettled():
            return {}
        case events.InstanceBanned():
            return {"banned_at": event.at.isoformat(), "banned_reason": event.reason}
