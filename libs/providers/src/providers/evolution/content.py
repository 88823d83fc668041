"""What is inside a message of WhatsApp Web as Evolution hands it on: type, text, media, quote.

The content key stands among metadata keys in any order, sometimes inside wrappers: "the first key is the type" is a
trap.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Final

from providers.events import Location, Media
from providers.wire import decimal, flag, obj, read_any, text

_WRAPPERS: Final = (
    "viewOnceMessage",
    "viewOnceMessageV2",
    "viewOnceMessageV2Extension",
    "ephemeralMessage",
    "documentWithCaptionMessage",
    "deviceSentMessage",
    "groupMentionedMessage",
    "lottieStickerMessage",
    "botInvokeMessage",
)
_MEDIA: Final[Mapping[str, str]] = {
    "imageMessage": "image",
    "videoMessage": "video",
    "ptvMessage": "video",
    "audioMessage": "audio",
    "documentMessage": "document",
    "stickerMessage": "sticker",
}
TYPES: Final[Mapping[str, str]] = {
    **_MEDIA,
    "locationMessage": "location",
    "liveLocationMessage": "location",
    "contactMessage": "contacts",
    "contactsArrayMessage": "contacts",
    "reactionMessage": "reaction",
    "protocolMessage": "protocol",
    "buttonsResponseMessage": "button_reply",
    "templateButtonReplyMessage": "button_reply",
    "interactiveResponseMessage": "button_reply",
    "listResponseMessage": "list_reply",
    "pollCreationMessage": "poll",
    "pollCreationMessageV2": "poll",
    "pollCreationMessageV3": "poll",
    "pollUpdateMessage": "poll_vote",
    "templateMessage": "template",
    "highlyStructuredMessage": "template",
    "buttonsMessage": "buttons",
    "interactiveMessage": "buttons",
    "listMessage": "list",
    "orderMessage": "order",
    "productMessage": "product",
    "requestPaymentMessage": "payment",
    "sendPaymentMessage": "payment",
    "eventMessage": "event",
    "groupInviteMessage": "invite",
    "newsletterAdminInviteMessage": "invite",
    "pinInChatMessage": "pin",
    "extendedTextMessage": "text",
    "conversation": "text",
}
# Cloud mode keeps only the title of a reply, as a plain text, and says what it was beside it.
_CLOUD_REPLIES: Final = frozenset({"buttonMessage", "interactiveMessage"})


@dataclass(frozen=True, slots=True)
class Reading:
    """The content of one message. `key` is the provider's name of it, `value` what stands under it."""

    type: str
    key: str
    value: Mapping[str, Any]
    text: str | None = None
    choice_id: str | None = None


def unwrap(message: Mapping[str, Any]) -> Mapping[str, Any]:
    """The message inside view-once, ephemeral and similar wrappers."""
    for _ in range(5):
        for wrapper in _WRAPPERS:
            inner = obj(message.get(wrapper)).get("message")
            if isinstance(inner, dict):
                message = inner
                break
        else:
            break
    return message


def read_content(message: Mapping[str, Any], message_type: str | None) -> Reading:
    """`message_type` is the gateway's own hint; it is believed where the message has that key."""
    inner = unwrap(message)
    key = message_type if message_type in TYPES and message_type in inner else None
    if key is None:
        key = next((name for name in TYPES if inner.get(name) is not None), None)
    if key is None:
        return Reading("unsupported", message_type or "", {})
    raw = inner[key]
    value = obj(raw)
    if key in ("conversation", "extendedTextMessage"):
        type_ = "button_reply" if message_type in _CLOUD_REPLIES else "text"
        if message_type == "templateMessage":
            type_ = "template"
        return Reading(type_, key, value, text(raw) if key == "conversation" else text(value.get("text")))
    said, choice_id = _words(key, value)
    return Reading(TYPES[key], key, value, said, choice_id)


def _words(key: str, value: Mapping[str, Any]) -> tuple[str | None, str | None]:
    match key:
        case "buttonsResponseMessage":
            return text(value.get("selectedDisplayText")), text(value.get("selectedButtonId"))
        case "templateButtonReplyMessage":
            return text(value.get("selectedDisplayText")), text(value.get("selectedId"))
        case "listResponseMessage":
            row = obj(value.get("singleSelectReply")).get("selectedRowId")
            return text(value.get("title")), text(row)
        case "interactiveResponseMessage":
            said = text(obj(value.get("body")).get("text"))
            params = text(obj(value.get("nativeFlowResponseMessage")).get("paramsJson"))
            return said, text(obj(read_any(params.encode())).get("id")) if params else None
        case "buttonsMessage":
            return text(value.get("contentText")), None
        case "listMessage":
            return text(value.get("description")) or text(value.get("title")), None
        case "interactiveMessage":
            return text(obj(value.get("body")).get("text")), None
        case "templateMessage":
            hydrated = obj(value.get("hydratedTemplate")) or obj(value.get("hydratedFourRowTemplate"))
            return text(hydrated.get("hydratedContentText")), None
        case _ if key in _MEDIA:
            return text(value.get("caption")), None
        case _:
            return None, None


def read_media(message: Mapping[str, Any], reading: Reading) -> Media | None:
    """`mediaUrl` (the gateway's own storage, expires) before the encrypted address, which needs the media key."""
    if reading.key not in _MEDIA:
        return None
    inner = unwrap(message)
    return Media(
        mime_type=text(reading.value.get("mimetype")) or text(reading.value.get("mime_type")),
        id=text(reading.value.get("id")),
        filename=text(reading.value.get("fileName")) or text(reading.value.get("filename")),
        url=text(message.get("mediaUrl")) or text(inner.get("mediaUrl")) or text(reading.value.get("mediaUrl")),
        inline=isinstance(message.get("base64"), str) or isinstance(inner.get("base64"), str),
    )


def read_voice(reading: Reading) -> bool | None:
    return flag(reading.value.get("ptt")) if reading.key == "audioMessage" else None


def read_location(reading: Reading) -> Location | None:
    if reading.type != "location":
        return None
    value = reading.value
    return Location(
        latitude=decimal(value.get("degreesLatitude", value.get("latitude"))),
        longitude=decimal(value.get("degreesLongitude", value.get("longitude"))),
        name=text(value.get("name")),
        address=text(value.get("address")),
    )


def read_quote(data: Mapping[str, Any], reading: Reading) -> str | None:
    """The id of the quoted message; by version beside the message, in it, or nowhere (2.4 loses it for text)."""
    message = obj(data.get("message"))
    for holder in (data, reading.value, message, unwrap(message)):
        stanza = text(obj(holder.get("contextInfo")).get("stanzaId"))
        if stanza is not None:
            return stanza
    return None
