"""ReceivedCallback of Z-API: messages, and everything else that it wraps in the same shape.

Z-API re-uses message ids: a waiting placeholder, an edit, a deletion and a call may all carry the id of a message, so
each has a key space of its own.
"""

from collections.abc import Mapping
from typing import Any, Final

from providers.address import NOBODY, join_addresses
from providers.events import (
    Address,
    CallSeen,
    DeleteSeen,
    EditSeen,
    GroupSeen,
    Ignored,
    Location,
    Media,
    MessageSeen,
    NotificationSeen,
    Origin,
    PlaceholderSeen,
    ReactionSeen,
    WebhookEvent,
)
from providers.wire import decimal, flag, milliseconds, obj, text

# Content key -> (our type, field of the text, field of the media's address).
_CONTENT: Final[Mapping[str, tuple[str, str | None, str | None]]] = {
    "reaction": ("reaction", None, None),
    "image": ("image", "caption", "imageUrl"),
    "audio": ("audio", None, "audioUrl"),
    "video": ("video", "caption", "videoUrl"),
    "ptv": ("video", "caption", "ptvUrl"),
    "document": ("document", "caption", "documentUrl"),
    "sticker": ("sticker", None, "stickerUrl"),
    "location": ("location", None, None),
    "liveLocation": ("location", "caption", None),
    "contact": ("contacts", None, None),
    "contacts": ("contacts", None, None),
    "buttonsResponseMessage": ("button_reply", "message", None),
    "buttonReply": ("button_reply", "message", None),
    "listResponseMessage": ("list_reply", "message", None),
    "hydratedTemplate": ("template", "message", None),
    "buttonsMessage": ("buttons", "message", None),
    "listMessage": ("list", "message", None),
    "carouselMessage": ("carousel", "text", None),
    "poll": ("poll", "question", None),
    "pollVote": ("poll_vote", None, None),
    "order": ("order", "message", None),
    "product": ("product", "title", None),
    "reviewAndPay": ("payment", None, None),
    "reviewOrder": ("payment", None, None),
    "requestPayment": ("payment", None, None),
    "sendPayment": ("payment", None, None),
    "event": ("event", "name", None),
    "eventResponse": ("event_reply", None, None),
    "pinMessage": ("pin", None, None),
    "pixKeyMessage": ("pix", None, None),
    "newsletterAdminInvite": ("invite", "text", None),
    "text": ("text", "message", None),
}
_GROUP_NOTICES: Final = ("GROUP_", "MEMBERSHIP_", "REVOKED_MEMBERSHIP", "COMMUNITY_")


def read_phone(value: object, *, is_group: bool = False) -> Address:
    """A chat or person as Z-API writes it: digits, or with a suffix that says what it is."""
    name = text(value)
    if name is None:
        return NOBODY
    if name.endswith(("-group", "@g.us")) or is_group:
        return Address(group=name)
    if name.endswith("@lid"):
        return Address(lid=name)
    if name.endswith("@newsletter"):
        return Address(newsletter=name)
    if name.endswith(("-broadcast", "@broadcast")):
        return Address(broadcast=name)
    return Address(phone=name.removesuffix("@s.whatsapp.net").removesuffix("@c.us"))


def _read_peer(payload: Mapping[str, Any]) -> Address:
    """`chatLid` is the steadiest name of a person's chat; a group has none."""
    peer = read_phone(payload.get("phone"), is_group=payload.get("isGroup") is True)
    if peer.group or peer.newsletter or peer.broadcast:
        return peer
    chat_lid = read_phone(payload.get("chatLid"))
    return join_addresses(peer, Address(lid=chat_lid.lid))


def _read_participant(payload: Mapping[str, Any], peer: Address) -> Address:
    named = NOBODY
    if payload.get("participantPhone") or payload.get("participantLid"):
        phone, lid = read_phone(payload.get("participantPhone")), read_phone(payload.get("participantLid"))
        named = Address(phone=phone.phone, lid=phone.lid or lid.lid)
    if named or not peer.group or payload.get("fromMe") is True:
        return named
    return Address(lid=read_phone(payload.get("senderLid")).lid)


def read_received(payload: Mapping[str, Any], channel: str | None) -> WebhookEvent:
    peer = _read_peer(payload)
    message_id = text(payload.get("messageId"))
    from_me = payload.get("fromMe") is True
    origin: Origin = "contact" if not from_me else "api" if payload.get("fromApi") is True else "phone"
    chat: dict[str, Any] = {
        "raw": payload,
        "channel": channel,
        "at_ms": milliseconds(payload.get("momment")),
        "id": message_id,
        "peer": peer or None,
        "participant": _read_participant(payload, peer) or None,
        "direction": "out" if from_me else "in",
        "origin": origin,
        "profile": None if from_me else text(payload.get("senderName")),
    }
    content = _find_content(payload)
    notice = text(payload.get("notification"))
    if content is None and notice is not None:
        return _read_notice(payload, notice, chat)
    if message_id is None:
        return _ignored(payload, channel, "message_without_id")
    if payload.get("waitingMessage") is True:
        return PlaceholderSeen(key=f"placeholder|{channel}|{message_id}", **chat)
    if peer.broadcast == "status@broadcast":
        return _ignored(payload, channel, "broadcast")
    if payload.get("isEdit") is True:
        target = text(payload.get("editMessageId")) or message_id
        said = _text_of(payload, content)
        return EditSeen(key=f"edit|{channel}|{target}|{message_id}", target=target, text=said, **chat)
    if content == "reaction":
        return _read_reaction(payload, chat)
    return _read_message(payload, content, chat)


