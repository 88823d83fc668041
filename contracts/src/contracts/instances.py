"""One WhatsApp number on one provider: its configuration (compacted) and its health."""

from collections.abc import Collection
from typing import Literal
from uuid import UUID

from pydantic import AwareDatetime, BaseModel, ConfigDict

from contracts.envelope import Event
from contracts.ids import PersonalText

ProviderKind = Literal["evolution_web", "evolution_cloud", "meta_cloud", "zapi"]
OperationalStatus = Literal["active", "paused", "banned", "disconnected"]


class Limits(BaseModel):
    """Messages a second, messages a minute to one recipient, unique recipients in 24 h (None = no limit).

    `messages_per_second` is the provider's ceiling (tier or detected); `target_per_second` and `burst` are caps
    within it. `pair_burst`: messages to one recipient that may follow at once.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    messages_per_second: float = 80
    target_per_second: float = 70
    burst: int = 100
    pair_per_minute: float = 10
    pair_burst: int = 45
    unique_per_24h: int | None = None
    max_in_flight: int | None = None


class WarmUpPlan(BaseModel):
    """Messages a day of a new number: the first day's, `growth` times as many each good day, over at `full_per_day`."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    first_day: int = 50
    growth: float = 1.5
    full_per_day: int = 1000


class InstanceConfigured(Event):
    """The whole current configuration, keyed by instance id.

    `credentials`: field name -> ciphertext (AES-GCM, associated data account|instance|field).
    `webhook_key_hashes`: SHA-256 hex of the keys accepted now (old and new while rotating).
    `wanted`: what a person asked for; the sender makes it so at the gateway. `wanted_version` counts requests.
    `limits_by_hand`: what a person set (names of Limits, and "tier"): the provider's word does not change it.
    `created_at`: of the instance; each configuration tells it, because the topic is compacted.
    """

    name: str
    provider: ProviderKind
    server_url: str
    phone_number: PersonalText | None = None
    phone_number_id: str | None = None
    gateway_instance: str | None = None
    portfolio_id: str | None = None
    credentials: dict[str, str] = {}
    webhook_key_hashes: tuple[str, ...] = ()
    webhook_url: str | None = None
    status: OperationalStatus = "active"
    is_active: bool = True
    is_default: bool = False
    max_users: int = 250
    tier: str | None = None
    limits: Limits = Limits()
    wanted: Literal["none", "connected", "disconnected", "deleted"] = "none"
    wanted_version: int = 0
    deleted: bool = False
    owner_id: UUID | None = None
    created_at: AwareDatetime | None = None
    warm_up: WarmUpPlan | None = None
    limits_by_hand: tuple[str, ...] = ()


class InstanceConnected(Event):
    phone_number: PersonalText | None = None
    at: AwareDatetime


class InstanceDisconnected(Event):
    reason: str
    at: AwareDatetime


class InstanceConnecting(Event):
    at: AwareDatetime


class QrCodeUpdated(Event):
    """`qr_code`: data URI or the text to draw; `pairing_code` where the gateway gives one."""

    qr_code: str | None = None
    pairing_code: str | None = None
    at: AwareDatetime


class InstanceThrottled(Event):
    """The provider refused for rate; the sender now sends at most `messages_per_second`."""

    messages_per_second: float
    code: str
    at: AwareDatetime


class InstanceRateRestored(Event):
    """After InstanceThrottled: the number is back at its full rate."""

    messages_per_second: float
    at: AwareDatetime


class BreakerOpened(Event):
    """Nothing goes out until `until` (None = until a person acts)."""

    reason: str
    until: AwareDatetime | None = None
    at: AwareDatetime


class BreakerClosed(Event):
    at: AwareDatetime


class InstanceLimitsChanged(Event):
    """The provider told new limits or quality. `unlimited`: as many people in 24 h as one likes."""

    tier: str | None = None
    unique_per_24h: int | None = None
    messages_per_second: float | None = None
    quality: str | None = None
    at: AwareDatetime
    unlimited: bool = False


class AccountStandingChanged(Event):
    """What the provider says of the account behind the number; it is told for each number of the account.

    `restricted` and `disabled`: nothing goes out until `until`, or (None) until it is `good` again or a person acts.
    `warned`: sending goes on. `reason`: the provider's own word.
    """

    standing: Literal["good", "warned", "restricted", "disabled"]
    reason: str = ""
    until: AwareDatetime | None = None
    at: AwareDatetime


class TemplateStatusChanged(Event):
    """What the provider says of a template; told once for each of our accounts that has numbers of that account."""

    name: str
    language: str | None = None
    status: Literal["usable", "paused", "disabled"]
    reason: str = ""
    at: AwareDatetime


class WarmUpChanged(Event):
    """What a number that is warmed up may send in its present day (messages of campaigns); None: it is warm.

    `slowed_by`: the bad sign of this day, or of the day before, that keeps the allowance from growing.
    """

    day: int
    allowance: int | None = None
    begins_at: AwareDatetime
    ends_at: AwareDatetime
    slowed_by: str | None = None
    at: AwareDatetime


class WebhookLeftUnread(Event):
    """A webhook of this number could not be translated: it is kept, to be tried again or cleared."""

    webhook_id: UUID
    reason: str
    received_at: AwareDatetime
    at: AwareDatetime


class UnreadWebhookSettled(Event):
    """It was translated after all, or a person cleared it."""

    webhook_id: UUID
    outcome: Literal["translated", "cleared"]
    at: AwareDatetime


class InstanceBanned(Event):
    reason: str
    at: AwareDatetime


InstanceHealthEvent = (
    InstanceConnected
    | InstanceDisconnected
    | InstanceConnecting
    | QrCodeUpdated
    | InstanceThrottled
    | InstanceRateRestored
    | BreakerOpened
    | BreakerClosed
    | InstanceLimitsChanged
    | WarmUpChanged
    | InstanceBanned
    | AccountStandingChanged
    | TemplateStatusChanged
    | WebhookLeftUnread
    | UnreadWebhookSettled
)
Connection = InstanceConnected | InstanceDisconnected | InstanceBanned | InstanceConnecting | QrCodeUpdated


def kinds_of(event: InstanceHealthEvent) -> frozenset[str]:
    """What an event is a word about. Gateways and providers tell late, in any order and again: of each kind the latest
    word holds. Empty: each is of its own."""
    match event:
        case InstanceLimitsChanged():
            said = {
                "people": event.tier is not None or event.unique_per_24h is not None or event.unlimited,
                "rate": event.messages_per_second is not None,
                "quality": event.quality is not None,
            }
            return frozenset(kind for kind, is_said in said.items() if is_said)
        case BreakerOpened() | BreakerClosed():
            return frozenset({"breaker"})
        case InstanceThrottled() | InstanceRateRestored():
            return frozenset({"pace"})
        case WarmUpChanged():
            return frozenset({"warm_up"})
        case _:
            return frozenset({"connection"}) if isinstance(event, Connection) else frozenset()


def newest_of(event: InstanceHealthEvent, newest: Collection[str]) -> InstanceHealthEvent | None:
    """What is left of the event when only words of these kinds count; None if nothing is."""
    if isinstance(event, InstanceLimitsChanged) and newest:
        return event.model_copy(
            update=({} if "people" in newest else {"tier": None, "unique_per_24h": None, "unlimited": False})
            | ({} if "rate" in newest else {"messages_per_second": None})
            | ({} if "quality" in newest else {"quality": None})
        )
    return event if kinds_of(event) <= set(newest) else None
