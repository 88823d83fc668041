"""A sender's process in the simulation: what it reads, tells, renews and sweeps. The watermark of offsets is real.

The loops are asyncio code in the service; here they are tasks of the virtual clock that ask the same deciders.
"""

from functools import partial
from typing import Any
from uuid import UUID

from chassis.kafka import Outgoing
from contracts import topics
from contracts.codec import encode
from contracts.messages import MessageQueued
from sender.instance.ownership import lease_from
from sender.lane.circuit import Hosts
from sender.ledger.attempt import Finding
from sender.offsets import Watermark
from sender.work import Work
from simulation.clock import Process, Signal, Steps
from simulation.drivers import AGAIN_S, consume, relay
from simulation.evidence import Ears
from simulation.kafka import BrokerAway, Kafka, Place, Replaced
from simulation.ledger import Ledger
from simulation.ledger_rows import GATE, SCHEMA
from simulation.postgres import ConnectionLost, Database
from simulation.provider import Provider
from simulation.sender_lane import RETRY_S, Lane
from simulation.sender_leases import Leases
from simulation.sender_warming import Warming
from simulation.sweeps import Sweeps
from simulation.town import ACCOUNT, LANE, SENDER, TRACE, Town

GROUP = "sender-queue"


class SenderRun:
    """One life of a sender's process."""

    def __init__(
        self, process: Process, town: Town, database: Database, kafka: Kafka, provider: Provider, flaws: frozenset[str]
    ) -> None:
        self.process, self.town, self.database, self.kafka = process, town, database, kafka
        self.provider, self.flaws = provider, flaws
        self.ledger, self.leases = Ledger(database, flaws), Leases(process, database)
        self.sweeps = Sweeps(self.ledger)
        self.late_departures = town.faults.late_departures
        self.lanes: dict[UUID, Lane] = {}
        self.hosts = Hosts(LANE)
        self.marks: dict[Place, tuple[Watermark, list[UUID]]] = {}
        self.outcomes: list[tuple[Work, int, Finding]] = []
        self.answered: list[tuple[Work, Outgoing]] = []
        self.writing, self.renewing = Signal(process.loop), Signal(process.loop)
        self.unclaimed = False

    def tasks(self) -> list[Steps[None]]:
        hears = partial(consume, self.process, self.database, self.kafka)
        warming = Warming(self.town, self.database) if self.town.warm_ups.plans else None
        ears = Ears(self.ledger, warming)
        after = partial(ears.after, self.process)
        evidence = [topics.STATUS_RECEIVED, topics.MESSAGE_RECEIVED]
        numbers = [topics.INSTANCES, topics.INSTANCE_HEALTH]
        warm = [] if warming is None else [hears("sender-numbers", numbers, warming.heed, self.flaws)]
        warm += [] if warming is None else [warming.run(self.process)]
        return [
            *warm,
            self._read(),
            self._write_outcomes(),
            self._renew(),
            self._sweep(ears),
            self._sweep_gates(),
            relay(self.process, self.database, self.kafka, SCHEMA, self.flaws),
            hears("sender-control", [topics.CAMPAIGNS, topics.CONTACTS], ears.heed, self.flaws),
            hears("sender-evidence", evidence, ears.hear, self.flaws, after),
        ]

    # Reading

    def _read(self) -> Steps[None]:
        member = self.kafka.join(GROUP, self.process, [topics.MESSAGE_QUEUED])
        positions: dict[Place, int] = {}
        commit_s = 0.0
        while True:
            if member.outdated:
                yield from self._hand_over(set(self.marks) - set(member.assigned()))
                for place in member.assigned():
                    if place not in self.marks:
                        self.marks[place] = (Watermark(), [])
                        positions[place] = member.group.committed[place]
                positions = {place: offset for place, offset in positions.items() if place in self.marks}
            try:
                for place in sorted(positions):
                    for record in self.kafka.read(place, positions[place], 3):
                        positions[place] = record.offset + 1
                        self._take(place, record)
            except BrokerAway:
                yield AGAIN_S
            dirty = self.unclaimed
            if dirty and self.process.loop.now >= commit_s:
                commit_s = self.process.loop.now + SENDER.commit_s
                yield 0.001
                self._commit(member)
                dirty = False
            more = any(len(self.kafka.logs[place]) > offset for place, offset in positions.items())
            more = more or member.outdated  # who was expelled meanwhile is woken by nothing more
            yield 0.002 if more else (member.wake, SENDER.commit_s if dirty else None)

    def _take(self, place: Place, record: Any) -> None:
        mark, lanes = self.marks[place]
        if not mark.begin(record.offset):
            return
        message: MessageQueued = record.event
        instance_id = UUID(record.envelope.subject)
        work = Work(
            ACCOUNT, instance_id, message, encode(message) if self.process.loop.rng.random() < 0.02 else b"",
            (*place, record.offset), self.process.monotonic(), TRACE,
        )  # fmt: skip
        lane = self.lanes.get(instance_id)
        if lane is None:
            lane = self.lanes[instance_id] = Lane(self, self.town.instances[instance_id])
            self.process.spawn(lane.run())
        if instance_id not in lanes:
            lanes.append(instance_id)
        lane.queues.put(work)
        lane.wake.set()

    def _commit(self, member: Any) -> None:
        offsets = {}
        for place, (mark, _) in self.marks.items():
            if (offset := mark.advance()) is not None:
                offsets[place] = offset
        self.unclaimed = False
        if offsets and self.kafka.away_until_s <= self.process.loop.now:
            try:
                member.commit(offsets)
            except Replaced:
                return
            self.provider.witness.committed(offsets)

    def _hand_over(self, revoked: set[Place]) -> Steps[None]:
        """Lanes stop at once; what waits is left to the next owner."""
        for place in sorted(revoked):
            _, lanes = self.marks.pop(place)
            for instance_id in lanes:
                lane = self.lanes.pop(instance_id, None)
                if lane is not None:
                    lane.closing = True
                    lane.wake.set()
        yield 0.0

    # Outcomes

    def put(self, work: Work, epoch: int, finding: Finding) -> None:
        self.outcomes.append((work, epoch, finding))
        self.writing.set()

    def answer(self, work: Work, record: Outgoing) -> None:
        self.answered.append((work, record))
        self.writing.set()

    def _write_outcomes(self) -> Steps[None]:
        while True:
            if not self.outcomes and not self.answered:
                yield self.writing
                continue
            yield SENDER.outcome_linger_s
            outcomes, self.outcomes = self.outcomes, []
            answered, self.answered = self.answered, []
            if "finished_before_told" in self.flaws:
                self._finish([work for work, _, _ in outcomes] + [work for work, _ in answered])
            told: list[Outgoing] = []
            while outcomes:
                try:
                    told = yield from self.ledger.record_outcomes(self.process, outcomes)
                    break
                except ConnectionLost:
                    yield RETRY_S
            works = [work for work, _, _ in outcomes] + [work for work, _ in answered]
            self.process.spawn(self._publish(told + [record for _, record in answered], works))

    def _publish(self, records: list[Outgoing], works: list[Work]) -> Steps[None]:
        while True:
            try:
                yield from self.kafka.publish(self.process, records)
                break
            except BrokerAway:
                yield RETRY_S
        self._finish(works)
        self.provider.witness.told(works)

    def _finish(self, works: list[Work]) -> None:
        for work in works:
            mark = self.marks.get(work.position[:2])
            if mark is not None:
                mark[0].finish(work.position[2])
        self.unclaimed = True
        member = self.kafka.groups[GROUP].members.get(f"{GROUP}@{self.process.name}")
        if member is not None:
            member.wake.set()

    # Leases

    def _renew(self) -> Steps[None]:
        while True:
            held = {key: lane.lease.epoch for key, lane in self.lanes.items() if lane.lease is not None}
            if not held:
                yield self.renewing
                continue
            asked_s = self.process.monotonic()
            try:
                renewed = yield from self.leases.renew(held)
            except ConnectionLost:
                yield RETRY_S
                continue
            for key, epoch in held.items():
                lane = self.lanes.get(key)
                if lane is None or lane.lease is None or lane.lease.epoch != epoch:
                    continue
                lease = lease_from(epoch, asked_s, SENDER.lease_s, SENDER.lease_margin_s)
                lane.lease = lease if key in renewed else None
                lane.wake.set()
            yield SENDER.renew_s

    # Sweeps

    def _sweep(self, ears: Ears) -> Steps[None]:
        while True:
            commits = self.database.commits[SCHEMA]
            try:
                yield from self.sweeps.end_orphans(self.process)
                yield from self.sweeps.end_silence(self.process)
                if (yield from ears.fit_kept(self.process)):
                    continue
            except ConnectionLost:
                yield AGAIN_S
                continue
            if commits == self.database.commits[SCHEMA]:
                yield (self.database.changed(SCHEMA), self.sweeps.next_look_s())
            yield 0.3

    def _sweep_gates(self) -> Steps[None]:
        while True:
            try:
                closing = yield from self.sweeps.close_gates(self.process)
            except ConnectionLost:
                closing = True
            if any(row.closing for row in self.database.tables[GATE].values()) or closing:
                yield SENDER.gate_sweep_s
            else:
                yield self.database.changed(SCHEMA)
