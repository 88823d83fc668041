"""One instance's lane in a sender of the simulation: tasks of the virtual clock that ask the real deciders."""

from collections import deque
from collections.abc import Iterable
from contextlib import suppress
from dataclasses import replace
from datetime import timedelta
from typing import TYPE_CHECKING, Any, NamedTuple
from uuid import UUID

from providers.protocol import Ambiguous, NotSent, Rejected, Throttled, UnsendableMessage
from sender.instance.ownership import Lease, holds, lease_from
from sender.instance.reach import host_of
from sender.lane import breaker, pace, throttle
from sender.lane.circuit import Circuit
from sender.lane.lane import BUDGET_AGAIN_S
from sender.lane.queues import Queues
from sender.lane.refusals import Refused
from sender.ledger import answers, attempt
from sender.ledger.attempt import Finding, NeverLeft
from sender.ledger.delivery import AlreadyInFlight, AnswerAgain, Decision, Fail, Fenced, Intend, Refuse
from sender.work import Instance, Work, outbound
from simulation.clock import Signal, Steps
from simulation.postgres import ConnectionLost
from simulation.provider import Answer
from simulation.town import LANE, LATE_S, SENDER, TRACE
from simulation.witness import Try

if TYPE_CHECKING:
    from simulation.sender import SenderRun

RETRY_S = 0.25
IDLE_S = 3.0


class Ready(NamedTuple):
    work: Work
    lease: Lease
    begun_s: float
    valid_s: float


