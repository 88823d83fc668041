"""The instance: each event is its whole configuration. No I/O, no clock.

Every decision answers the events to append, [] where the wanted thing is so already.
"""

from dataclasses import dataclass
from typing import Literal
from uuid import UUID

from contracts.instances import InstanceConfigured, ProviderKind

REQUIRED_CREDENTIALS: dict[ProviderKind, tuple[str, ...]] = {
    "evolution_web": ("apikey",),
    "evolution_cloud": ("apikey", "access_token"),
    "meta_cloud": ("access_token",),
    "zapi": ("instance_id", "token", "client_token"),
}
OPTIONAL_CREDENTIALS: dict[ProviderKind, tuple[str, ...]] = {
    "evolution_web": (),
    "evolution_cloud": ("app_secret", "business_id"),
    "meta_cloud": ("app_secret", "verify_token", "business_id"),
    "zapi": (),
}
# Made here, not by people: the secret in our webhook's address or header.
WEBHOOK_KEY = "webhook_key"
WEBHOOK_KEYS_KEPT = 2
Wanted = Literal["connected", "disconnected"]


class Incomplete(Exception):
    """The provider of this instance needs something that is missing; the text names it."""


@dataclass(frozen=True, slots=True)
class Instance:
    """`configuration` None: it was never created."""

    configuration: InstanceConfigured | None = None

    @property
    def exists(self) -> bool:
        return self.configuration is not None and not self.configuration.deleted


INITIAL = Instance()


def evolve(_: Instance, event: InstanceConfigured) -> Instance:
    return Instance(event)


def missing(configuration: InstanceConfigured) -> list[str]:
    """What the provider needs and the configuration lacks, as the client names it."""
    lacking = [name for name in REQUIRED_CREDENTIALS[configuration.provider] if name not in configuration.credentials]
    if configuration.provider == "meta_cloud" and not configuration.phone_number_id:
        lacking.append("phone_number_id")
    if configuration.provider in ("evolution_web", "evolution_cloud") and not configuration.gateway_instance:
        lacking.append("instance_name")
    if not configuration.server_url:
        lacking.append("server_url")
    return lacking


def configure(instance: Instance, wanted: InstanceConfigured) -> list[InstanceConfigured]:
    """Creates or changes it. Raises Incomplete."""
    if lacking := missing(wanted):
        raise Incomplete(f"An instance of {wanted.provider} needs {', '.join(lacking)}")
    return [] if instance.configuration == wanted else [wanted]


def want(instance: Instance, wanted: Wanted) -> list[InstanceConfigured]:
    """A person asks for a connection or its end; asking again is a new request (a new QR code)."""
    configuration = instance.configuration
    if configuration is None or configuration.deleted:
        return []
    if wanted == "disconnected" and configuration.wanted == "disconnected":
        return []
    changes = {"wanted": wanted, "wanted_version": configuration.wanted_version + 1}
    return [configuration.model_copy(update=changes)]


def delete(instance: Instance) -> list[InstanceConfigured]:
    configuration = instance.configuration
    if configuration is None or configuration.deleted:
        return []
    changes = {
        "deleted": True,
        "is_active": False,
        "is_default": False,
        "wanted": "deleted",
        "wanted_version": configuration.wanted_version + 1,
    }
    return [configuration.model_copy(update=changes)]


def become_default(instance: Instance, is_default: bool) -> list[InstanceConfigured]:
    configuration = instance.configuration
    if configuration is None or configuration.deleted or configuration.is_default == is_default:
        return []
    return [configuration.model_copy(update={"is_default": is_default})]


def rotate_webhook_key(instance: Instance, sealed: str, key_hash: str) -> list[InstanceConfigured]:
    """The old key's hash stays accepted until the next rotation."""
    configuration = instance.configuration
    if configuration is None or configuration.deleted:
        return []
    hashes = (key_hash, *configuration.webhook_key_hashes)[:WEBHOOK_KEYS_KEPT]
    credentials = configuration.credentials | {WEBHOOK_KEY: sealed}
    return [configuration.model_copy(update={"webhook_key_hashes": hashes, "credentials": credentials})]


def note_connected(instance: Instance, phone_number: str | None) -> list[InstanceConfigured]:
    """Connected again: usable again, and its number is known now."""
    configuration = instance.configuration
    if configuration is None or configuration.deleted:
        return []
    changes: dict[str, object] = {}
    if phone_number and phone_number != configuration.phone_number:
        changes["phone_number"] = phone_number
    if configuration.status == "disconnected":
        changes["status"] = "active"
    return [configuration.model_copy(update=changes)] if changes else []


def note_lost(instance: Instance, status: Literal["banned", "disconnected"]) -> list[InstanceConfigured]:
    """A ban outweighs a disconnection."""
    configuration = instance.configuration
    if configuration is None or configuration.deleted or configuration.status in (status, "banned"):
        return []
    return [configuration.model_copy(update={"status": status})]


def note_limits(
    instance: Instance,
    *,
    tier: str | None,
    unique_per_24h: int | None,
    messages_per_second: float | None,
    unlimited: bool = False,
) -> list[InstanceConfigured]:
    """What the provider told holds, except for what a person set."""
    configuration = instance.configuration
    if configuration is None or configuration.deleted:
        return []
    by_hand = configuration.limits_by_hand
    told: dict[str, float | None] = {"unique_per_24h": unique_per_24h, "messages_per_second": messages_per_second}
    said = {name for name, value in told.items() if value is not None} | ({"unique_per_24h"} if unlimited else set())
    kept = {name: told[name] for name in said if name not in by_hand}
    if tier is not None and "tier" not in by_hand:
        changed = configuration.model_copy(update={"tier": tier})
    else:
        changed = configuration
    changed = changed.model_copy(update={"limits": configuration.limits.model_copy(update=kept)})
    return [] if changed == configuration else [changed]


def owner_of(instance: Instance) -> UUID | None:
    return instance.configuration.owner_id if instance.configuration else None
