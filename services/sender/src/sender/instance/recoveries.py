"""What time alone ends for a number: told by whichever sender looks first."""

import asyncio
from uuid import UUID

from chassis.database import Database, driver
from chassis.kafka import Outgoing, outgoing
from chassis.lifecycle import utc_now
from chassis.outbox import append
from chassis.telemetry import log
from contracts.instances import InstanceHealthEvent, InstanceRateRestored
from contracts.topics import INSTANCE_HEALTH, SENDER

EACH_S = 1.0

_RESTORED = """
UPDATE instance_owner SET pace_cap = NULL, pace_refused = NULL, pace_at = NULL, pace_until = NULL
WHERE instance_id IN (SELECT instance_id FROM instance_owner WHERE pace_until <= clock_timestamp()
                      ORDER BY instance_id FOR UPDATE SKIP LOCKED LIMIT 100)
RETURNING instance_id, account_id, pace_full
"""


class Recoveries:
    def __init__(self, database: Database) -> None:
        self._database = database

    async def run(self, stopping: asyncio.Event) -> None:
        while not stopping.is_set():
            try:
                await self.sweep()
            except Exception as error:  # noqa: BLE001  the edge of the loop; the next round tries again
                log.warning("recoveries_interrupted", error=f"{type(error).__name__}: {error}")
            try:
                async with asyncio.timeout(EACH_S):
                    await stopping.wait()
            except TimeoutError:
                pass

    async def sweep(self) -> None:
        async with self._database.transaction() as connection:
            raw, now = await driver(connection), utc_now()
            told = [
                _health(
                    row["instance_id"],
                    row["account_id"],
                    InstanceRateRestored(messages_per_second=row["pace_full"], at=now),
                )
                for row in await raw.fetch(_RESTORED)
            ]
            await append(connection, told)


def _health(instance_id: UUID, account_id: UUID, event: InstanceHealthEvent) -> Outgoing:
    return outgoing(
        INSTANCE_HEALTH, str(instance_id), event, source=SENDER, account_id=account_id, time=utc_now()
    )  # fmt: skip