class Lane:
    """What the process remembers of one instance; gone when it dies."""

    def __init__(self, sender: "SenderRun", instance: Instance) -> None:
        self.sender, self.instance = sender, instance
        self.number, self.queues = sender.provider.count_lane(), Queues()
        self.wake = Signal(sender.process.loop)
        self.lease: Lease | None = None
        self.pairs: dict[str, float] = {}
        self.ready: deque[Ready] = deque()
        self.pacing = self.closing = False
        self.in_flight, self.leaving, self.tat_s, self.rest_until_s = 0, 0, 0.0, 0.0
        self.put_back_s = 0.0
        self.pace = pace.FREE
        self.circuit = Circuit(LANE, sender.hosts, sender.process.monotonic)
        self.circuit.meet(instance)

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
            yield from self.sender.leases.release(self.instance.instance_id, epoch, wait_s)

    def _paced(self) -> Instance:
        """As Departures.paced; by the database's clock, which the real one's pace is stored with."""
        full = self.instance.rate.per_second
        if self.pace is pace.FREE or "pace_not_heeded" in self.sender.flaws:
            return self.instance
        rate = pace.slowed(self.instance.rate, pace.allowed(self.pace, full, self.sender.process.wall().timestamp()))
        return replace(self.instance, rate=rate)

    def _serve(self) -> Steps[None]:
        now_s = self.sender.process.monotonic()
        if self.circuit.awaits_probe(now_s):
            yield from self._return_all(SENDER.owner_wait_s, "breaker", LANE.breaker_open_s)
            yield RETRY_S
            return
        held = self._held(now_s)
        if held is not None:
            yield from self._return_all(0, held[0], held[1] - now_s)
            return
        if not holds(self.lease, now_s) and not (yield from self._acquire()):
            yield from self._return_all(SENDER.owner_wait_s, "shutting_down", 1.0)
            yield RETRY_S
            return
        now_s = self.sender.process.monotonic()
        count = self._count_ready(now_s)
        if count == 0:
            yield from self._wait(max(0.005, self._ready_at() - now_s) if self.in_flight == 0 else 0.05)
            return
        works, later = self.circuit.within_budget(self.queues.take(count))
        for work in works:
            free = work.retaken or work.from_person  # goes without a budget, too
            self._witness("first" if work.message.attempt == 1 else "retaken" if free else "retry")
        yield from self._return(later, "retry_budget", BUDGET_AGAIN_S)
        if works:
            yield from self._send_group(works)

    def _held(self, now_s: float) -> tuple[Any, float] | None:
        if (until_s := self.circuit.blocked_until(now_s)) is not None:
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
        permits, rate = self.circuit.permits(now_s), self._paced().rate
        most = min(slots, len(self.queues), slots if permits is None else permits, 8 - len(self.ready))
        tat_s = max(self.tat_s, now_s) + len(self.ready) * rate.interval_s if self.ready else self.tat_s
        return throttle.count_ready(tat_s, now_s, rate, SENDER.lookahead_s, most) if most > 0 else 0

    def _ready_at(self) -> float:
        rate = self._paced().rate
        return max(self.rest_until_s, self.tat_s + len(self.ready) * rate.interval_s - rate.tolerance_s)

    def _acquire(self) -> Steps[bool]:
        asked_s = self.sender.process.monotonic()
        acquired = yield from self.sender.leases.acquire(self.instance.instance_id)
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
        self.circuit.take(begun_s)
        intend = self.sender.ledger.intend(self.sender.process, self._paced(), works, lease.epoch, self.pairs)
        try:
            admission = yield from intend
        except ConnectionLost:
            self.circuit.give_back()
            self.queues.put_back(works, retaken=True)
            yield RETRY_S
            return
        if not any(isinstance(decision, Intend) for decision in admission.decisions):
            self.circuit.give_back()
        self.pairs.update(admission.pairs)
        refused: list[Refused] = []
        for work, decision in zip(works, admission.decisions, strict=True):
            self._follow(lease, work, decision, begun_s, work.send_before_s - admission.at_s, refused)
        yield from self._answer(refused)
        if any(isinstance(one, Refuse) and one.reason == "throttled" for one in admission.decisions):
            yield 0.1  # the real lane asks again at once, in the rhythm of the intents' batches

    def _follow(
        self, lease: Lease, work: Work, decision: Decision, begun_s: float, valid_s: float, refused: list[Refused]
    ) -> None:
        now, about = self.sender.process.wall(), about_work(work)
        match decision:
            case Intend():
                self.queues.note_left(work)
                self.in_flight += 1
                self.ready.append(Ready(work, lease, begun_s, valid_s))
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
                refused.append(Refused(work, reason, not_before))
            case Fail(reason=reason):
                refused.append(Refused(work, reason))
            case Fenced():
                self.lease = None
                self.queues.put_back([work])

    def _return_all(self, age_s: float, reason: Any, again_s: float) -> Steps[None]:
        yield from self._return(self.queues.take_older(age_s, self.sender.process.monotonic()), reason, again_s)

    def _return(self, works: Iterable[Work], reason: Any, again_s: float) -> Steps[None]:
        not_before = self.sender.process.wall() + timedelta(seconds=max(0.0, again_s))
        yield from self._answer([Refused(work, reason, not_before) for work in works])

    def _answer(self, refused: list[Refused]) -> Steps[None]:
        """As Refusals.answer."""
        withdrawn = yield from self._withdraw([one for one in refused if one.work.retaken])
        now = self.sender.process.wall()
        for one in refused:
            about = about_work(one.work)
            if one.work.retaken and one.work.message.dispatch_id not in withdrawn:
                self.queues.await_outcome(one.work, self.sender.process.monotonic())
            elif one.reason == "opted_out":
                self.sender.answer(one.work, answers.refused_for_good(about, one.reason, now))
            else:
                self.sender.answer(one.work, answers.returned(about, one.reason, one.not_before, now))

    def _withdraw(self, retaken: list[Refused]) -> Steps[set[UUID]]:
        dispatches = {one.work.message.dispatch_id for one in retaken}
        if not retaken or self.lease is None:
            return set()
        refused = [(one.work, one.reason) for one in retaken]
        ledger, number = self.sender.ledger, self.instance.instance_id
        try:
            return dispatches - (yield from ledger.withdraw(self.sender.process, number, self.lease.epoch, refused))
        except ConnectionLost:
            return set()

    # Departures

    def _pace(self) -> Steps[None]:
        while self.ready:
            ready, now_s = self.ready[0], self.sender.process.monotonic()
            if (never := self._refuse(ready, now_s)) is not None:
                self.ready.popleft()
                self.circuit.give_back()
                self._end(ready, never)
                continue
            turn = throttle.take(self.tat_s, now_s, self._paced().rate)
            if isinstance(turn, throttle.Refused) and "departure_without_limiter" not in self.sender.flaws:
                yield min(turn.until_s - now_s, SENDER.intent_age_max_s)
                continue
            latest_s = now_s
            if isinstance(turn, throttle.Taken):
                self.tat_s = turn.tat_s
                latest_s = throttle.latest_s(turn, self._paced().rate, SENDER.jitter_s, self.put_back_s)
            self.ready.popleft()
            self.sender.process.leaving += 1
            self.leaving += 1
            self.sender.process.spawn(self._send(ready, latest_s))
        self.pacing = False

    def _refuse(self, ready: Ready, now_s: float) -> NeverLeft | None:
        """As Departures._refuse."""
        stale = now_s - ready.begun_s > SENDER.intent_age_max_s or not holds(ready.lease, now_s)
        if stale and "old_intents_leave" not in self.sender.flaws:
            return NeverLeft("intent_too_old", returned=True)
        late = now_s - ready.begun_s >= ready.valid_s
        if late and "send_before_not_checked" not in self.sender.flaws:
            return NeverLeft("expired", returned=True)
        return None

    def _send(self, ready: Ready, latest_s: float) -> Steps[None]:
        process, rng = self.sender.process, self.sender.process.loop.rng
        try:
            request = self.instance.provider.build_request(outbound(ready.work.message), self.instance.account)
        except UnsendableMessage as error:
            process.leaving -= 1
            self.leaving -= 1
            self._end(ready, attempt.classify(error.rejected, process.wall()))
            return
        if self.sender.late_departures and rng.random() < self.sender.late_departures:
            yield rng.uniform(0, LATE_S)
        shift_s = throttle.put_back(latest_s, process.monotonic(), self.put_back_s)
        self.put_back_s += shift_s
        self.tat_s += shift_s
        process.leaving -= 1
        self.leaving -= 1
        answer: Answer = self.sender.provider.post(self.instance, request, ready.work.message, self.number)
        if answer.after_s is not None and answer.after_s < SENDER.text_timeout_s:
            yield answer.after_s
            outcome = answer.outcome or self.instance.provider.read_response(answer.status, answer.headers, answer.body)
        else:
            yield SENDER.text_timeout_s
            outcome = Ambiguous("no_answer")
        self._react(outcome)
        self._end(ready, attempt.classify(outcome, process.wall(), SENDER.rest_s, ready.work.message.attempt))

    def _react(self, outcome: Any) -> None:
        now_s = self.sender.process.monotonic()
        result: breaker.Result = "success"
        match outcome:
            case Throttled(scope=scope, retry_after_s=after_s) if scope != "pair":
                rest_s = attempt.clamp_retry_after(after_s if after_s is not None else SENDER.rest_s)
                self.rest_until_s = max(self.rest_until_s, now_s + rest_s)
                at_s = self.sender.process.wall().timestamp()
                self.pace = pace.slow_down(self.pace, self.instance.rate.per_second, at_s)
            case Rejected(failure=failure) if failure.name == "provider_busy":
                result = "failure"
            case NotSent() | Ambiguous():
                result = "failure"
            case _:
                pass
        self.circuit.note(self.instance, result)
        self._witness("failed" if result == "failure" else "answered")

    def _witness(self, what: Try) -> None:
        sender = self.sender
        one = (sender.process.loop.now, sender.process.name, sender.process.starts, host_of(self.instance), what)
        sender.provider.witness.tries.append(one)

    def _end(self, ready: Ready, finding: Finding) -> None:
        self.sender.put(ready.work, ready.lease.epoch, finding)
        self.in_flight -= 1
        self.wake.set()


def about_work(work: Work) -> answers.About:
    return answers.About(work.account_id, work.instance_id, work.message, work.message.release, TRACE)
