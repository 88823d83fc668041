"""What every event of a webhook is made of."""

from dataclasses import dataclass
from typing import Any, Literal

from providers.address import Address

Direction = Literal["in", "out"]
Origin = Literal["contact", "phone", "api"]
Delivery = Literal["accepted", "sent", "delivered", "read", "played", "failed"]
Standing = Literal["good", "warned", "restricted", "disabled"]
TemplateStanding = Literal["usable", "paused", "disabled"]
ConnectionState = Literal["open", "connecting", "closed", "pairing_aborted"]


class UnreadablePayload(ValueError):
    """The payload is not what this provider sends; `reason` says why, from a closed list."""

    def __init__(self, reason: Literal["not_json", "not_an_object", "no_event", "no_entries", "no_type"]) -> None:
        super().__init__(reason)
        self.reason = reason


@dataclass(frozen=True, slots=True)
class Media:
    """Where the bytes are: `id` or `url` (may need a token, may expire), or inline base64 in the raw part."""

    mime_type: str | None = None
    id: str | None = None
    filename: str | None = None
    url: str | None = None
    inline: bool = False


@dataclass(frozen=True, slots=True)
class Location:
    latitude: float | None
    longitude: float | None
    name: str | None = None
    address: str | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Seen:
    """What all events have."""

    key: str
    raw: Any
    channel: str | None = None
    at_ms: int | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class ChatSeen(Seen):
    """Something that happened in a chat. `participant`: who wrote it, in groups and lists."""

    id: str | None = None
    peer: Address | None = None
    participant: Address | None = None
    direction: Direction | None = None
    origin: Origin | None = None
    profile: str | None = None
