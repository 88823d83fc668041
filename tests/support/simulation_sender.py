"""The sender's processes in the simulation: leases, limiter, breaker, watermark and classification are real.

The lane, its departures and the writer of outcomes are asyncio code in the service; here they are tasks of the virtual
clock that ask the same deciders in the same order.
"""

from collections import deque
from contextlib import suppress
from datetime import timedelta
from functools import partial
from typing import Any, NamedTuple
from uuid import UUID

from chassis.kafka import Outgoing
from contracts import topics
from contracts.codec import encode
from contracts.messages import MessageQueued
from providers.protocol import Ambiguous, NotSent, Rejected, Throttled, UnsendableMessage
from sender.instance.ownership import Lease, holds, lease_from
from sender.lane import breaker, throttle
from sender.lane.queues import Queues
from sender.ledger import answers, attempt
from sender.ledger.attempt import Finding, NeverLeft
from sender.ledger.delivery import AlreadyInFlight, AnswerAgain, Decision, Fail, Fenced, Intend, Refuse
from sender.offsets import Watermark
from sender.work import Instance, Work, outbound
from simulation_clock import Process, Signal, Steps
from simulation_drivers import AGAIN_S, consume, relay
from simulation_evidence import Ears
from simulation_kafka import BrokerAway, Kafka, Place, Replaced
from simulation_ledger import ATTEMPT, GATE, OWNER, SCHEMA, Ledger, Owner
from simulation_postgres import ConnectionLost, Database
from simulation_provider import Answer, Provider
from simulation_town import ACCOUNT, SENDER, TRACE, Town

RETRY_S = 0.25
IDLE_S = 3.0
GROUP = "sender-queue"


class Ready(NamedTuple):
    work: Work
    lease: Lease
    begun_s: float


