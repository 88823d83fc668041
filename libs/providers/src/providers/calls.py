"""What is asked of a gateway besides sending (life cycle, look-ups), and what it answers."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Literal

from providers.events import Address, ConnectionState
from providers.failures import Failure


@dataclass(frozen=True, slots=True)
class WebhookTarget:
    """Where the gateway must post, and the key it must show there (header name fixed by the provider)."""

    url: str
    key: str = field(repr=False)


@dataclass(frozen=True, slots=True)
class StateAnswered:
    """Connection as the gateway sees it. A web gateway may say `open` over a dead socket."""

    state: ConnectionState
    detail: str = ""


@dataclass(frozen=True, slots=True)
class QrAnswered:
    """A pairing challenge: `code` the text to draw, `image` a data URI, either may be missing."""

    code: str | None = None
    image: str | None = None
    pairing_code: str | None = None


@dataclass(frozen=True, slots=True)
class InstanceMade:
    """A new instance at the gateway. `token` is its own key, to be kept as a credential."""

    gateway_id: str | None
    token: str | None = field(repr=False)
    qr: QrAnswered | None = None


@dataclass(frozen=True, slots=True)
class InstanceFound:
    """One instance of a listing; `token` is its current key where the gateway shows it."""

    name: str | None
    state: ConnectionState | None
    phone: str | None = None
    token: str | None = field(default=None, repr=False)


@dataclass(frozen=True, slots=True)
class InstancesListed:
    instances: tuple[InstanceFound, ...]


@dataclass(frozen=True, slots=True)
class LimitsAnswered:
    """Meta's fields of a number: quality GREEN/YELLOW/RED, limit TIER_*, throughput STANDARD/HIGH."""

    phone: str | None = None
    verified_name: str | None = None
    quality: str | None = None
    tier: str | None = None
    throughput: str | None = None
    status: str | None = None
    unique_per_24h: int | None = None
    messages_per_second: int | None = None
    unlimited: bool = False


@dataclass(frozen=True, slots=True)
class NumberChecked:
    exists: bool
    address: Address


@dataclass(frozen=True, slots=True)
class NumbersChecked:
    numbers: tuple[NumberChecked, ...]


@dataclass(frozen=True, slots=True)
class VersionAnswered:
    version: str


@dataclass(frozen=True, slots=True)
class CallDone:
    """Done as asked; `answer` as the gateway gave it."""

    answer: Mapping[str, Any]


@dataclass(frozen=True, slots=True)
class CallFailed:
    """Not done, or not known to be. `exists`: refused because the instance is already there."""

    failure: Failure
    status: int
    text: str = ""
    retryable: bool = False
    exists: bool = False


CallAnswer = (
    StateAnswered
    | QrAnswered
    | InstanceMade
    | InstancesListed
    | LimitsAnswered
    | NumbersChecked
    | VersionAnswered
    | CallDone
    | CallFailed
)


@dataclass(frozen=True, slots=True)
class Found:
    """The gateway has the message: it was accepted under this id."""

    provider_message_id: str
    where: Literal["sent", "queued"] = "sent"


@dataclass(frozen=True, slots=True)
class NotFound:
    """The gateway answered and does not show the message. Evidence, no proof: its memory may be partial."""

    examined: int


@dataclass(frozen=True, slots=True)
class LookUpFailed:
    reason: str


LookUp = Found | NotFound | LookUpFailed
