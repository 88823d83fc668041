"""Asking a gateway whether an uncertain message arrived: what it shows settles, what it lacks proves nothing."""

import asyncio
from datetime import timedelta
from typing import Any

import aiohttp

from chassis.database import Database, driver
from chassis.lifecycle import utc_now
from chassis.telemetry import log
from providers.calls import Found
from sender.gateway.client import Gateway
from sender.gateway.exchange import NotConnected, ResponseTooLarge
from sender.instance.instances import Instances
from sender.ledger.attempt import WasAccepted
from sender.rounds import repeat
from sender.settings import Settings
from sender.settlement.consequences import carry_out
from sender.settlement.settling import settle
from sender.work import outbound, read_queued

BEFORE = timedelta(seconds=5)  # gateways' clocks
AT_ONCE = 20

# Claims what was not asked about yet (index attempt_open): one question an attempt, whichever sender asks it.
_CLAIM = """
UPDATE attempt a SET looked_up_at = clock_timestamp()
FROM (SELECT account_id, dispatch_id, attempt FROM attempt
      WHERE state = 'ambiguous' AND recipient_key <> '' AND looked_up_at IS NULL AND instance_id = ANY($1::uuid[])
        AND intent_at < clock_timestamp() - make_interval(secs => $2)
      ORDER BY intent_at LIMIT $3 FOR UPDATE SKIP LOCKED) k
WHERE a.account_id = k.account_id AND a.dispatch_id = k.dispatch_id AND a.attempt = k.attempt
RETURNING a.account_id, a.dispatch_id, a.attempt, a.instance_id, a.queued, a.intent_at, a.times_out_at
"""


class LookUps:
    """Only for numbers whose statuses do not carry our label."""

    def __init__(self, database: Database, gateway: Gateway, instances: Instances, settings: Settings) -> None:
        self._database = database
        self._gateway = gateway
        self._instances = instances
        self._settings = settings

    async def run(self, stopping: asyncio.Event) -> None:
        await repeat(self.ask, min(5.0, self._settings.look_up_after_s), stopping, interrupted="look_ups_interrupted")

    async def ask(self) -> int:
        """One round; the number of attempts that were found."""
        unlabelled = [instance.instance_id for instance in self._instances.all() if not instance.labelled]
        if not unlabelled:
            return 0
        async with self._database.transaction() as connection:
            raw = await driver(connection)
            rows = await raw.fetch(_CLAIM, unlabelled, self._settings.look_up_after_s, AT_ONCE)
        found = 0
        for row in rows:
            identity = await self._look(row)
            if identity is not None:
                found += 1
                key = (row["account_id"], row["dispatch_id"], row["attempt"])
                async with self._database.transaction() as connection:
                    _, consequences = await settle(connection, [(key, WasAccepted(identity, by="look_up"))], utc_now())
                await carry_out(self._database, consequences)
        return found

    async def _look(self, row: Any) -> str | None:
        instance = self._instances.get(row["instance_id"])
        if instance is None:
            return None
        message = outbound(read_queued(row["queued"]))
        since_ms = int((row["intent_at"] - BEFORE).timestamp() * 1000)
        until_ms = int((row["times_out_at"] + BEFORE).timestamp() * 1000)
        request = instance.provider.look_up_request(message, instance.account, since_ms=since_ms, until_ms=until_ms)
        if request is None:
            return None
        try:
            answer = await self._gateway.call(request, total_s=self._settings.text_timeout_s)
        except (NotConnected, ResponseTooLarge, aiohttp.ClientError, TimeoutError, OSError) as error:
            log.info("look_up_failed", instance_id=str(instance.instance_id), error=type(error).__name__)
            return None
        result = instance.provider.read_look_up(message, since_ms, *answer)
        return result.provider_message_id if isinstance(result, Found) else None
