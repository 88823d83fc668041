"""What the instances' routes take and give. Credentials go in and never come out."""

from datetime import datetime
from typing import Annotated, Any, Literal
from urllib.parse import urlsplit
from uuid import UUID

from pydantic import AfterValidator, BaseModel, ConfigDict, Field

from campaign_api.instance.instance import WEBHOOK_KEY
from campaign_api.instance.tiers import Tier
from campaign_api.instance.trouble import explain
from contracts.instances import InstanceConfigured, Limits, OperationalStatus, ProviderKind, WarmUpPlan


def _plain_address(value: str) -> str:
    """Its shape; which hosts may be called is decided where they are called."""
    parts = urlsplit(value)
    if parts.scheme not in ("http", "https") or not parts.hostname:
        raise ValueError("must be an http or https address")
    if parts.username or parts.password or parts.query or parts.fragment:
        raise ValueError("must have no user, password, query or fragment")
    try:
        parts.hostname.encode("idna")
    except UnicodeError as error:
        raise ValueError(f"its host {parts.hostname!r} is no valid name: look for a doubled dot") from error
    return value.rstrip("/")


ServerUrl = Annotated[str, Field(max_length=500), AfterValidator(_plain_address)]
Name = Annotated[str, Field(min_length=1, max_length=200)]
GatewayName = Annotated[str, Field(min_length=1, max_length=100, pattern=r"^[^/\\?#\x00-\x1f]+$")]
Secret = Annotated[str, Field(min_length=1, max_length=4000)]
Phone = Annotated[str, Field(pattern=r"^\+?\d{8,15}$")]
Rate = Annotated[float, Field(gt=0, le=2000)]


class _Request(BaseModel):
    model_config = ConfigDict(extra="forbid", allow_inf_nan=False)


class WarmUp(_Request):
    """Messages a day of a new number: the first day's, `growth` times as many after each good day, over once
    `full_per_day` is reached. A bad sign (quality, a limit of the provider, few deliveries) halves a day."""

    first_day: Annotated[int, Field(ge=1, le=100_000)] = 50
    growth: Annotated[float, Field(ge=1, le=10)] = 1.5
    full_per_day: Annotated[int, Field(ge=1, le=1_000_000)] = 1000


class WarmingUp(BaseModel):
    """The present day: `allowance` messages of campaigns until `ends_at`; `slowed_by` names the sign that keeps it
    from growing."""

    day: int
    allowance: int
    begins_at: datetime
    ends_at: datetime
    slowed_by: str | None = None


class LimitsChange(_Request):
    messages_per_second: Rate | None = None
    target_per_second: Rate | None = None
    burst: Annotated[int, Field(ge=1, le=5000)] | None = None
    pair_per_minute: Annotated[float, Field(gt=0, le=1000)] | None = None
    pair_burst: Annotated[int, Field(ge=1, le=1000)] | None = None
    unique_per_24h: Annotated[int, Field(ge=1, le=2_000_000_000)] | None = None
    max_in_flight: Annotated[int, Field(ge=1, le=10_000)] | None = None


class NewInstance(_Request):
    """`credentials` by provider: evolution_* apikey (evolution_cloud also access_token), meta_cloud access_token
    (optional app_secret, verify_token, business_id: the number's account at Meta, by which limits, bans and templates
    that Meta tells of the whole account reach the number), zapi instance_id, token, client_token."""

    name: Name
    provider: ProviderKind
    server_url: ServerUrl | None = None
    phone_number: Phone | None = None
    phone_number_id: Annotated[str, Field(pattern=r"^\d{1,32}$")] | None = None
    portfolio_id: Annotated[str, Field(max_length=100)] | None = None
    instance_name: GatewayName | None = None
    credentials: dict[str, Secret] = {}
    max_users: Annotated[int, Field(ge=0, le=1_000_000)] = 250
    messaging_tier: Tier | None = None
    limits: LimitsChange | None = None
    warm_up: WarmUp | None = None
    is_active: bool = True
    is_default: bool = False
    user_id: UUID | None = None