class Lane:
    """What the process remembers of one instance; gone when it dies."""

    def __init__(self, sender: "SenderRun", instance: Instance) -> None:
        self.sender, self.instance = sender, instance
        self.queues = Queues()
        self.wake = Signal(sender.process.loop)
        self.lease: Lease | None = None
        self.pairs: dict[str, float] = {}
        self.ready: deque[Ready] = deque()
        self.pacing = self.closing = False
        self.in_flight, self.leaving, self.tat_s, self.rest_until_s = 0, 0, 0.0, 0.0
        self.lateness = throttle.Lateness()
        self.breaker: breaker.State = breaker.CLOSED
        self.policy = breaker.Policy(failures=6, open_s=5.0, probe_s=20.0)

    def run(self) -> Steps[None]:
        clock = self.sender.process.monotonic
        while not self.closing:
            self.queues.ask_again(clock())
            if not len(self.queues):
                asking_s = self.queues.next_asking()
                if asking_s is None and self.lease is not None and not self.ready:
                    yield from self._wait(IDLE_S)  # idle lanes give back here, so that hours pass in few steps
                    if not len(self.queues) and self.queues.next_asking() is None and not self.ready:
                        yield from self._give_back()
                    continue
                yield from self._wait(None if asking_s is None else max(0.01, asking_s - clock()))
                continue
            try:
                yield from self._serve()
            except ConnectionLost:
                yield RETRY_S
        while self.ready:
            yield 0.05
        yield from self._give_back()

    def _wait(self, seconds: float | None) -> Steps[None]:
        yield (self.wake, seconds)

    def _give_back(self) -> Steps[None]:
        while self.lease is not None and self.leaving and "handed_over_while_leaving" not in self.sender.flaws:
            yield 0.01
        if self.lease is None:
            return
        epoch, self.lease = self.lease.epoch, None
        wait_s = max(0.0, self.tat_s - self.sender.process.monotonic())
        with suppress(ConnectionLost):
            yield from self.sender.release(self.instance.instance_id, epoch, wait_s)

    def _serve(self) -> Steps[None]:
        now_s = self.sender.process.monotonic()
        held = self._held(now_s)
        if held is not None:
            self._return_all(0, held[0], held[1] - now_s)
            return
        if not holds(self.lease, now_s) and not (yield from self._acquire()):
            self._return_all(SENDER.owner_wait_s, "shutting_down", 1.0)
            yield RETRY_S
            return
        now_s = self.sender.process.monotonic()
        count = self._count_ready(now_s)
        if count == 0:
            yield from self._wait(max(0.005, self._ready_at() - now_s) if self.in_flight == 0 else 0.05)
            return
        yield from self._send_group(self.queues.take(count))

    def _held(self, now_s: float) -> tuple[Any, float] | None:
        state, permits = breaker.permit(self.breaker, now_s, self.policy)
        if permits == 0 and (until_s := breaker.reopens_at(state)) is not None:
            return "breaker", until_s
        if self.rest_until_s > now_s + 1.0:
            return "throttled", self.rest_until_s
        return None

    def _count_ready(self, now_s: float) -> int:
        if self.rest_until_s > now_s:
            return 0
        slots = self.instance.in_flight_max - self.in_flight
        if self.instance.in_flight_max > 1:
            slots -= 1
        _, permits = breaker.permit(self.breaker, now_s, self.policy)
        most = min(slots, len(self.queues), slots if permits is None else permits, 8 - len(self.ready))
        waiting_s = len(self.ready) * self.instance.rate.interval_s
        tat_s = max(self.tat_s, now_s) + waiting_s if self.ready else self.tat_s
        return throttle.count_ready(tat_s, now_s, self.instance.rate, SENDER.lookahead_s, most) if most > 0 else 0

    def _ready_at(self) -> float:
        waiting_s = len(self.ready) * self.instance.rate.interval_s
        return max(self.rest_until_s, self.tat_s + waiting_s - self.instance.rate.tolerance_s)

    def _acquire(self) -> Steps[bool]:
        asked_s = self.sender.process.monotonic()
        acquired = yield from self.sender.acquire(self.instance.instance_id)
        if acquired is None:
            return False
        epoch, wait_s, released = acquired
        now_s = self.sender.process.monotonic()
        self.lease = lease_from(epoch, asked_s, SENDER.lease_s, SENDER.lease_margin_s)
        start_s = now_s + wait_s
        if not released:
            start_s = max(start_s, throttle.emptied(now_s, self.instance.rate))
        if "limiter_reset" not in self.sender.flaws:
            self.tat_s = max(self.tat_s, start_s)
        self.pairs = {}
        self.sender.renewing.set()
        return True

    def _send_group(self, works: list[Work]) -> Steps[None]:
        assert self.lease is not None
        lease, begun_s = self.lease, self.sender.process.monotonic()
        self.breaker, _ = breaker.permit(self.breaker, begun_s, self.policy)
        intend = self.sender.ledger.intend(self.sender.process, self.instance, works, lease.epoch, self.pairs)
        try:
            admission = yield from intend
        except ConnectionLost:
            self.queues.put_back(works, retaken=True)
            yield RETRY_S
            return
        self.pairs.update(admission.pairs)
        for work, decision in zip(works, admission.decisions, strict=True):
            self._follow(lease, work, decision, begun_s)
        if any(isinstance(one, Refuse) and one.reason == "throttled" for one in admission.decisions):
            yield 0.1  # the real lane asks again at once, in the rhythm of the intents' batches

    def _follow(self, lease: Lease, work: Work, decision: Decision, begun_s: float) -> None:
        now, about = self.sender.process.wall(), about_work(work)
        match decision:
            case Intend():
                self.in_flight += 1
                self.ready.append(Ready(work, lease, begun_s))
                if not self.pacing:
                    self.pacing = True
                    self.sender.process.spawn(self._pace())
            case AnswerAgain(entry=entry):
                if entry.attempt != work.message.attempt:
                    about = about._replace(message=work.message.model_copy(update={"attempt": entry.attempt}))
                self.sender.answer(work, answers.tell_again(about, entry, now))
            case AlreadyInFlight():
                self.queues.await_outcome(work, self.sender.process.monotonic())
            case Refuse(reason="throttled"):
                self.queues.put_back([work])
            case Refuse(reason=reason, not_before=not_before):
                self.sender.answer(work, answers.returned(about, reason, not_before, now))
            case Fail(reason=reason):
                self.sender.answer(work, answers.refused_for_good(about, reason, now))
            case Fenced():
                self.lease = None
                self.queues.put_back([work])

    def _return_all(self, age_s: float, reason: Any, again_s: float) -> None:
        now, now_s = self.sender.process.wall(), self.sender.process.monotonic()
        for work in self.queues.take_older(age_s, now_s):
            if work.retaken:
                self.queues.await_outcome(work, now_s)
            else:
                not_before = now + timedelta(seconds=max(0.0, again_s))
                self.sender.answer(work, answers.returned(about_work(work), reason, not_before, now))

    # Departures

    def _pace(self) -> Steps[None]:
        while self.ready:
            ready, now_s = self.ready[0], self.sender.process.monotonic()
            if (never := self._refuse(ready, now_s)) is not None:
                self.ready.popleft()
                self._end(ready, never)
                continue
            turn = throttle.take(self.tat_s, now_s, self.instance.rate)
            if isinstance(turn, throttle.Refused) and "departure_without_limiter" not in self.sender.flaws:
                yield min(turn.until_s - now_s, SENDER.intent_age_max_s)
                continue
            if isinstance(turn, throttle.Taken):
                self.tat_s = turn.tat_s
            self.ready.popleft()
            self.sender.process.leaving += 1
            self.leaving += 1
            self.sender.process.spawn(self._send(ready, now_s))
        self.pacing = False

    def _refuse(self, ready: Ready, now_s: float) -> NeverLeft | None:
        """As Departures._refuse."""
        stale = now_s - ready.begun_s > SENDER.intent_age_max_s or not holds(ready.lease, now_s)
        if stale and "old_intents_leave" not in self.sender.flaws:
            return NeverLeft("intent_too_old", returned=True)
        late = self.sender.process.wall().timestamp() >= ready.work.send_before_s
        if late and "send_before_not_checked" not in self.sender.flaws:
            return NeverLeft("expired", returned=True)
        return None

    def _send(self, ready: Ready, taken_s: float) -> Steps[None]:
        process, rng = self.sender.process, self.sender.process.loop.rng
        try:
            request = self.instance.provider.build_request(outbound(ready.work.message), self.instance.account)
        except UnsendableMessage as error:
            process.leaving -= 1
            self.leaving -= 1
            self._end(ready, attempt.classify(error.rejected, process.wall()))
            return
        if self.sender.late_departures and rng.random() < self.sender.late_departures:
            yield rng.uniform(0, 0.08)  # a busy loop, a new connection
        self.lateness, shift_s = throttle.note_departure(self.lateness, taken_s, process.monotonic(), SENDER.jitter_s)
        self.tat_s += shift_s
        process.leaving -= 1
        self.leaving -= 1
        answer: Answer = self.sender.provider.post(self.instance, request, ready.work.message)
        if answer.after_s is not None and answer.after_s < SENDER.text_timeout_s:
            yield answer.after_s
            outcome = answer.outcome or self.instance.provider.read_response(answer.status, answer.headers, answer.body)
        else:
            yield SENDER.text_timeout_s
            outcome = Ambiguous("no_answer")
        self._react(outcome)
        self._end(ready, attempt.classify(outcome, process.wall(), SENDER.rest_s))

    def _react(self, outcome: Any) -> None:
        now_s = self.sender.process.monotonic()
        result: breaker.Result = "success"
        match outcome:
            case Throttled(scope=scope, retry_after_s=after_s) if scope != "pair":
                rest_s = attempt.clamp_retry_after(after_s if after_s is not None else SENDER.rest_s)
                self.rest_until_s = max(self.rest_until_s, now_s + rest_s)
            case Rejected(failure=failure) if failure.name == "provider_busy":
                result = "failure"
            case NotSent() | Ambiguous():
                result = "failure"
            case _:
                pass
        self.breaker = breaker.note(self.breaker, result, now_s, self.policy)

    def _end(self, ready: Ready, finding: Finding) -> None:
        self.sender.put(ready.work, ready.lease.epoch, finding)
        self.in_flight -= 1
        self.wake.set()


