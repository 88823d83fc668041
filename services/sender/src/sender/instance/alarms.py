"""What the sender finds out about a number: told on instance-health, and remembered where it stops the number."""

from collections.abc import Callable, Coroutine, Iterable, Sequence
from datetime import timedelta
from typing import Any

from chassis.database import Database, driver
from chassis.kafka import Outgoing, outgoing
from chassis.lifecycle import utc_now
from chassis.outbox import append
from chassis.telemetry import counter, log
from contracts.instances import BreakerClosed, BreakerOpened, InstanceHealthEvent, InstanceThrottled
from contracts.topics import INSTANCE_HEALTH, SENDER
from providers.failures import Failure
from sender.instance.care import Care, begin_rest
from sender.instance.reach import find_stopped
from sender.instance.rests import STOPPED
from sender.instance.stops import STOP
from sender.lane.pace import Pace, free_at
from sender.work import Instance

# What the next owner of the number starts from.
_PACE = """
UPDATE instance_owner SET pace_cap = $2, pace_refused = $3, pace_full = $4, pace_at = to_timestamp($5),
    pace_until = to_timestamp($6)
WHERE instance_id = $1
"""
SLOWED = counter("pombo_instances_slowed_total", "Times that a number was slowed for its provider's sake.", ["code"])


class Alarms:
    """Implements departures.Alarm. `spawn` runs the writing apart from the lane; `changed` wakes who reads it."""

    def __init__(
        self,
        database: Database,
        *,
        spawn: Callable[[Coroutine[Any, Any, None]], object],
        changed: Callable[[], None],
        instances: Callable[[], Iterable[Instance]],
        care: Care,
    ) -> None:
        self._database = database
        self._spawn = spawn
        self._changed = changed
        self._instances = instances
        self._care = care

    def slowed(self, instance: Instance, slower: Pace, full: float, code: str) -> None:
        """Remembered for whoever owns the number next."""
        SLOWED.labels(code=code).inc()
        event = InstanceThrottled(messages_per_second=slower.cap, code=code, at=utc_now())
        self._spawn(self._write_pace(instance, slower, full, event))

    def breaker_opened(self, instance: Instance, reason: str, for_s: float) -> None:
        now = utc_now()
        self._tell([instance], BreakerOpened(reason=reason, until=now + timedelta(seconds=for_s), at=now))

    def breaker_closed(self, instance: Instance) -> None:
        self._tell([instance], BreakerClosed(at=utc_now()))

    def stopped(self, instance: Instance, failure: Failure) -> None:
        """Until a person acts: a new configuration, or the gateway's word that it is connected again. Other numbers
        that the same refusal awaits are stopped with it, before each has lost messages to it."""
        reached = find_stopped(instance, failure, self._instances())
        self._tell(reached, BreakerOpened(reason=failure.name, until=None, at=utc_now()), stop=failure.name)

    async def _write_pace(self, instance: Instance, slower: Pace, full: float, event: InstanceThrottled) -> None:
        try:
            async with self._database.transaction() as connection:
                until_s = free_at(slower, full)
                await (await driver(connection)).execute(
                    _PACE, instance.instance_id, *slower[:2], full, slower.at_s, until_s
                )
                await append(connection, [_health(instance, event)])
        except Exception as error:  # noqa: BLE001  the lane is slower already; the next refusal writes it again
            log.warning("pace_not_written", error=type(error).__name__)

    def rested(self, instance: Instance, failure: Failure) -> None:
        """The number rests for a time of its own; also over a restart of this process."""
        self._spawn(self._write_rest(instance, failure.name))

    async def _write_rest(self, instance: Instance, reason: str) -> None:
        try:
            async with self._database.transaction() as connection:
                begun = await begin_rest(connection, instance.instance_id, reason, utc_now(), self._care)
        except Exception as error:  # noqa: BLE001  the next such answer tells it again
            log.warning("alarm_not_written", instances=1, error=type(error).__name__)
            return
        if begun:
            self._changed()

    def _tell(self, instances: Sequence[Instance], event: InstanceHealthEvent, stop: str | None = None) -> None:
        self._spawn(self._write(instances, event, stop))

    async def _write(self, instances: Sequence[Instance], event: InstanceHealthEvent, stop: str | None) -> None:
        told: list[Instance] = []
        try:
            async with self._database.transaction() as connection:
                raw = await driver(connection)
                for instance in sorted(instances, key=lambda one: one.instance_id):  # in the order of their locks
                    if stop is None or await raw.fetchrow(STOP, instance.instance_id, stop, event.at) is not None:
                        told.append(instance)  # else known and told already
                        if stop is not None:
                            STOPPED.labels(reason=stop).inc()
                await append(connection, [_health(instance, event) for instance in told])
        except Exception as error:  # noqa: BLE001  the lane goes on; the next such answer tells it again
            log.warning("alarm_not_written", instances=len(instances), error=type(error).__name__)
            return
        for instance in told:
            log.warning(
                "instance_alarm", instance_id=str(instance.instance_id), kind=type(event).__name__, cause=stop or ""
            )
        if told:
            self._changed()


def _health(instance: Instance, event: InstanceHealthEvent) -> Outgoing:
    return outgoing(
        INSTANCE_HEALTH,
        str(instance.instance_id),
        event,
        source=SENDER,
        account_id=instance.account_id,
        time=utc_now(),
    )
