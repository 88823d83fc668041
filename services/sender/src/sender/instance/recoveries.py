"""What time alone ends for a number: told by whichever sender looks first."""

import asyncio
from collections.abc import Callable
from datetime import timedelta

from chassis.database import Database, driver
from chassis.lifecycle import utc_now
from chassis.outbox import append
from contracts.instances import BreakerClosed, InstanceRateRestored
from sender.instance import warming
from sender.instance.rests import health
from sender.instance.warm_up import Policy
from sender.rounds import repeat

EACH_S = 1.0

_RESTORED = """
UPDATE instance_owner SET pace_cap = NULL, pace_refused = NULL, pace_at = NULL, pace_until = NULL
WHERE instance_id IN (SELECT instance_id FROM instance_owner WHERE pace_until <= clock_timestamp()
                      ORDER BY instance_id FOR UPDATE SKIP LOCKED LIMIT 100)
RETURNING instance_id, account_id, pace_full
"""
# A number that stands for another reason as well goes on when that is lifted.
_RESTED = """
UPDATE instance SET resting = false, rest_reason = NULL, revision = revision + 1
WHERE instance_id IN (SELECT instance_id FROM instance WHERE resting AND rest_until <= clock_timestamp()
                      ORDER BY instance_id FOR UPDATE SKIP LOCKED LIMIT 100)
RETURNING instance_id, account_id, stopped_reason
"""
_FORGET = """
DELETE FROM instance_report WHERE (instance_id, slot) IN (
  SELECT instance_id, slot FROM instance_report WHERE slot < clock_timestamp() - make_interval(secs => $1) LIMIT 1000)
"""
KEEP_S = 8 * 24 * 3600.0


class Recoveries:
    """`changed` wakes who reads the numbers."""

    def __init__(self, database: Database, policy: Policy, changed: Callable[[], None]) -> None:
        self._database = database
        self._policy = policy
        self._changed = changed

    async def run(self, stopping: asyncio.Event) -> None:
        await repeat(self.sweep, EACH_S, stopping, interrupted="recoveries_interrupted")

    async def sweep(self) -> None:
        async with self._database.transaction() as connection:
            raw, now = await driver(connection), utc_now()
            told = [
                health(instance_id, account_id, InstanceRateRestored(messages_per_second=full, at=now), now)
                for instance_id, account_id, full in await raw.fetch(_RESTORED)
            ]
            rested = await raw.fetch(_RESTED)
            told += [
                health(row["instance_id"], row["account_id"], BreakerClosed(at=now), now)
                for row in rested
                if row["stopped_reason"] is None
            ]
            await append(connection, told)
            await warming.move_on(connection, now - timedelta(seconds=self._policy.day_s), now, self._policy)
            await raw.execute(_FORGET, KEEP_S)
        if rested:
            self._changed()
