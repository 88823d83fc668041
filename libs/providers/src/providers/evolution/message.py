"""One message event of Evolution: whose, where, and which of message, reaction, edit, deletion it is."""

from collections.abc import Mapping
from typing import Any, Final

from providers.address import join_addresses, read_jid
from providers.events import (
    Address,
    DeleteSeen,
    EditSeen,
    Ignored,
    MessageSeen,
    Origin,
    PlaceholderSeen,
    ReactionSeen,
    WebhookEvent,
)
from providers.evolution.content import (
    Reading,
    read_content,
    read_location,
    read_media,
    read_quote,
    read_voice,
    unwrap,
)
from providers.wire import milliseconds, obj, text

_REVOKE: Final = frozenset({"REVOKE", "0"})
_EDIT: Final = frozenset({"MESSAGE_EDIT", "14"})
# WAMessageStubType.CIPHERTEXT: this device could not decrypt it yet; the content follows under the same id.
_CIPHERTEXT: Final = frozenset({"2", "CIPHERTEXT"})


def read_peer(key: Mapping[str, Any]) -> Address:
    """The chat's names. Versions differ in where phone and lid stand; what is there is taken.

    `senderPn`/`senderLid` name the writer, which is the chat only for what comes in.
    """
    names = [
        read_jid(key.get("remoteJid")),
        read_jid(key.get("remoteJidAlt")),
        read_jid(key.get("previousRemoteJid")),
    ]
    if key.get("fromMe") is False:
        names += [read_jid(key.get("senderPn")), read_jid(key.get("senderLid"))]
    peer = join_addresses(*names)
    return Address(group=peer.group) if peer.group else peer


def read_participant(key: Mapping[str, Any]) -> Address | None:
    """Who wrote in a group."""
    who = join_addresses(
        *(read_jid(key.get(name)) for name in ("participant", "participantAlt", "participantPn", "participantLid"))
    )
    return who or None


def read_upsert(data: Mapping[str, Any], channel: str | None, *, by_api: bool) -> WebhookEvent:
    """`by_api`: the gateway sent it for us (`send.message`). Both events of one message have one key."""
    key = obj(data.get("key"))
    message_id = text(key.get("id"))
    peer = read_peer(key)
    if message_id is None or not peer:
        return _ignored(data, channel, message_id, "message_without_key")
    if peer.broadcast or peer.newsletter:
        return _ignored(data, channel, message_id, "broadcast")
    from_me = by_api or key.get("fromMe") is True
    origin: Origin = "contact" if not from_me else "api" if by_api else "phone"
    chat: dict[str, Any] = {
        "raw": data,
        "channel": channel,
        "at_ms": milliseconds(data.get("messageTimestamp")),
        "id": message_id,
        "peer": peer,
        "participant": read_participant(key) if peer.group else None,
        "direction": "out" if from_me else "in",
        "origin": origin,
        "profile": None if from_me else text(data.get("pushName")),
    }
    message = obj(data.get("message"))
    reading = read_content(message, text(data.get("messageType")))
    place = f"{message_id}|{peer.group}" if peer.group else message_id
    if reading.type == "reaction":
        target = text(obj(reading.value.get("key")).get("id")) or ""
        emoji = text(reading.value.get("text")) or ""
        return ReactionSeen(key=f"reaction|{channel}|{place}", target=target, emoji=emoji, **chat)
    protocol = _protocol(message, reading)
    if protocol is not None:
        return _read_protocol(protocol, chat, message_id)
    if reading.type == "unsupported" and text(data.get("messageStubType")) in _CIPHERTEXT:
        return PlaceholderSeen(key=f"placeholder|{channel}|{place}", **chat)
    return MessageSeen(
        key=f"message|{channel}|{place}",
        type=reading.type,
        text=reading.text,
        voice=read_voice(reading),
        reply_to=read_quote(data, reading),
        media=read_media(message, reading),
        location=read_location(reading),
        choice_id=reading.choice_id,
        referral=_referral(data, reading),
        **chat,
    )


def _protocol(message: Mapping[str, Any], reading: Reading) -> Mapping[str, Any] | None:
    if reading.type == "protocol":
        return reading.value
    edited = obj(obj(unwrap(message).get("editedMessage")).get("message"))
    inner = edited.get("protocolMessage")
    return inner if isinstance(inner, dict) else None


def _read_protocol(protocol: Mapping[str, Any], chat: dict[str, Any], message_id: str) -> WebhookEvent:
    """Protocol messages are WhatsApp talking to itself; only two kinds are about a message."""
    kind = text(protocol.get("type")) or "0"
    target = text(obj(protocol.get("key")).get("id"))
    channel = chat["channel"]
    if target is not None and kind in _REVOKE:
        return DeleteSeen(key=f"delete|{channel}|{target}", target=target, **chat)
    if target is not None and kind in _EDIT:
        new = read_content(obj(protocol.get("editedMessage")), None).text
        at_ms = milliseconds(protocol.get("timestampMs")) or chat["at_ms"]
        return EditSeen(key=f"edit|{channel}|{target}|{at_ms}", target=target, text=new, **{**chat, "at_ms": at_ms})
    return _ignored(chat["raw"], channel, message_id, f"protocol_{kind}")


def read_edit(data: Mapping[str, Any], channel: str | None) -> WebhookEvent:
    """`messages.edited`: the key is the original message's."""
    edited = obj(data.get("editedMessage"))
    protocol = obj(edited.get("protocolMessage")) or obj(obj(edited.get("message")).get("protocolMessage"))
    key = obj(data.get("key"))
    target = text(obj(protocol.get("key")).get("id")) or text(key.get("id"))
    if target is None:
        return _ignored(data, channel, None, "edit_without_key")
    at_ms = milliseconds(data.get("timestampMs")) or milliseconds(protocol.get("timestampMs"))
    peer = read_peer(key)
    new = obj(protocol.get("editedMessage")) or obj(edited.get("message")) or edited
    from_me = key.get("fromMe")
    return EditSeen(
        key=f"edit|{channel}|{target}|{at_ms}",
        raw=data,
        channel=channel,
        at_ms=at_ms,
        peer=peer or None,
        participant=read_participant(key) if peer.group else None,
        direction=("out" if from_me else "in") if isinstance(from_me, bool) else None,
        target=target,
        text=read_content(new, None).text,
    )


def read_delete(data: Mapping[str, Any], channel: str | None) -> WebhookEvent:
    """`messages.delete`: the key itself, or a stored row with the key in it."""
    key = obj(data.get("key")) or data
    target = text(key.get("id")) or text(key.get("keyId"))
    if target is None:
        return _ignored(data, channel, None, "delete_without_key")
    peer = read_peer(key)
    return DeleteSeen(key=f"delete|{channel}|{target}", raw=data, channel=channel, peer=peer or None, target=target)


def _referral(data: Mapping[str, Any], reading: Reading) -> Mapping[str, Any] | None:
    for holder in (data, reading.value):
        advertisement = obj(holder.get("contextInfo")).get("externalAdReply")
        if isinstance(advertisement, dict):
            return advertisement
    return None


def _ignored(data: Mapping[str, Any], channel: str | None, about: str | None, reason: str) -> Ignored:
    return Ignored(key=f"ignored|{channel}|{reason}|{about}", raw=data, channel=channel, reason=reason)
