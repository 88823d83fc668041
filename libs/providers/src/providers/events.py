"""What webhooks say, in one vocabulary for all providers. Facts only: what to do about them is the services'.

Every event carries `key`, equal for each delivery of the same fact (never made of receive times or of Z-API's
`momment`), `channel`, the name of our number in the payload, `at_ms`, the provider's time in milliseconds or None
where it gives none, and `raw`, the part of the payload it was read from.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, NamedTuple

from providers.address import Address as Address
from providers.failures import Failure
from providers.seen import ChatSeen as ChatSeen
from providers.seen import ConnectionState as ConnectionState
from providers.seen import Delivery as Delivery
from providers.seen import Direction as Direction
from providers.seen import Location as Location
from providers.seen import Media as Media
from providers.seen import Origin as Origin
from providers.seen import Seen as Seen
from providers.seen import Standing as Standing
from providers.seen import TemplateStanding as TemplateStanding
from providers.seen import UnreadablePayload as UnreadablePayload


@dataclass(frozen=True, slots=True, kw_only=True)
class MessageSeen(ChatSeen):
    """A message, inbound, or ours seen again (origin `phone`: typed on the device; `api`: sent by a request).

    `choice_id`: the id or payload behind a button or list reply. `error_code`: the provider could not hand over
    the content.
    """

    type: str
    text: str | None = None
    voice: bool | None = None
    reply_to: str | None = None
    media: Media | None = None
    location: Location | None = None
    choice_id: str | None = None
    referral: Mapping[str, Any] | None = None
    error_code: int | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class ReactionSeen(ChatSeen):
    """`emoji` "" takes an earlier reaction back."""

    target: str
    emoji: str


@dataclass(frozen=True, slots=True, kw_only=True)
class EditSeen(ChatSeen):
    target: str
    text: str | None


@dataclass(frozen=True, slots=True, kw_only=True)
class DeleteSeen(ChatSeen):
    target: str


@dataclass(frozen=True, slots=True, kw_only=True)
class PlaceholderSeen(ChatSeen):
    """The content follows under the same id."""


@dataclass(frozen=True, slots=True, kw_only=True)
class SystemSeen(ChatSeen):
    """A notice about a person: changed number (`new_phone`), changed identity."""

    event: str
    new_phone: str | None = None


class StatusSeen(NamedTuple):
    """What became of one of our messages. `client_ref`: our label, given back. `failure` only when failed.

    A failure named `send_uncertain` is no proof of failure: it goes to reconciliation. What all events have comes
    first; a tuple, because three of these are made for each message sent and a frozen dataclass costs twice as much.
    """

    key: str
    raw: Any
    id: str
    status: Delivery
    channel: str | None = None
    at_ms: int | None = None
    peer: Address | None = None
    participant: Address | None = None
    client_ref: str | None = None
    failure: Failure | None = None
    error_code: int | None = None
    error_text: str = ""
    billable: bool | None = None
    category: str | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class ConnectionSeen(Seen):
    """`reason`: the gateway's code or text; `phone`: our own number, once known."""

    state: ConnectionState
    reason: str | None = None
    phone: str | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class QrSeen(Seen):
    """A new pairing challenge, or `exhausted`: no more will come until asked again."""

    code: str | None = None
    image: str | None = None
    pairing_code: str | None = None
    exhausted: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class PresenceSeen(Seen):
    peer: Address
    event: str


@dataclass(frozen=True, slots=True, kw_only=True)
class ContactSeen(Seen):
    peer: Address
    name: str | None


@dataclass(frozen=True, slots=True, kw_only=True)
class GroupSeen(Seen):
    event: str
    id: str | None = None
    peer: Address | None = None
    direction: Direction | None = None
    participants: tuple[Address, ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class CallSeen(Seen):
    event: str
    id: str | None
    peer: Address | None
    direction: Direction | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class HistorySeen(Seen):
    """Old messages synchronised in bulk: to be stored, never to trigger anything."""

    messages: tuple[MessageSeen, ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class PreferenceSeen(Seen):
    """A person stopped or resumed a category of messages."""

    event: str
    peer: Address
    category: str | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class AccountSeen(Seen):
    """Something about the whole account (`account`: Meta's WABA id): bans, restrictions, alerts.

    `standing`: what its numbers may do since then, None where the event says nothing of it. `until_ms`: when a
    restriction ends by itself, None = when the provider says so. `reason`: the provider's own word.
    """

    event: str
    account: str | None = None
    standing: Standing | None = None
    reason: str = ""
    until_ms: int | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class LimitSeen(Seen):
    """A new messaging limit or quality. `tier`: TIER_* of a number, or the number of people in 24 h (-1: none).

    `unique_per_24h`: the same as a number, None where nothing was said or there is no limit (`unlimited`).
    `messages_per_second`, `quality`: of the number `phone` alone, where it was told; the limit is the account's.
    """

    event: str
    tier: str | int | None
    unique_per_24h: int | None = None
    unlimited: bool = False
    quality: str | None = None
    messages_per_second: int | None = None
    account: str | None = None
    phone: str | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class TemplateSeen(Seen):
    """`standing`: whether it may be sent since then, None where the event says nothing of it."""

    event: str
    name: str | None
    language: str | None = None
    account: str | None = None
    reason: str | None = None
    standing: TemplateStanding | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class ChannelErrorSeen(Seen):
    """The gateway itself reports a fault."""

    text: str = ""
    error_code: int | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class NotificationSeen(ChatSeen):
    """A notice in a chat that is no message: labels, profile, encryption."""

    event: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Ignored(Seen):
    """Readable and of no use to us, or of a kind not known yet; kept raw all the same."""

    reason: str


WebhookEvent = (
    MessageSeen
    | ReactionSeen
    | EditSeen
    | DeleteSeen
    | PlaceholderSeen
    | SystemSeen
    | StatusSeen
    | ConnectionSeen
    | QrSeen
    | PresenceSeen
    | ContactSeen
    | GroupSeen
    | CallSeen
    | HistorySeen
    | PreferenceSeen
    | AccountSeen
    | LimitSeen
    | TemplateSeen
    | ChannelErrorSeen
    | NotificationSeen
    | Ignored
)
