"""What gateways do not tell by themselves, asked now and then: Evolution's version, a Meta number's limits."""

import asyncio
from typing import Any

import aiohttp

from chassis.database import Database, driver
from chassis.lifecycle import utc_now
from chassis.outbox import append
from chassis.secrets import UnreadableSecret
from chassis.telemetry import log
from contracts.instances import InstanceLimitsChanged
from providers.calls import CallAnswer, LimitsAnswered, VersionAnswered
from providers.protocol import HttpRequest, Provider
from providers.registry import PROVIDERS
from sender.gateway.client import Gateway
from sender.gateway.egress import ForbiddenAddress
from sender.gateway.exchange import NotConnected, ResponseTooLarge
from sender.instance.instances import Instances, read_config
from sender.instance.rests import health
from sender.rounds import repeat

POLL_S = 2.0
CALL_TIMEOUT_S = 15.0

# Claims numbers that were not asked for so long; a failed try counts, so that a dead gateway is not hammered.
_CLAIM = """
UPDATE instance SET probed_at = clock_timestamp()
WHERE instance_id IN (
  SELECT instance_id FROM instance
  WHERE (probed_at IS NULL OR probed_at < clock_timestamp() - make_interval(secs => $1))
    AND config ->> 'provider' IN ('meta_cloud', 'evolution_web')
    AND NOT coalesce((config ->> 'deleted')::boolean, false) AND stopped_reason IS NULL
  ORDER BY instance_id FOR UPDATE SKIP LOCKED LIMIT 10)
RETURNING instance_id, account_id, config
"""
_VERSION = """
UPDATE instance SET gateway_version = $2, revision = revision + 1
WHERE instance_id = $1 AND gateway_version IS DISTINCT FROM $2
"""


class Probes:
    """Runs in every sender; a claim keeps two from asking the same."""

    def __init__(self, database: Database, gateway: Gateway, instances: Instances, every_s: float) -> None:
        self._database = database
        self._gateway = gateway
        self._instances = instances
        self._every_s = every_s

    async def run(self, stopping: asyncio.Event) -> None:
        await repeat(self.ask, POLL_S, stopping, interrupted="probes_interrupted")

    async def ask(self) -> int:
        """One round; how many numbers were asked about."""
        async with self._database.transaction() as connection:
            rows = await (await driver(connection)).fetch(_CLAIM, self._every_s)
        async with asyncio.TaskGroup() as calls:
            for row in rows:
                calls.create_task(self._probe(row))
        return len(rows)

    async def _probe(self, row: Any) -> None:
        config = read_config(row["config"])
        provider = PROVIDERS[config.provider]
        try:
            request = provider.probe_request(self._instances.account(row["account_id"], row["instance_id"], config))
        except UnreadableSecret:
            return
        answer = None if request is None else await self._call(provider, request)
        now = utc_now()
        async with self._database.transaction() as connection:
            match answer:
                case VersionAnswered(version=version):
                    await (await driver(connection)).execute(_VERSION, row["instance_id"], version)
                case LimitsAnswered():
                    event = InstanceLimitsChanged(
                        tier=answer.tier,
                        unique_per_24h=answer.unique_per_24h,
                        unlimited=answer.unlimited,
                        messages_per_second=answer.messages_per_second,
                        quality=answer.quality,
                        at=now,
                    )
                    await append(connection, [health(row["instance_id"], row["account_id"], event, now)])
                case _:
                    return
        self._instances.wake.set()

    async def _call(self, provider: Provider, request: HttpRequest) -> CallAnswer | None:
        try:
            return provider.read_call(*await self._gateway.call(request, total_s=CALL_TIMEOUT_S))
        except (ForbiddenAddress, NotConnected, ResponseTooLarge, aiohttp.ClientError, TimeoutError, OSError) as error:
            log.info("probe_failed", provider=provider.name, error=type(error).__name__)
            return None