def _find_content(payload: Mapping[str, Any]) -> str | None:
    """The key of the content; in doubt the first of our table, as a text may stand beside richer content."""
    keys = [name for name in _CONTENT.keys() & payload.keys() if isinstance(payload[name], dict)]
    if len(keys) > 1:
        return next(name for name in _CONTENT if name in keys)
    return keys[0] if keys else None


def _text_of(payload: Mapping[str, Any], content: str | None) -> str | None:
    field = _CONTENT[content][1] if content is not None else None
    return text(obj(payload.get(content)).get(field)) if content and field else None


def _read_message(payload: Mapping[str, Any], content: str | None, chat: dict[str, Any]) -> MessageSeen:
    value = obj(payload.get(content)) if content is not None else {}
    referral = payload.get("externalAdReply")
    return MessageSeen(
        key=f"message|{chat['channel']}|{chat['id']}",
        type=_CONTENT[content][0] if content is not None else "unsupported",
        text=_text_of(payload, content),
        voice=flag(value.get("ptt")) if content == "audio" else None,
        reply_to=text(payload.get("referenceMessageId")),
        media=_media(content, value),
        location=_location(content, value),
        choice_id=_choice(content, value),
        referral=referral if isinstance(referral, dict) else None,
        **chat,
    )


def _media(content: str | None, value: Mapping[str, Any]) -> Media | None:
    field = _CONTENT[content][2] if content is not None else None
    if field is None:
        return None
    return Media(
        mime_type=text(value.get("mimeType")),
        filename=text(value.get("fileName")),
        url=text(value.get(field)),
    )


def _location(content: str | None, value: Mapping[str, Any]) -> Location | None:
    if content not in ("location", "liveLocation"):
        return None
    return Location(
        latitude=decimal(value.get("latitude")),
        longitude=decimal(value.get("longitude")),
        name=text(value.get("name")),
        address=text(value.get("address")),
    )


def _choice(content: str | None, value: Mapping[str, Any]) -> str | None:
    match content:
        case "buttonsResponseMessage" | "buttonReply":
            return text(value.get("buttonId"))
        case "listResponseMessage":
            return text(value.get("selectedRowId"))
        case _:
            return None


def _read_reaction(payload: Mapping[str, Any], chat: dict[str, Any]) -> ReactionSeen:
    reaction = obj(payload.get("reaction"))
    target = text(obj(reaction.get("referencedMessage")).get("messageId")) or ""
    emoji = text(reaction.get("value")) or ""
    return ReactionSeen(key=f"reaction|{chat['channel']}|{chat['id']}", target=target, emoji=emoji, **chat)


def _read_notice(payload: Mapping[str, Any], notice: str, chat: dict[str, Any]) -> WebhookEvent:
    """A callback without content. REVOKE carries the id of the message that was deleted."""
    channel, message_id = chat["channel"], chat["id"]
    if notice == "REVOKE":
        if message_id is None:
            return _ignored(payload, channel, "revoke_without_id")
        return DeleteSeen(key=f"delete|{channel}|{message_id}", target=message_id, **chat)
    place = {"raw": payload, "channel": channel, "at_ms": chat["at_ms"]}
    if notice.startswith("CALL_"):
        call_id = text(payload.get("callId")) or message_id
        key = f"call|{channel}|{call_id}|{notice}"
        return CallSeen(
            key=key, event=notice, id=message_id or call_id, peer=chat["peer"], direction=chat["direction"], **place
        )
    about = message_id or text(payload.get("phone"))
    key = f"notification|{channel}|{notice}|{about}|{text(payload.get('callId')) or ''}"
    if notice.startswith(_GROUP_NOTICES):
        listed = payload.get("notificationParameters")
        people = [read_phone(item) for item in listed if isinstance(item, str)] if isinstance(listed, list) else []
        return GroupSeen(
            key=key,
            event=notice,
            id=message_id,
            peer=chat["peer"],
            direction=chat["direction"],
            participants=tuple(people),
            **place,
        )
    return NotificationSeen(key=key, event=notice, **chat)


def _ignored(payload: Mapping[str, Any], channel: str | None, reason: str) -> Ignored:
    about = text(payload.get("messageId"))
    return Ignored(key=f"ignored|{channel}|{reason}|{about}", raw=payload, channel=channel, reason=reason)
