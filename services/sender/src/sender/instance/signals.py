"""What webhooks say of a number's health, followed by a rest or a stop."""

from collections import defaultdict
from collections.abc import Iterable, Sequence
from datetime import datetime
from uuid import UUID

from sqlalchemy.ext.asyncio import AsyncConnection

from chassis.database import driver
from chassis.outbox import append
from contracts.instances import BreakerOpened
from providers.failures import Failure
from sender.instance import rests
from sender.instance.care import Care, begin_rest
from sender.instance.counts import count_within
from sender.instance.instances import Instances
from sender.instance.reach import find_stopped
from sender.instance.rules import ERROR_SHARE, is_refused, what_follows, worst
from sender.instance.stops import STOP
from sender.settlement.evidence import Report


class Signals:
    def __init__(self, instances: Instances, care: Care) -> None:
        self._instances = instances
        self._care = care

    async def note(self, connection: AsyncConnection, reports: Iterable[Report], now: datetime) -> bool:
        """Whether a number was stopped, in the reports' transaction. Locks instances: to be called before attempts are
        locked."""
        failures = _failures(reports)
        changed = False
        for instance_id in sorted(failures):
            failure = worst(failures[instance_id])
            named = None if failure is None else failures[instance_id][failure.name]
            match what_follows(failure):
                case "rest":
                    assert failure is not None
                    changed |= await begin_rest(
                        connection, instance_id, failure.name, now, self._care, happened_at=named
                    )
                case "stop":
                    assert failure is not None
                    assert named is not None
                    changed |= await self._stop(connection, instance_id, failure, now, happened_at=named)
        return changed

    async def weigh(self, connection: AsyncConnection, instance_ids: Sequence[UUID], now: datetime) -> bool:
        """Whether a number was sent to rest for its share of errors. In a transaction of its own, as it locks
        instances: it is asked again with the number's next error."""
        if not instance_ids:
            return False
        changed, raw = False, await driver(connection)
        for instance_id, within in (await count_within(raw, instance_ids, now, self._care.rules)).items():
            if is_refused(within, self._care.rules):
                changed |= await begin_rest(connection, instance_id, ERROR_SHARE, now, self._care)
        return changed

    async def _stop(
        self, connection: AsyncConnection, instance_id: UUID, failure: Failure, now: datetime, *, happened_at: datetime
    ) -> bool:
        """As an answer to a send would: with the other numbers that the same refusal awaits."""
        raw, failed, told = await driver(connection), self._instances.get(instance_id), []
        if failed is None:
            return False
        event = BreakerOpened(reason=failure.name, until=None, at=now)
        reached = find_stopped(failed, failure, self._instances.all())
        for one in sorted(reached, key=lambda one: one.instance_id):
            if await raw.fetchrow(STOP, one.instance_id, failure.name, happened_at) is not None:
                told.append(rests.health(one.instance_id, one.account_id, event, now))
                rests.STOPPED.labels(reason=failure.name).inc()
        await append(connection, told)
        return bool(told)


def _failures(reports: Iterable[Report]) -> dict[UUID, dict[str, datetime]]:
    """By number: the failures that were reported, with the last time of each."""
    failures: dict[UUID, dict[str, datetime]] = defaultdict(dict)
    for report in reports:
        if report.fact == "failed" and report.failure is not None:
            last = failures[report.instance_id]
            last[report.failure] = max(report.at, last.get(report.failure, report.at))
    return failures
