"""The bodies and headers of Evolution's webhooks. Pure."""

import base64
import hmac
from datetime import UTC, datetime, timedelta
from typing import Any

import orjson

from provider_simulator.journeys import Step
from provider_simulator.numbers import Number
from provider_simulator.people import Message

# The server writes its local time (here three hours behind) and marks it as UTC: a known trap.
LOCAL_OFFSET = timedelta(hours=-3)
WEB_STATUS = {"sent": "SERVER_ACK", "delivered": "DELIVERY_ACK", "read": "READ", "failed": "ERROR"}
CLOUD_STATUS = {"sent": "SENT", "delivered": "DELIVERED", "read": "READ", "failed": "FAILED"}


def subscription_name(event: str) -> str:
    """messages.upsert -> MESSAGES_UPSERT."""
    return event.replace(".", "_").replace("-", "_").upper()


def wants(number: Number, event: str) -> bool:
    """Whether the instance's webhook has this event."""
    hook = number.hook
    return bool(hook.url) and hook.enabled and (not hook.events or subscription_name(event) in hook.events)


def url_of(number: Number, event: str) -> str:
    """The URL, with the event's path when the webhook is by events."""
    return f"{number.hook.url}/{event.replace('.', '-')}" if number.hook.by_events else number.hook.url


def envelope(number: Number, event: str, data: Any, at: datetime, server_url: str) -> bytes:
    """The whole body."""
    local = (at + LOCAL_OFFSET).strftime("%Y-%m-%dT%H:%M:%S.") + f"{at.microsecond // 1000:03d}Z"
    return orjson.dumps({
        "event": event, "instance": number.id, "data": data, "destination": number.hook.url,
        "date_time": local, "sender": f"{number.phone}@s.whatsapp.net" if number.phone else None,
        "server_url": server_url, "apikey": None,
    })  # fmt: skip


def bearer(key: str, at: datetime) -> str:
    """The ten-minute HS256 token that the special header `jwt_key` turns into."""
    now_s = int(at.timestamp())
    claims = {"iat": now_s, "exp": now_s + 600, "app": "evolution", "action": "webhook"}
    parts = [_b64(orjson.dumps({"alg": "HS256", "typ": "JWT"})), _b64(orjson.dumps(claims))]
    signed = ".".join(parts)
    return f"Bearer {signed}.{_b64(hmac.digest(key.encode(), signed.encode(), 'sha256'))}"


def _b64(data: bytes) -> str:
    return base64.urlsafe_b64encode(data).rstrip(b"=").decode()


def headers_of(number: Number, event: str, at: datetime, version: str) -> dict[str, str]:
    """The configured headers, and what the version adds."""
    headers = {"content-type": "application/json", "user-agent": "axios/1.7.9"}
    for name, value in number.hook.headers.items():
        if name == "jwt_key":
            headers["Authorization"] = bearer(value, at)
        else:
            headers[name] = value
    if version.startswith("2.4"):
        headers |= {
            "user-agent": f"EvolutionAPI-Webhook/{version}", "X-Instance-ID": number.row_id,
            "X-Instance-Name": number.id, "X-Event-Type": event,
            "X-Timestamp": str(int(at.timestamp() * 1000)),
        }  # fmt: skip
    return headers


def sent_data(number: Number, message: Message, kind: str, content: dict[str, Any]) -> dict[str, Any]:
    """An outgoing message, as the answer of the send and `send.message` show it."""
    cloud = number.kind == "evolution_cloud"
    data: dict[str, Any] = {
        "key": {"remoteJid": message.to, "fromMe": True, "id": message.id},
        "pushName": "Você", "status": "PENDING", "message": content, "contextInfo": None,
        "messageType": kind, "messageTimestamp": message.at_ms // 1000, "instanceId": number.row_id,
        "source": "unknown" if cloud else "web",
    }  # fmt: skip
    if cloud:
        data["webhookUrl"] = ""
        del data["pushName"], data["contextInfo"]
    return data


def update_data(number: Number, message: Message, step: Step) -> dict[str, Any]:
    """One messages.update."""
    cloud = number.kind == "evolution_cloud"
    return {
        "messageId": message.row, "keyId": message.id, "remoteJid": message.to, "fromMe": not cloud,
        "participant": None, "status": (CLOUD_STATUS if cloud else WEB_STATUS)[step.status],
        "instanceId": number.row_id,
    }  # fmt: skip


def inbound_key(number: Number, message_id: str, phone: str, lid: str | None, version: str) -> dict[str, Any]:
    """The key of a person's message. `lid` given: the person is addressed by it, as the version does."""
    phone_jid = f"{phone}@s.whatsapp.net"
    key: dict[str, Any] = {"id": message_id, "remoteJid": phone_jid, "fromMe": False}
    if number.kind == "evolution_cloud":
        return key
    key["participant"] = ""
    if lid is None:
        return key
    if version.startswith("2.4"):
        return {**key, "remoteJidAlt": f"{lid}@lid", "addressingMode": "pn"}
    if version in ("2.3.5", "2.3.6"):
        return {**key, "remoteJid": f"{lid}@lid", "remoteJidAlt": phone_jid, "addressingMode": "lid"}
    return {**key, "remoteJidAlt": phone_jid, "addressingMode": "lid"}


def inbound_message(content: dict[str, Any]) -> tuple[str, dict[str, Any], str]:
    """A person's content in Evolution's shape: type, message, text. `message` in it is passed on as it is."""
    if isinstance(content.get("message"), dict):
        kind = str(content.get("messageType") or next(iter(content["message"])))
        return kind, content["message"], ""
    if content.get("type", "text") == "text":
        text = str(content.get("text", {}).get("body", ""))
        return "conversation", {"conversation": text}, text
    kind = f"{content['type']}Message"
    return kind, {kind: content.get(content["type"], {})}, ""


def now() -> datetime:
    """The wall clock."""
    return datetime.now(UTC)
