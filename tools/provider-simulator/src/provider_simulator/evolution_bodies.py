"""What Evolution API v2 accepts and how it refuses. Pure."""

from dataclasses import dataclass
from typing import Any

from provider_simulator.people import canonical_phone, digits_of

_REASONS = {400: "Bad Request", 401: "Unauthorized", 403: "Forbidden", 404: "Not Found",
            500: "Internal Server Error"}  # fmt: skip
REQUIRED: dict[str, tuple[str, ...]] = {
    "sendText": ("number", "text"),
    "sendMedia": ("number", "mediatype", "media"),
    "sendWhatsAppAudio": ("number", "audio"),
    "sendPtv": ("number", "video"),
    "sendSticker": ("number", "sticker"),
    "sendLocation": ("number", "latitude", "longitude", "name", "address"),
    "sendContact": ("number", "contact"),
    "sendReaction": ("key", "reaction"),
    "sendPoll": ("number", "name", "selectableCount", "values"),
    "sendList": ("number", "title", "footerText", "buttonText", "sections"),
    "sendButtons": ("number", "buttons"),
    "sendStatus": ("type", "content"),
    "sendTemplate": ("number", "name", "language"),
}
NOT_ON_CLOUD = frozenset({"sendSticker", "sendPoll", "sendStatus", "sendPtv"})
OWN_ID_HONOURED = frozenset({"sendText", "sendMedia", "sendSticker", "sendPtv", "sendPoll"})  # since 2.4.0
MESSAGE_TYPES = {
    "sendText": "conversation", "sendWhatsAppAudio": "audioMessage", "sendPtv": "ptvMessage",
    "sendSticker": "stickerMessage", "sendLocation": "locationMessage", "sendContact": "contactMessage",
    "sendReaction": "reactionMessage", "sendPoll": "pollCreationMessageV3", "sendList": "listMessage",
    "sendButtons": "viewOnceMessage", "sendStatus": "extendedTextMessage", "sendTemplate": "templateMessage",
}  # fmt: skip


@dataclass(frozen=True, slots=True)
class EvolutionError:
    """A refusal: HTTP status and what stands under `response.message`."""

    http_status: int
    message: Any

    def body(self) -> dict[str, Any]:
        """The envelope."""
        reason = _REASONS.get(self.http_status, "Error")
        return {"status": self.http_status, "error": reason, "response": {"message": self.message}}


UNAUTHORIZED = EvolutionError(401, "Unauthorized")
NOT_AVAILABLE = EvolutionError(400, ["Method not available on WhatsApp Business API"])
NETWORK_ON_CLOUD = EvolutionError(400, ["TypeError: Cannot read properties of undefined (reading '0')"])


def unknown_instance(name: str) -> EvolutionError:
    """There is no such instance."""
    return EvolutionError(404, [f'The "{name}" instance does not exist'])


def lacks(name: str) -> EvolutionError:
    """The schema misses a property: a list inside a list."""
    return EvolutionError(400, [[f'instance requires property "{name}"']])


def number_missing(jid: str, number: str) -> EvolutionError:
    """The phone is not on WhatsApp."""
    return EvolutionError(400, [{"jid": jid, "exists": False, "number": number}])


def check_send(verb: str, body: Any) -> EvolutionError | None:
    """Whether the body has what the verb needs, in the right kinds."""
    if not isinstance(body, dict):
        return EvolutionError(400, [["instance is not of a type(s) object"]])
    for name in REQUIRED[verb]:
        if name not in body or (body[name] in ("", None) and name != "reaction"):
            return lacks(name)
    for name in ("number", "text", "media", "audio", "caption", "fileName"):
        if name in body and not isinstance(body[name], str):
            return EvolutionError(400, [[f"instance.{name} is not of a type(s) string"]])
    delay = body.get("delay")
    if delay is not None and (isinstance(delay, bool) or not isinstance(delay, int)):
        return EvolutionError(400, [["instance.delay is not of a type(s) integer"]])
    if verb == "sendMedia" and body["mediatype"] not in ("image", "document", "video", "audio"):
        return EvolutionError(400, [["instance.mediatype is not one of enum values: image,document,video,audio"]])
    if verb == "sendPoll" and not (isinstance(body["values"], list) and len(body["values"]) >= 2):
        return EvolutionError(400, [["instance.values does not meet minimum length of 2"]])
    return None


def media_of(body: dict[str, Any]) -> str | None:
    """The media's URL or base64, if the message has one."""
    for name in ("media", "audio", "video", "sticker"):
        if isinstance(body.get(name), str):
            return str(body[name])
    return None


def check_media(media: str) -> EvolutionError | None:
    """Fetching and converting the media. A URL with /404 in it is missing, with /not-media is a web page."""
    if not media.startswith("http"):
        return None
    if "/404" in media:
        return EvolutionError(500, "Request failed with status code 404")
    if "/not-media" in media:
        return EvolutionError(500, "Input buffer contains unsupported image format")
    return None


def jid_of(number: str) -> str:
    """The chat's JID: as given, a group, or the canonical phone."""
    if "@" in number:
        return number
    digits = digits_of(number)
    if len(digits) >= 18 or "-" in number:
        return f"{number}@g.us"
    return f"{canonical_phone(digits)}@s.whatsapp.net"


def text_of(verb: str, body: dict[str, Any]) -> str:
    """What the person reads."""
    for name in ("text", "caption", "name", "title", "reaction", "fileName"):
        if isinstance(body.get(name), str):
            return str(body[name])
    return "" if verb != "sendTemplate" else str(body.get("name", ""))


def message_of(verb: str, body: dict[str, Any]) -> tuple[str, dict[str, Any]]:
    """The message type and content as the answer and the events show them."""
    if verb == "sendText":
        return "conversation", {"conversation": body["text"]}
    if verb == "sendMedia":
        kind = f"{body['mediatype']}Message"
        content = {"mimetype": body.get("mimetype"), "caption": body.get("caption"), "fileName": body.get("fileName")}
        return kind, {kind: {name: value for name, value in content.items() if value is not None}}
    if verb == "sendLocation":
        place = {"degreesLatitude": body["latitude"], "degreesLongitude": body["longitude"], "name": body["name"]}
        return "locationMessage", {"locationMessage": place}
    if verb == "sendReaction":
        return "reactionMessage", {"reactionMessage": {"key": body["key"], "text": body["reaction"]}}
    kind = MESSAGE_TYPES[verb]
    return kind, {kind: {}}
