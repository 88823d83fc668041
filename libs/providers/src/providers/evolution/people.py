"""Events of Evolution about people and groups: contacts, participants, presence, calls."""

from collections.abc import Mapping
from datetime import datetime
from typing import Any

from providers.address import join_addresses, read_jid
from providers.events import CallSeen, ContactSeen, GroupSeen, PresenceSeen, WebhookEvent
from providers.wire import milliseconds, obj, objects, text


def read_contact(data: Mapping[str, Any], channel: str | None) -> WebhookEvent:
    jid = data.get("remoteJid") or data.get("id")
    peer = join_addresses(read_jid(jid), read_jid(data.get("remoteJidAlt")), read_jid(data.get("lid")))
    name = text(data.get("pushName")) or text(data.get("name"))
    return ContactSeen(key=f"contact|{channel}|{text(jid)}|{name}", raw=data, channel=channel, peer=peer, name=name)


def read_group(data: Mapping[str, Any], channel: str | None, *, event: str | None = None) -> WebhookEvent:
    group = text(data.get("id")) or text(data.get("remoteJid"))
    action = event or text(data.get("action")) or "update"
    people = [
        join_addresses(read_jid(person.get("jid") or person.get("id")), read_jid(person.get("phoneNumber")))
        for person in objects(data.get("participantsData"))
    ]
    listed = data.get("participants")
    if not people and isinstance(listed, list):
        people = [read_jid(obj(person).get("id") if isinstance(person, dict) else person) for person in listed]
    who = ",".join(sorted(person.phone or person.lid or "" for person in people))
    return GroupSeen(
        key=f"group|{channel}|{group}|{action}|{who}",
        raw=data,
        channel=channel,
        event=action,
        id=group,
        peer=read_jid(group) or None,
        participants=tuple(person for person in people if person),
    )


def read_presence(data: Mapping[str, Any], channel: str | None) -> WebhookEvent:
    jid = text(data.get("id"))
    states = [text(obj(state).get("lastKnownPresence")) for state in obj(data.get("presences")).values()]
    event = next((state for state in states if state), "unknown")
    return PresenceSeen(
        key=f"presence|{channel}|{jid}|{event}", raw=data, channel=channel, peer=read_jid(jid), event=event
    )


def read_call(data: Mapping[str, Any], channel: str | None) -> WebhookEvent:
    call_id = text(data.get("id"))
    event = text(data.get("status")) or "unknown"
    peer = join_addresses(read_jid(data.get("from")), read_jid(data.get("chatId")), read_jid(data.get("callerPn")))
    return CallSeen(
        key=f"call|{channel}|{call_id}|{event}",
        raw=data,
        channel=channel,
        at_ms=_instant(data.get("date")),
        event=event,
        id=call_id,
        peer=peer or None,
    )


def _instant(value: object) -> int | None:
    """An ISO time or a number; unlike the envelope's date_time, a call's date is true UTC."""
    if not isinstance(value, str):
        return milliseconds(value)
    try:
        moment = datetime.fromisoformat(value)
    except ValueError:
        return milliseconds(value)
    return int(moment.timestamp() * 1000) if moment.tzinfo is not None else None
