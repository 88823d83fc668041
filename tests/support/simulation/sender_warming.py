"""Warm-ups in a sender of the simulation: the days are the real ones, the statements of `warming` are a line each.

Senders look for days that are over each second; here they do where somebody waits for the next day, or somebody has
used this one: else nothing would ever come to rest.
"""

from collections.abc import Sequence
from datetime import datetime
from typing import NamedTuple
from uuid import UUID

from contracts.instances import InstanceConfigured, InstanceLimitsChanged, WarmUpChanged, WarmUpPlan
from sender.instance import warm_up
from sender.instance.counts import Counts
from sender.instance.rests import health
from sender.instance.rules import Reports
from sender.instance.warm_up import Day, Seen
from simulation.clock import START, Process, Steps
from simulation.drivers import AGAIN_S
from simulation.kafka import Record
from simulation.ledger_rows import SCHEMA
from simulation.postgres import ConnectionLost, Database, Transaction
from simulation.scheduler_tables import CAMPAIGN, DISPATCH, LANE, is_ready
from simulation.town import ACCOUNT, Town

WARM_UP, REPORT = "sender.warm_up", "sender.report"
SLOTS_A_DAY = 288  # five minutes of a day of ours


class Row(NamedTuple):
    plan: WarmUpPlan
    day: Day
    done: bool = False


class Warming:
    def __init__(self, town: Town, database: Database) -> None:
        self.database, self.policy = database, town.warm_ups.policy
        self.slot_s = self.policy.day_s / SLOTS_A_DAY

    def heed(self, transaction: Transaction, batch: Sequence[Record]) -> Steps[None]:
        """As warming.heed: begun by a configuration, slowed by a poor quality."""
        for one in batch:
            event, instance_id = one.event, UUID(one.key)
            if not isinstance(event, InstanceConfigured | InstanceLimitsChanged):
                continue
            yield from transaction.lock(WARM_UP, instance_id)
            row: Row | None = transaction.read(WARM_UP, instance_id)
            match event:
                case InstanceConfigured(warm_up=WarmUpPlan() as plan):
                    if row is None:
                        first = warm_up.begin(plan, one.envelope.time)
                        self._save(transaction, instance_id, Row(plan, first), one.envelope.time)
                    else:
                        transaction.write(WARM_UP, instance_id, row._replace(plan=plan))
                case InstanceLimitsChanged(quality=str(quality)) if quality in warm_up.POOR and row and not row.done:
                    sign = f"quality_{quality.lower()}"
                    slowed = warm_up.slow(row.plan, row.day, sign, self.policy)
                    if slowed is not row.day:
                        self._save(transaction, instance_id, row._replace(day=slowed), one.envelope.time)

    def count(self, transaction: Transaction, counts: Counts) -> Steps[None]:
        """As Counts.write."""
        now_s = self.database.loop.now
        slot_s = now_s - now_s % self.slot_s
        for (instance_id, _), new in sorted(counts.of_numbers.items()):
            key = instance_id, slot_s
            yield from transaction.lock(REPORT, key)
            known: Reports = transaction.read(REPORT, key) or Reports()
            summed = Reports(*(one + other for one, other in zip(known, new, strict=True)))
            transaction.write(REPORT, key, summed)

    def run(self, process: Process) -> Steps[None]:
        while True:
            now, heard = self.database.loop.at(), self.database.changed("scheduler")
            over = [
                instance_id
                for instance_id, row in self.database.tables[WARM_UP].items()
                if not row.done and warm_up.ends_at(row.day, self.policy) <= now and self._matters(instance_id, row)
            ]
            try:
                for instance_id in over:
                    yield from self._move_on(process, instance_id)
            except ConnectionLost:
                yield AGAIN_S
                continue
            ends = [warm_up.ends_at(row.day, self.policy) for row in self.database.tables[WARM_UP].values()]
            later_s = [(end - now).total_seconds() for end in ends if end > now]
            yield 0.5
            if not over:
                yield (heard, min(later_s, default=None))

    def _matters(self, instance_id: UUID, row: Row) -> bool:
        if self._seen(instance_id, row.day).sent:
            return True
        lane, campaigns = self.database.tables[LANE][instance_id], self.database.tables[CAMPAIGN]
        waits = lane["warm_allowance"] is not None and lane["warm_used"] >= lane["warm_allowance"]
        return waits and any(
            one["instance_id"] == instance_id and is_ready(one) and campaigns[one["campaign_id"]]["status"] == "running"
            for one in self.database.tables[DISPATCH].values()
        )

    def _seen(self, instance_id: UUID, day: Day) -> Seen:
        since_s = (day.begins_at - START).total_seconds() - self.slot_s
        of_day = [
            reports
            for (of, slot_s), reports in self.database.tables[REPORT].items()
            if of == instance_id and slot_s >= since_s
        ]
        return Seen(sum(one.sent for one in of_day), sum(one.delivered for one in of_day))

    def _move_on(self, process: Process, instance_id: UUID) -> Steps[None]:
        """As warming.move_on, for one number."""
        transaction, now = self.database.begin(process), self.database.loop.at()
        row: Row = transaction.read(WARM_UP, instance_id)
        if not transaction.try_lock(WARM_UP, instance_id) or warm_up.ends_at(row.day, self.policy) > now or row.done:
            transaction.roll_back()
            return
        following = warm_up.next_day(row.plan, row.day, self._seen(instance_id, row.day), now, self.policy)
        if following is None:
            transaction.write(WARM_UP, instance_id, row._replace(done=True))
            warm = WarmUpChanged(day=row.day.day, allowance=None, begins_at=now, ends_at=now, at=now)
            transaction.append(SCHEMA, [health(instance_id, ACCOUNT, warm, now)])
        else:
            self._save(transaction, instance_id, row._replace(day=following), now)
        yield from transaction.commit()

    def _save(self, transaction: Transaction, instance_id: UUID, row: Row, now: datetime) -> None:
        transaction.write(WARM_UP, instance_id, row)
        event = WarmUpChanged(
            day=row.day.day, allowance=row.day.allowance, begins_at=row.day.begins_at,
            ends_at=warm_up.ends_at(row.day, self.policy), slowed_by=row.day.slowed_by, at=now,
        )  # fmt: skip
        transaction.append(SCHEMA, [health(instance_id, ACCOUNT, event, now)])
