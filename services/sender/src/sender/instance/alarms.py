"""What the sender finds out about a number: told on instance-health, and remembered where it stops the number."""

from collections.abc import Callable, Coroutine
from datetime import timedelta
from typing import Any
from uuid import UUID

from chassis.database import Database, driver
from chassis.kafka import outgoing
from chassis.lifecycle import utc_now
from chassis.outbox import append
from chassis.telemetry import log
from contracts.instances import BreakerClosed, BreakerOpened, InstanceHealthEvent, InstanceThrottled
from contracts.topics import INSTANCE_HEALTH, SENDER
from sender.instance.stops import STOP
from sender.work import Instance

QUIET_S = 5.0


class Alarms:
    """Implements departures.Alarm. `spawn` runs the writing apart from the lane; `changed` wakes who reads it."""

    def __init__(
        self,
        database: Database,
        *,
        spawn: Callable[[Coroutine[Any, Any, None]], object],
        changed: Callable[[], None],
        clock: Callable[[], float],
    ) -> None:
        self._database = database
        self._spawn = spawn
        self._changed = changed
        self._clock = clock
        self._throttled_at_s: dict[UUID, float] = {}

    def throttled(self, instance: Instance, per_second: float, code: str) -> None:
        """One notice in some seconds: a burst of refusals is one fact."""
        now_s = self._clock()
        if now_s - self._throttled_at_s.get(instance.instance_id, -QUIET_S) < QUIET_S:
            return
        self._throttled_at_s[instance.instance_id] = now_s
        self._tell(instance, InstanceThrottled(messages_per_second=per_second, code=code, at=utc_now()))

    def breaker_opened(self, instance: Instance, reason: str, for_s: float) -> None:
        now = utc_now()
        self._tell(instance, BreakerOpened(reason=reason, until=now + timedelta(seconds=for_s), at=now))

    def breaker_closed(self, instance: Instance) -> None:
        self._tell(instance, BreakerClosed(at=utc_now()))

    def stopped(self, instance: Instance, reason: str) -> None:
        """Until a person acts: a new configuration, or the gateway's word that it is connected again."""
        self._tell(instance, BreakerOpened(reason=reason, until=None, at=utc_now()), stop=reason)

    def _tell(self, instance: Instance, event: InstanceHealthEvent, stop: str | None = None) -> None:
        self._spawn(self._write(instance, event, stop))

    async def _write(self, instance: Instance, event: InstanceHealthEvent, stop: str | None) -> None:
        record = outgoing(
            INSTANCE_HEALTH,
            str(instance.instance_id),
            event,
            source=SENDER,
            account_id=instance.account_id,
            time=utc_now(),
        )
        try:
            async with self._database.transaction() as connection:
                if stop is not None:
                    raw = await driver(connection)
                    if (await raw.execute(STOP, instance.instance_id, stop)).endswith(" 0"):
                        return  # known and told already
                await append(connection, [record])
        except Exception as error:  # noqa: BLE001  the lane goes on; the next such answer tells it again
            log.warning("alarm_not_written", instance_id=str(instance.instance_id), error=type(error).__name__)
            return
        log.warning(
            "instance_alarm", instance_id=str(instance.instance_id), kind=type(event).__name__, cause=stop or ""
        )
        self._changed()