class SenderRun:
    """One life of a sender's process."""

    def __init__(
        self, process: Process, town: Town, database: Database, kafka: Kafka, provider: Provider, flaws: frozenset[str]
    ) -> None:
        self.process, self.town, self.database, self.kafka = process, town, database, kafka
        self.provider, self.flaws = provider, flaws
        self.ledger = Ledger(database, flaws)
        self.late_departures = town.faults.late_departures
        self.lanes: dict[UUID, Lane] = {}
        self.marks: dict[Place, tuple[Watermark, list[UUID]]] = {}
        self.outcomes: list[tuple[Work, int, Finding]] = []
        self.answered: list[tuple[Work, Outgoing]] = []
        self.writing, self.renewing = Signal(process.loop), Signal(process.loop)
        self.unclaimed = False

    def tasks(self) -> list[Steps[None]]:
        hears = partial(consume, self.process, self.database, self.kafka)
        ears = Ears(self.ledger)
        after = partial(ears.after, self.process)
        evidence = [topics.STATUS_RECEIVED, topics.MESSAGE_RECEIVED]
        return [
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
        self.provider.witness.begun[place, record.offset] = message

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

    def acquire(self, instance_id: UUID) -> Steps[tuple[int, float, bool] | None]:
        transaction, name = self.database.begin(self.process), self.process.name
        yield from transaction.lock(OWNER, instance_id)
        now_s = self.database.loop.seconds()
        row: Owner = transaction.read(OWNER, instance_id) or Owner()
        if not (row.lease_until_s < now_s or row.owner == name):
            transaction.roll_back()
            return None
        owner = Owner(row.epoch + 1, name, now_s + SENDER.lease_s, row.tat_s, released=False)
        transaction.write(OWNER, instance_id, owner)
        yield from transaction.commit()
        return owner.epoch, max(0.0, row.tat_s - now_s), row.released

    def release(self, instance_id: UUID, epoch: int, limiter_wait_s: float) -> Steps[None]:
        transaction = self.database.begin(self.process)
        yield from transaction.lock(OWNER, instance_id)
        row: Owner = transaction.read(OWNER, instance_id)
        now_s = self.database.loop.seconds()
        if (row.epoch, row.owner) == (epoch, self.process.name):
            tat_s = max(row.tat_s, now_s + limiter_wait_s)
            transaction.write(OWNER, instance_id, row._replace(lease_until_s=now_s, released=True, tat_s=tat_s))
        yield from transaction.commit()

    def _renew(self) -> Steps[None]:
        while True:
            held = {key: lane.lease.epoch for key, lane in self.lanes.items() if lane.lease is not None}
            if not held:
                yield self.renewing
                continue
            asked_s = self.process.monotonic()
            try:
                renewed = yield from self._renew_once(held)
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

    def _renew_once(self, held: dict[UUID, int]) -> Steps[set[UUID]]:
        transaction, renewed = self.database.begin(self.process), set()
        for key in sorted(held):
            yield from transaction.lock(OWNER, key)
            row: Owner = transaction.read(OWNER, key)
            now_s = self.database.loop.seconds()
            if (row.epoch, row.owner) == (held[key], self.process.name) and row.lease_until_s > now_s:
                transaction.write(OWNER, key, row._replace(lease_until_s=now_s + SENDER.lease_s))
                renewed.add(key)
        yield from transaction.commit()
        return renewed

    # Sweeps

    def _sweep(self, ears: Ears) -> Steps[None]:
        seen = -1
        while True:
            try:
                yield from self.ledger.sweep_orphans(self.process)
                yield from self.ledger.sweep_silent(self.process)
                if (yield from ears.fit_kept(self.process)):
                    continue
            except ConnectionLost:
                yield AGAIN_S
                continue
            if seen == (seen := len(self.database.tables[ATTEMPT])) and self.ledger.next_sweep_s() is None:
                yield self.database.changed(SCHEMA)
            else:
                yield (self.database.changed(SCHEMA), self.ledger.next_sweep_s())
            yield 0.3

    def _sweep_gates(self) -> Steps[None]:
        while True:
            try:
                closing = yield from self.ledger.sweep_gates(self.process)
            except ConnectionLost:
                closing = True
            if any(row.closing for row in self.database.tables[GATE].values()) or closing:
                yield SENDER.gate_sweep_s
            else:
                yield self.database.changed(SCHEMA)


def about_work(work: Work) -> answers.About:
    return answers.About(work.account_id, work.instance_id, work.message, work.message.release, TRACE)
