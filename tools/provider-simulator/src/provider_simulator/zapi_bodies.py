"""What Z-API accepts, and the bodies of its answers and callbacks. Pure."""

from typing import Any
from urllib.parse import urlsplit

from provider_simulator.journeys import Step
from provider_simulator.numbers import Number
from provider_simulator.people import Message, private_id

REQUIRED: dict[str, tuple[str, ...]] = {
    "send-text": ("phone", "message"),
    "send-image": ("phone", "image"),
    "send-video": ("phone", "video"),
    "send-gif": ("phone", "gif"),
    "send-ptv": ("phone", "ptv"),
    "send-audio": ("phone", "audio"),
    "send-document": ("phone", "document"),
    "send-sticker": ("phone", "sticker"),
    "send-location": ("phone", "title", "address", "latitude", "longitude"),
    "send-contact": ("phone", "contactName", "contactPhone"),
    "send-link": ("phone", "message", "image", "linkUrl", "title", "linkDescription"),
    "send-reaction": ("phone", "messageId", "reaction"),
    "send-remove-reaction": ("phone", "messageId"),
    "send-button-list": ("phone", "message", "buttonList"),
    "send-option-list": ("phone", "message", "optionList"),
    "send-button-actions": ("phone", "message", "buttonActions"),
    "send-poll": ("phone", "message", "poll"),
}
MEDIA = ("image", "video", "gif", "ptv", "audio", "document", "sticker")
UNPAID = "To continue sending a message, you must subscribe to this instance again"
DELIVERY_ERRORS = {
    131026: "Phone number does not exist",
    131047: "Did not have permission to send this message.",
    131048: "The message was not sent due to a likely shadow ban",
    131053: "Message not send caused by invalid media url",
    130429: "It was not possible to send message to queue due to request error.",
    131000: "Timeout on send message",
}
STATUS = {"sent": "SENT", "delivered": "RECEIVED", "read": "READ"}
AGENT = "Mozilla/5.0 (X11; Linux x86_64) AppleWebKit/537.36 (KHTML, like Gecko) Chrome/131.0 Safari/537.36"


def check_send(method: str, body: Any) -> str | None:
    """The text of the refusal, or None."""
    if not isinstance(body, dict):
        return "Invalid body"
    for name in REQUIRED[method]:
        if body.get(name) in (None, "", [], {}):
            return f"{name} is required"
    if not isinstance(body["phone"], str):
        return "phone must be a string"
    for name, low in (("delayMessage", 1), ("delayTyping", 0)):
        value = body.get(name)
        if value is not None and not (isinstance(value, int) and low <= value <= 15):
            return f"{name} must be between {low} and 15"
    if method == "send-location" and not all(isinstance(body[n], str) for n in ("latitude", "longitude")):
        return "latitude and longitude must be strings"
    return None


def media_of(body: dict[str, Any]) -> str | None:
    """The media's URL or data URI, if the message has one."""
    return next((body[name] for name in MEDIA if isinstance(body.get(name), str)), None)


def is_link_allowed(url: str, plain_hosts: tuple[str, ...]) -> bool:
    """https, a data URI, or http at an allowed host."""
    if url.startswith("data:"):
        return True
    parts = urlsplit(url)
    if parts.scheme == "https":
        return bool(parts.hostname)
    return parts.scheme == "http" and (parts.netloc in plain_hosts or parts.hostname in plain_hosts)


def text_of(body: dict[str, Any]) -> str:
    """What the person reads."""
    for name in ("message", "caption", "title", "contactName", "reaction", "fileName"):
        if isinstance(body.get(name), str):
            return str(body[name])
    return ""


def queue_entry(number: Number, message: Message, body: dict[str, Any], created_at: str) -> dict[str, Any]:
    """A waiting message as `POST queue` lists it."""
    return {
        "_id": message.row, "ZaapId": message.row, "MessageId": message.id, "Phone": body["phone"],
        "Message": message.text, "DelayMessage": body.get("delayMessage", 0),
        "DelayTyping": body.get("delayTyping", 0), "Created": message.at_ms, "CreatedAt": created_at,
        "InstanceId": number.id, "IsTrial": False, "Beta": False,
    }  # fmt: skip


def delivery(number: Number, message: Message, at_ms: int, code: int | None) -> dict[str, Any]:
    """DeliveryCallback: accepted by WhatsApp, or failed with a text."""
    body: dict[str, Any] = {
        "phone": message.to, "zaapId": message.row, "messageId": message.id, "instanceId": number.id,
        "momment": at_ms, "type": "DeliveryCallback",
    }  # fmt: skip
    if code is not None:
        # Meta's other reasons have no word of their own here; what Z-API says of a refusal that is not the person's
        # ("Whatsapp rejected sending this message") is about the number.
        body["error"] = DELIVERY_ERRORS.get(code, DELIVERY_ERRORS[131026])
        if code == 131048:
            body["errorCode"] = "SHADOW_BAN"
    return body


def status(number: Number, message: Message, step: Step, at_ms: int) -> dict[str, Any]:
    """MessageStatusCallback."""
    return {
        "instanceId": number.id, "status": STATUS[step.status], "ids": [message.id], "momment": at_ms,
        "phoneDevice": 0, "phone": message.to, "type": "MessageStatusCallback", "isGroup": False,
    }  # fmt: skip


def received(number: Number, message: Message, content: dict[str, Any], name: str, *, lid: bool) -> dict[str, Any]:
    """ReceivedCallback: a person's message, or ours when notifySentByMe is on."""
    private = f"{private_id(message.person)}@lid"
    return {
        "isStatusReply": False, "chatLid": private, "senderLid": private, "connectedPhone": number.phone,
        "waitingMessage": False, "isEdit": False, "isGroup": False, "isNewsletter": False,
        "instanceId": number.id, "messageId": message.id, "phone": private if lid else message.to,
        "fromMe": message.outbound, "momment": message.at_ms // 1000 * 1000, "status": "RECEIVED",
        "chatName": name, "senderPhoto": None, "senderName": name, "photo": None, "broadcast": False,
        "participantLid": None, "forwarded": False, "type": "ReceivedCallback", "fromApi": message.outbound,
        **content,
    }  # fmt: skip
