"""What webhooks say of a number's health: counted, and followed by a rest or a stop, in the reports' transaction."""

from collections import defaultdict
from collections.abc import Iterable, Mapping
from datetime import datetime
from uuid import UUID

from sqlalchemy.ext.asyncio import AsyncConnection

from chassis.database import driver
from chassis.outbox import append
from contracts.instances import BreakerOpened
from providers.failures import Failure
from sender.instance import rests
from sender.instance.care import Care, begin_rest
from sender.instance.instances import Instances
from sender.instance.reach import find_stopped
from sender.instance.rests import Slot
from sender.instance.rules import ERROR_SHARE, UNEXPLAINED, Reports, is_refused, what_follows, worst
from sender.instance.stops import STOP
from sender.settlement.evidence import Report

Number = tuple[UUID, UUID]  # instance, account


class Signals:
    def __init__(self, instances: Instances, care: Care) -> None:
        self._instances = instances
        self._care = care

    async def note(
        self,
        connection: AsyncConnection,
        reports: Iterable[Report],
        now: datetime,
        answers: Mapping[Number, int] | None = None,
    ) -> bool:
        """Whether a number was stopped. Locks instances: to be called before attempts are locked."""
        counted, failures = _count(reports, answers or {}, now)
        raw = await driver(connection)
        await rests.count(raw, counted)
        changed = False
        suspects = {slot.instance_id for slot, of_slot in counted.items() if of_slot.errors}
        for instance_id in sorted(failures):
            failure = worst(failures[instance_id])
            named = None if failure is None else failures[instance_id][failure.name]
            match what_follows(failure):
                case "rest":
                    assert failure is not None
                    suspects.discard(instance_id)
                    changed |= await begin_rest(
                        connection, instance_id, failure.name, now, self._care, happened_at=named
                    )
                case "stop":
                    assert failure is not None
                    changed |= await self._stop(connection, instance_id, failure, now)
        if suspects:
            for instance_id, within in (await rests.count_within(raw, sorted(suspects), now, self._care.rules)).items():
                if is_refused(within, self._care.rules):
                    changed |= await begin_rest(connection, instance_id, ERROR_SHARE, now, self._care)
        return changed

    async def _stop(self, connection: AsyncConnection, instance_id: UUID, failure: Failure, now: datetime) -> bool:
        """As an answer to a send would: with the other numbers that the same refusal awaits."""
        raw, failed, told = await driver(connection), self._instances.get(instance_id), []
        if failed is None:
            return False
        event = BreakerOpened(reason=failure.name, until=None, at=now)
        reached = find_stopped(failed, failure, self._instances.all())
        for one in sorted(reached, key=lambda one: one.instance_id):
            if await raw.fetchrow(STOP, one.instance_id, failure.name) is not None:
                told.append(rests.health(one.instance_id, one.account_id, event, now))
                rests.STOPPED.labels(reason=failure.name).inc()
        await append(connection, told)
        return bool(told)


def _count(
    reports: Iterable[Report], answers: Mapping[Number, int], now: datetime
) -> tuple[dict[Slot, Reports], dict[UUID, dict[str, datetime]]]:
    """By number: what was reported of its messages, and the failures with the last time of each."""
    counts: dict[Number, list[int]] = defaultdict(lambda: [0, 0, 0, 0])
    for number, count in answers.items():
        counts[number][3] += count
    failures: dict[UUID, dict[str, datetime]] = defaultdict(dict)
    for report in reports:
        match report.fact:
            case "sent":
                counts[report.instance_id, report.account_id][0] += 1
            case "delivered":
                counts[report.instance_id, report.account_id][1] += 1
            case "failed" if report.failure is not None:
                last = failures[report.instance_id]
                last[report.failure] = max(report.at, last.get(report.failure, report.at))
                if report.failure in UNEXPLAINED:
                    counts[report.instance_id, report.account_id][2] += 1
    at = rests.slot_of(now)
    return {Slot(key[0], key[1], at): Reports(*count) for key, count in counts.items()}, failures
