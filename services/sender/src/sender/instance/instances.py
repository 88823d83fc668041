"""The numbers as this process knows them: read from the schema's table, which the control consumer writes."""

import asyncio
from collections.abc import Callable, Iterable, Sequence
from dataclasses import replace
from math import ceil
from typing import Any
from uuid import UUID

import orjson

from chassis.database import Database, driver
from chassis.secrets import SecretBox, UnreadableSecret
from chassis.telemetry import log
from contracts.instances import InstanceConfigured
from providers.protocol import Account
from providers.registry import PROVIDERS
from sender.instance import inbound
from sender.lane.throttle import Rate, leave_room, size_pair_rate, size_rate
from sender.settings import Settings
from sender.work import Instance

WEB_KINDS = frozenset({"evolution_web", "zapi"})

_REVISIONS = "SELECT instance_id, revision FROM instance"
_CHANGED = """
SELECT instance_id, account_id, config, revision, stopped_reason, gateway_version,
       CASE WHEN resting THEN rest_until END AS rests_until
FROM instance WHERE instance_id = ANY($1)
"""


class Instances:
    """A copy in memory, at most `config_poll_s` old; `changed` is called with each instance that is new or other."""

    def __init__(self, database: Database, secrets: SecretBox, settings: Settings) -> None:
        self._database = database
        self._secrets = secrets
        self._settings = settings
        self._known: dict[UUID, Instance] = {}
        self._inbound: dict[UUID, float] = {}
        self.wake = asyncio.Event()

    def get(self, instance_id: UUID) -> Instance | None:
        return self._known.get(instance_id)

    def all(self) -> Sequence[Instance]:
        return list(self._known.values())

    async def run(self, changed: Callable[[UUID], None], stopping: asyncio.Event) -> None:
        while not stopping.is_set():
            self.wake.clear()
            try:
                for instance_id in await self.refresh():
                    changed(instance_id)
            except Exception as error:  # noqa: BLE001  the edge of the loop; the copy in memory stays in use
                log.warning("instances_not_read", error=f"{type(error).__name__}: {error}")
            try:
                async with asyncio.timeout(self._settings.config_poll_s):
                    await self.wake.wait()
            except TimeoutError:
                pass

    async def refresh(self) -> list[UUID]:
        """The instances that changed since the last time."""
        async with self._database.transaction() as connection:
            raw = await driver(connection)
            revisions = {row["instance_id"]: row["revision"] for row in await raw.fetch(_REVISIONS)}
            wanted = [
                key
                for key, revision in revisions.items()
                if key not in self._known or self._known[key].revision != revision
            ]
            rows = await raw.fetch(_CHANGED, wanted) if wanted else []
            self._inbound = await inbound.read(raw)
        for row in rows:
            self._known[row["instance_id"]] = self._read(row)
        self._share_quotas()
        return [*wanted, *self._make_room()]

    def _share_quotas(self) -> None:
        """Numbers of one portfolio have one limit, whatever was told of each: the smallest that is known."""
        limits = smallest_limits(self._known.values())
        for instance_id, instance in self._known.items():
            limit = limits.get((instance.account_id, instance.quota_scope))
            if instance.quota_limit != limit:
                self._known[instance_id] = replace(instance, quota_limit=limit)

    def _make_room(self) -> list[UUID]:
        """The numbers whose rate is another, because they receive more or less than before."""
        others = []
        for instance_id, instance in self._known.items():
            rate = self._rate(instance_id, instance.config)
            if rate != instance.rate:
                self._known[instance_id] = replace(instance, rate=rate)
                others.append(instance_id)
        return others

    def _rate(self, instance_id: UUID, config: InstanceConfigured) -> Rate:
        limits = config.limits
        received = 0.0 if config.provider in WEB_KINDS else self._inbound.get(instance_id, 0.0)
        limit = leave_room(limits.messages_per_second, received)
        return size_rate(limit, limits.target_per_second, limits.burst, self._settings.jitter_s)

    def _read(self, row: Any) -> Instance:
        config = read_config(row["config"])
        limits = config.limits
        stopped: str | None = _stopped(config) or row["stopped_reason"]
        try:
            account = self.account(row["account_id"], row["instance_id"], config, row["gateway_version"])
        except UnreadableSecret as error:
            log.error("credentials_unreadable", instance_id=str(row["instance_id"]), error=str(error))
            account, stopped = Account(kind=config.provider), "credentials_unreadable"
        rate = self._rate(row["instance_id"], config)
        portfolio = config.portfolio_id
        return Instance(
            instance_id=row["instance_id"],
            account_id=row["account_id"],
            config=config,
            account=account,
            provider=PROVIDERS[config.provider],
            rate=rate,
            pair_rate=size_pair_rate(limits.pair_per_minute, limits.pair_burst, self._settings.pair_jitter_s),
            in_flight_max=self._in_flight_max(config, rate.per_second),
            quota_scope=f"portfolio:{portfolio}" if portfolio else f"instance:{row['instance_id']}",
            quota_limit=limits.unique_per_24h,
            labelled=config.provider == "meta_cloud",
            stopped=stopped,
            revision=row["revision"],
            rests_until=row["rests_until"],
            chooses_ids=account.gateway_version is not None,
        )

    def _in_flight_max(self, config: InstanceConfigured, per_second: float) -> int:
        """One at a time over a web session: its gateway keeps no order and a ban comes quickly."""
        if config.limits.max_in_flight is not None:
            return max(1, config.limits.max_in_flight)
        if config.provider in WEB_KINDS:
            return 1
        return max(self._settings.in_flight_min, ceil(per_second * self._settings.latency_headroom_s))

    def account(
        self, account_id: UUID, instance_id: UUID, config: InstanceConfigured, gateway_version: str | None = None
    ) -> Account:
        """The provider's view of an instance, credentials in clear. Raises UnreadableSecret."""
        return Account(
            kind=config.provider,
            server_url=config.server_url,
            phone_number_id=config.phone_number_id,
            instance_name=config.gateway_instance,
            phone_number=config.phone_number,
            gateway_version=gateway_version,
            credentials={
                field: self._secrets.open(sealed, account_id=account_id, instance_id=instance_id, field=field)
                for field, sealed in config.credentials.items()
            },
        )


def smallest_limits(instances: Iterable[Instance]) -> dict[tuple[UUID, str], int]:
    """Unique recipients in 24 hours by account and quota scope, of the numbers that are not deleted."""
    limits: dict[tuple[UUID, str], int] = {}
    for instance in instances:
        limit = instance.config.limits.unique_per_24h
        if limit is not None and not instance.config.deleted:
            key = instance.account_id, instance.quota_scope
            limits[key] = min(limit, limits.get(key, limit))
    return limits


def read_config(stored: Any) -> InstanceConfigured:
    """From the jsonb column, which the driver gives as decoded value or text."""
    value = orjson.loads(stored) if isinstance(stored, str | bytes) else stored
    return InstanceConfigured.model_validate(value, extra="ignore", strict=False)


def _stopped(config: InstanceConfigured) -> str | None:
    if config.deleted:
        return "deleted"
    return None if config.status == "active" else config.status
