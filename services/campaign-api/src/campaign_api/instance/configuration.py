"""From what a person gave to the whole configuration of an instance: sealing, defaults, webhook key."""

import hashlib
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Any
from uuid import UUID

from campaign_api.identity.tokens import fresh_secret
from campaign_api.instance.instance import OPTIONAL_CREDENTIALS, REQUIRED_CREDENTIALS, WEBHOOK_KEY, Incomplete
from campaign_api.instance.models import InstanceChange, LimitsChange, NewInstance, WarmUp
from campaign_api.instance.tiers import limits_of
from chassis.secrets import SecretBox
from contracts.instances import InstanceConfigured, Limits, ProviderKind, WarmUpPlan

DEFAULT_SERVERS: dict[ProviderKind, str] = {
    "meta_cloud": "https://graph.facebook.com",
    "zapi": "https://api.z-api.io",
}

# What a tier sets; and the limits that may be none.
OF_TIER = ("messages_per_second", "tier", "unique_per_24h")
NULLABLE = ("unique_per_24h", "max_in_flight")


@dataclass(frozen=True, slots=True)
class Sealer:
    secrets: SecretBox
    account_id: UUID
    instance_id: UUID

    def seal(self, plain: Mapping[str, str]) -> dict[str, str]:
        return {
            field: self.secrets.seal(value, account_id=self.account_id, instance_id=self.instance_id, field=field)
            for field, value in plain.items()
        }


def key_hash(key: str) -> str:
    return hashlib.sha256(key.encode()).hexdigest()


def webhook_url(public_url: str, provider: ProviderKind, instance_id: UUID, key: str | None) -> str:
    """Where the provider calls us. Z-API can send no header, so its key is in the path."""
    base = public_url.rstrip("/")
    match provider:
        case "meta_cloud":
            return f"{base}/api/webhook/meta"
        case "zapi":
            return f"{base}/api/webhook/zapi/{key or '{secret}'}"
        case _:
            return f"{base}/api/webhook/evolution/{instance_id}"


def first(
    wanted: NewInstance, sealer: Sealer, public_url: str, *, is_default: bool, created_at: datetime
) -> InstanceConfigured:
    """Raises Incomplete for a credential that the provider does not know."""
    key = fresh_secret()
    _must_know(wanted.provider, wanted.credentials)
    return InstanceConfigured(
        name=wanted.name,
        provider=wanted.provider,
        server_url=wanted.server_url or DEFAULT_SERVERS.get(wanted.provider, ""),
        phone_number=_digits(wanted.phone_number),
        phone_number_id=wanted.phone_number_id,
        portfolio_id=wanted.portfolio_id,
        gateway_instance=wanted.instance_name,
        credentials=sealer.seal({**wanted.credentials, WEBHOOK_KEY: key}),
        webhook_key_hashes=(key_hash(key),),
        webhook_url=webhook_url(public_url, wanted.provider, sealer.instance_id, None),
        is_active=wanted.is_active,
        is_default=is_default,
        max_users=wanted.max_users,
        tier=wanted.messaging_tier,
        limits=_limits(limits_of(wanted.messaging_tier), wanted.limits),
        limits_by_hand=_by_hand((), wanted.messaging_tier, wanted.limits),
        warm_up=_warm_up(wanted.warm_up),
        owner_id=wanted.user_id,
        created_at=created_at,
    )


def changed(current: InstanceConfigured, change: InstanceChange, sealer: Sealer) -> InstanceConfigured:
    """Only what was given changes; a credential given replaces the old one, the others stay."""
    given: dict[str, Any] = {name: getattr(change, name) for name in change.model_fields_set}
    fields = {
        "name": "name",
        "server_url": "server_url",
        "phone_number_id": "phone_number_id",
        "portfolio_id": "portfolio_id",
        "instance_name": "gateway_instance",
        "status": "status",
        "max_users": "max_users",
        "is_active": "is_active",
        "user_id": "owner_id",
    }
    required = {"name", "server_url", "status", "max_users", "is_active"}
    update = {
        target: given[name]
        for name, target in fields.items()
        if name in given and (given[name] is not None or name not in required)
    }
    if "phone_number" in given:
        update["phone_number"] = _digits(given["phone_number"])
    if change.credentials:
        _must_know(current.provider, change.credentials)
        update["credentials"] = current.credentials | sealer.seal(change.credentials)
    limits = current.limits
    by_hand = current.limits_by_hand
    if change.messaging_tier is not None:
        update["tier"] = change.messaging_tier
        limits = limits_of(change.messaging_tier, limits)
    elif "messaging_tier" in given:
        by_hand = tuple(name for name in by_hand if name not in OF_TIER)  # what the provider tells holds again
    update["limits_by_hand"] = _by_hand(by_hand, change.messaging_tier, change.limits)
    update["limits"] = _limits(limits, change.limits)
    if "warm_up" in given:
        update["warm_up"] = _warm_up(change.warm_up)
    return current.model_copy(update=update)


def _by_hand(before: tuple[str, ...], tier: str | None, change: LimitsChange | None) -> tuple[str, ...]:
    """What a person has set by now; sorted, so that setting it again changes nothing."""
    given = change.model_dump(exclude_unset=True) if change is not None else {}
    named = {name for name, value in given.items() if value is not None or name in NULLABLE}
    return tuple(sorted({*before, *named, *(OF_TIER if tier is not None else ())}))


def _warm_up(wanted: WarmUp | None) -> WarmUpPlan | None:
    return None if wanted is None else WarmUpPlan(**wanted.model_dump())


def _limits(limits: Limits, change: LimitsChange | None) -> Limits:
    """null means no limit for the two that may have none, and leaves the others alone."""
    if change is None:
        return limits
    given = change.model_dump(exclude_unset=True).items()
    return limits.model_copy(update={name: value for name, value in given if value is not None or name in NULLABLE})


def _must_know(provider: ProviderKind, credentials: Mapping[str, str]) -> None:
    known = {*REQUIRED_CREDENTIALS[provider], *OPTIONAL_CREDENTIALS[provider]}
    if unknown := sorted(set(credentials) - known):
        raise Incomplete(f"{provider} knows no credential {', '.join(unknown)}; it takes {', '.join(sorted(known))}")


def _digits(phone: str | None) -> str | None:
    return phone.lstrip("+") if phone else None
