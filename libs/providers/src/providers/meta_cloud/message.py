"""One message inside a webhook of the Cloud API: who, where, what."""

import re
from collections.abc import Mapping
from typing import Any, Final

from providers.address import NOBODY
from providers.events import (
    Address,
    DeleteSeen,
    EditSeen,
    Ignored,
    Location,
    Media,
    MessageSeen,
    ReactionSeen,
    SystemSeen,
    WebhookEvent,
)
from providers.wire import decimal, flag, milliseconds, obj, objects, text, whole

# A business-scoped user id: country, dot, up to 128 characters. Some senders put it where the phone belongs.
BSUID: Final = re.compile(r"[A-Z]{2}\.")
_MEDIA_TYPES: Final = frozenset({"image", "video", "audio", "document", "sticker"})
_PLAIN_TYPES: Final = frozenset({"contacts", "order"})


def read_person(phone: object, user_id: object) -> Address:
    number = text(phone)
    bsuid = text(user_id)
    if number is None and bsuid is None:
        return NOBODY
    if number is not None and BSUID.match(number):
        return Address(bsuid=bsuid or number)
    return Address(phone=number, bsuid=bsuid)


def read_message(
    value: Mapping[str, Any], message: Mapping[str, Any], channel: str | None, *, echo: bool
) -> WebhookEvent:
    """`echo`: written by us in the phone's app (coexistence), so the person is in `to`."""
    wamid = text(message.get("id"))
    kind = text(message.get("type")) or "unknown"
    if kind == "voice":  # as the on-premises API named it
        message = {**message, "audio": {"voice": True, **obj(message.get("voice"))}}
        kind = "audio"
    if wamid is None:
        key = f"ignored|meta|message|{channel}|{text(message.get('timestamp'))}"
        return Ignored(key=key, raw=message, channel=channel, reason="message_without_id")
    person = (
        read_person(message.get("to"), message.get("to_user_id"))
        if echo
        else read_person(message.get("from"), message.get("from_user_id"))
    )
    group = text(message.get("group_id"))
    chat: dict[str, Any] = {
        "raw": message,
        "channel": channel,
        "at_ms": milliseconds(message.get("timestamp")),
        "id": wamid,
        "peer": Address(group=group) if group else person or None,
        "participant": (person or None) if group else None,
        "direction": "out" if echo else "in",
        "origin": "phone" if echo else "contact",
        "profile": None if echo else _profile(value, person),
    }
    content = obj(message.get(kind))
    match kind:
        case "reaction":
            target = text(content.get("message_id")) or ""
            return ReactionSeen(
                key=f"reaction|{channel}|{wamid}", target=target, emoji=text(content.get("emoji")) or "", **chat
            )
        case "edit":
            target = text(content.get("original_message_id")) or wamid
            new = obj(content.get("message"))
            edited = _text_of(text(new.get("type")) or "text", new)
            return EditSeen(key=f"edit|{channel}|{target}|{wamid}", target=target, text=edited, **chat)
        case "revoke":
            target = text(content.get("original_message_id")) or wamid
            return DeleteSeen(key=f"delete|{channel}|{target}", target=target, **chat)
        case "system":
            event = text(content.get("type")) or "system"
            new_phone = text(content.get("wa_id")) or text(content.get("new_wa_id"))
            return SystemSeen(key=f"system|{channel}|{wamid}", event=event, new_phone=new_phone, **chat)
    return _read_content(value, message, kind, chat)


def _read_content(value: Mapping[str, Any], message: Mapping[str, Any], kind: str, chat: dict[str, Any]) -> MessageSeen:
    content = obj(message.get(kind))
    type_, choice_id = _type_of(kind, content)
    error = next(iter(objects(message.get("errors"))), None)
    if error is None and type_ == "unsupported":
        error = next(iter(objects(value.get("errors"))), None)
    context = obj(message.get("context"))
    referral = message.get("referral")
    return MessageSeen(
        key=f"message|{chat['channel']}|{chat['id']}",
        type=type_,
        text=_text_of(kind, message),
        voice=flag(content.get("voice")) if kind == "audio" else None,
        reply_to=text(context.get("id")),
        media=_media(content) if kind in _MEDIA_TYPES else None,
        location=_location(content) if kind == "location" else None,
        choice_id=choice_id,
        referral=referral if isinstance(referral, dict) else None,
        error_code=whole(obj(error).get("code")),
        **chat,
    )


def _type_of(kind: str, content: Mapping[str, Any]) -> tuple[str, str | None]:
    if kind == "text" or kind == "location" or kind in _MEDIA_TYPES or kind in _PLAIN_TYPES:
        return kind, None
    if kind == "button":
        return "button_reply", text(content.get("payload"))
    if kind == "interactive":
        for name, type_ in (
            ("button_reply", "button_reply"),
            ("list_reply", "list_reply"),
            ("nfm_reply", "flow_reply"),
            ("call_permission_reply", "call_permission_reply"),
        ):
            reply = content.get(name)
            if isinstance(reply, dict):
                return type_, text(reply.get("id"))
    return "unsupported", None


def _text_of(kind: str, message: Mapping[str, Any]) -> str | None:
    content = obj(message.get(kind))
    match kind:
        case "text":
            return text(content.get("body"))
        case "button":
            return text(content.get("text"))
        case "order":
            return text(content.get("text"))
        case "interactive":
            for name, field in (("button_reply", "title"), ("list_reply", "title"), ("nfm_reply", "body")):
                if isinstance(content.get(name), dict):
                    return text(content[name].get(field))
            return None
        case _:
            return text(content.get("caption"))


def _media(content: Mapping[str, Any]) -> Media:
    return Media(
        mime_type=text(content.get("mime_type")),
        id=text(content.get("id")),
        filename=text(content.get("filename")),
        url=text(content.get("url")),
    )


def _location(content: Mapping[str, Any]) -> Location:
    return Location(
        latitude=decimal(content.get("latitude")),
        longitude=decimal(content.get("longitude")),
        name=text(content.get("name")),
        address=text(content.get("address")),
    )


def _profile(value: Mapping[str, Any], person: Address) -> str | None:
    """The name that the person gave; contacts are matched by either id, a single one belongs to all."""
    contacts = objects(value.get("contacts"))
    for contact in contacts:
        known = read_person(contact.get("wa_id"), contact.get("user_id"))
        if (known.phone and known.phone == person.phone) or (known.bsuid and known.bsuid == person.bsuid):
            return text(obj(contact.get("profile")).get("name"))
    if len(contacts) == 1 and not person:
        return text(obj(contacts[0].get("profile")).get("name"))
    return None