class InstanceChange(_Request):
    """What is given changes. Limits and a tier that are given hold whatever the provider tells; `messaging_tier` null
    lets its word hold again."""

    name: Name | None = None
    server_url: ServerUrl | None = None
    phone_number: Phone | None = None
    phone_number_id: Annotated[str, Field(pattern=r"^\d{1,32}$")] | None = None
    portfolio_id: Annotated[str, Field(max_length=100)] | None = None
    instance_name: GatewayName | None = None
    credentials: dict[str, Secret] | None = None
    status: OperationalStatus | None = None
    max_users: Annotated[int, Field(ge=0, le=1_000_000)] | None = None
    messaging_tier: Tier | None = None
    limits: LimitsChange | None = None
    warm_up: WarmUp | None = None
    is_active: bool | None = None
    is_default: bool | None = None
    user_id: UUID | None = None


class Connect(_Request):
    instanceName: GatewayName | None = None  # noqa: N815


class Connecting(BaseModel):
    status: Literal["initializing"] = "initializing"
    instanceId: UUID  # noqa: N815
    instanceName: str  # noqa: N815


class Trouble(BaseModel):
    """Why it does not send. `reason` is for programs; `text` tells a person what happened and what to do."""

    reason: str
    text: str
    at: datetime


class ConnectionState(BaseModel):
    status: Literal["connected", "disconnected", "connecting"]
    qrCode: str | None = None  # noqa: N815
    pairingCode: str | None = None  # noqa: N815
    phoneNumber: str | None = None  # noqa: N815
    instanceId: UUID  # noqa: N815
    lastError: Trouble | None = None  # noqa: N815


class WebhookKey(BaseModel):
    """`key` is shown once."""

    key: str
    webhook_url: str


class Instance(BaseModel):
    """`credentials` names the ones that are set. `current_users` and rates as measured come from the read model."""

    id: UUID
    name: str
    provider: ProviderKind
    server_url: str
    phone_number: str | None
    phone_number_id: str | None
    portfolio_id: str | None
    instance_name: str | None
    credentials: list[str]
    status: OperationalStatus
    connection_status: Literal["connecting", "connected", "disconnected"]
    qr_code: str | None
    pairing_code: str | None
    is_active: bool
    is_default: bool
    max_users: int
    current_users: int
    messaging_tier: str | None
    limits: Limits
    limits_by_hand: list[str]
    warm_up: WarmUpPlan | None
    warming_up: WarmingUp | None
    throttled_rate: float | None
    breaker: str | None
    breaker_until: datetime | None
    quality: str | None
    last_error: Trouble | None
    webhook_url: str | None
    last_event_at: datetime | None
    user_id: UUID | None
    created_at: datetime
    updated_at: datetime


def shown(row: Any, configuration: InstanceConfigured, current_users: int = 0) -> Instance:
    return Instance(
        id=row["id"],
        name=configuration.name,
        provider=configuration.provider,
        server_url=configuration.server_url,
        phone_number=configuration.phone_number or row["connected_phone"],
        phone_number_id=configuration.phone_number_id,
        portfolio_id=configuration.portfolio_id,
        instance_name=configuration.gateway_instance,
        credentials=sorted(set(configuration.credentials) - {WEBHOOK_KEY}),
        status=configuration.status,
        connection_status=row["connection_status"],
        qr_code=row["qr_code"] if row["connection_status"] == "connecting" else None,
        pairing_code=row["pairing_code"] if row["connection_status"] == "connecting" else None,
        is_active=configuration.is_active,
        is_default=configuration.is_default,
        max_users=configuration.max_users,
        current_users=current_users,
        messaging_tier=configuration.tier,
        limits=configuration.limits,
        limits_by_hand=list(configuration.limits_by_hand),
        warm_up=configuration.warm_up,
        warming_up=WarmingUp.model_validate_json(row["warming_up"]) if row["warming_up"] else None,
        throttled_rate=row["throttled_rate"],
        breaker=row["breaker"],
        breaker_until=row["breaker_until"],
        quality=row["quality"],
        last_error=Trouble(reason=row["trouble"], text=explain(row["trouble"]), at=row["trouble_at"])
        if row["trouble"]
        else None,
        webhook_url=configuration.webhook_url,
        last_event_at=row["last_event_at"],
        user_id=configuration.owner_id,
        created_at=row["created_at"],
        updated_at=row["updated_at"],
    )
