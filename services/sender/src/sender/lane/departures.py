"""The last step before the network: each committed intent leaves in its turn, or not at all, and its answer is read."""

import asyncio
from collections import deque
from collections.abc import Callable, Coroutine
from dataclasses import replace
from functools import partial
from typing import Any, Literal, NamedTuple, Protocol
from uuid import UUID

from chassis.lifecycle import utc_now
from chassis.telemetry import followed, is_recorded
from providers.failures import Failure
from providers.protocol import Accepted, Ambiguous, NotSent, Rejected, SendOutcome, Throttled
from sender.gateway.client import TOO_LATE, Gateway
from sender.instance.ownership import Lease, holds
from sender.lane import breaker, doubt, pace, throttle
from sender.lane.circuit import Circuit, Hosts
from sender.ledger.attempt import Finding, NeverLeft, clamp_retry_after, classify
from sender.ledger.outcomes import Outcome, OutcomeWriter
from sender.settings import Settings
from sender.work import Instance, Work, outbound

TIMEOUT_MARGIN_S = 1.0
BEHIND_S = 0.5


class Alarm(Protocol):
    """Tells the world about an instance: throttled, breaker, refused for good."""

    def slowed(self, instance: Instance, slower: pace.Pace, full: float, code: str) -> None: ...
    def breaker_opened(self, instance: Instance, reason: str, for_s: float) -> None: ...
    def breaker_closed(self, instance: Instance) -> None: ...
    def stopped(self, instance: Instance, failure: Failure) -> None: ...
    def rested(self, instance: Instance, failure: Failure) -> None: ...


class _Ready(NamedTuple):
    """`begun_s`: when the transaction of its intent began; `valid_s`: how long from then on it may leave, by the
    database's clock: ours may be minutes off."""

    work: Work
    instance: Instance
    lease: Lease
    begun_s: float
    valid_s: float


class Departures:
    """One per lane. `in_flight`: slots in use, from the intent to the answer. `tat_s`: the limiter, monotonic."""

    def __init__(
        self,
        settings: Settings,
        gateway: Gateway,
        outcomes: OutcomeWriter,
        alarm: Alarm,
        *,
        spawn: Callable[[Coroutine[Any, Any, None]], object],
        clock: Callable[[], float],
        crash_point: Callable[[str], None],
        hosts: Hosts | None = None,
    ) -> None:
        self._settings = settings
        self._gateway = gateway
        self._outcomes = outcomes
        self._alarm = alarm
        self._spawn = spawn
        self._clock = clock
        self._crash_point = crash_point
        self._ready: deque[_Ready] = deque()
        self._pacing = False
        self._empty = asyncio.Event()
        self._empty.set()
        self.in_flight = 0
        self.tat_s = 0.0
        self._put_back_s = 0.0
        self.rest_until_s = 0.0
        self.pace = pace.FREE
        self._full = 0.0
        self._doubt = doubt.NONE
        self.circuit = Circuit(settings, hosts or Hosts(settings), clock)
        self._told_until_s: float | None = None
        self.on_change: Callable[[], None] = lambda: None

    def times_out_s(self, work: Work) -> float:
        """From the intent on: after that the request is surely over, whatever became of it."""
        settings = self._settings
        return settings.intent_age_max_s + self._gateway.timeout_s(work.message.content.kind) + TIMEOUT_MARGIN_S

    def paced(self, instance: Instance) -> Instance:
        """The number at the rate that its provider accepts now."""
        self._full = instance.rate.per_second
        if self.pace is pace.FREE:
            return instance
        rate = pace.slowed(instance.rate, pace.allowed(self.pace, self._full, utc_now().timestamp()))
        return instance if rate is instance.rate else replace(instance, rate=rate)

    def count_ready(self, instance: Instance, now_s: float, horizon_s: float, most: int) -> int:
        """How many more intents could leave within the horizon, behind those that wait already."""
        tat_s = max(self.tat_s, now_s) + len(self._ready) * instance.rate.interval_s if self._ready else self.tat_s
        return throttle.count_ready(tat_s, now_s, instance.rate, horizon_s, most)

    @property
    def waiting(self) -> int:
        """Committed intents that have not left."""
        return len(self._ready)

    def is_behind(self, now_s: float) -> bool:
        """Whether intents wait here for longer than they should: more would only grow too old to leave."""
        return bool(self._ready) and now_s - self._ready[0].begun_s > BEHIND_S

    def ready_at(self, instance: Instance) -> float:
        return self.tat_s + len(self._ready) * instance.rate.interval_s - instance.rate.tolerance_s

    def add(self, instance: Instance, lease: Lease, work: Work, begun_s: float, valid_s: float) -> None:
        self.in_flight += 1
        self._ready.append(_Ready(work, instance, lease, begun_s, valid_s))
        self._empty.clear()
        if not self._pacing:
            self._pacing = True
            self._spawn(self._pace())

    def blocked_until(self, instance: Instance, now_s: float) -> float | None:
        """None: at least one message may try. What the host's breaker does is told for this number as well."""
        state = self.circuit.host
        if isinstance(state, breaker.Open) and state.until_s > now_s and state.until_s != self._told_until_s:
            self._told_until_s = state.until_s
            self._alarm.breaker_opened(instance, "host_down", state.until_s - now_s)
        elif isinstance(state, breaker.Closed) and self._told_until_s is not None:
            self._told_until_s = None
            if isinstance(self.circuit.own, breaker.Closed):
                self._alarm.breaker_closed(instance)
        return self.circuit.blocked_until(now_s)

    async def all_left(self) -> None:
        """Until no committed intent is undeparted; requests under way go on by themselves."""
        await self._empty.wait()

    def recall(self, campaign_id: UUID, run_epoch: int, reason: Literal["paused", "cancelled"]) -> None:
        """A person stops the campaign: what has not left of it goes back, instead of being waited for."""
        ready, self._ready = self._ready, deque()
        for one in ready:
            message = one.work.message
            if message.campaign_id == campaign_id and message.run_epoch <= run_epoch:
                self.circuit.give_back()
                self._end(one, NeverLeft(reason, returned=True))
            else:
                self._ready.append(one)

    async def _pace(self) -> None:
        """Never catching up: a departure that was late moves the later ones, within the limiter's tolerance."""
        try:
            while self._ready:
                ready = self._ready[0]
                now_s = self._clock()
                if (never := self._refuse(ready, now_s)) is not None:
                    self._ready.popleft()
                    self.circuit.give_back()
                    self._end(ready, never)
                    continue
                turn = throttle.take(self.tat_s, now_s, ready.instance.rate)
                if isinstance(turn, throttle.Refused):
                    await asyncio.sleep(min(turn.until_s - now_s, self._settings.intent_age_max_s))
                    continue
                self.tat_s = turn.tat_s
                self._ready.popleft()
                jitter_s = self._settings.jitter_s
                latest_s = throttle.latest_s(turn, ready.instance.rate, jitter_s, self._put_back_s)
                self._spawn(self._send(ready, latest_s))
        finally:
            self._pacing = False
            if not self._ready:
                self._empty.set()

    def _refuse(self, ready: _Ready, now_s: float) -> NeverLeft | None:
        age_s = now_s - ready.begun_s
        if age_s > self._settings.intent_age_max_s or not holds(ready.lease, now_s):
            return NeverLeft("intent_too_old", returned=True)
        if age_s >= ready.valid_s:
            return NeverLeft("expired", returned=True)
        return None

    def _left(self, latest_s: float) -> None:
        """The request's head is written: later than its turn by a busy loop, or for want of a connection."""
        shift_s = throttle.put_back(latest_s, self._clock(), self._put_back_s)
        self._put_back_s += shift_s
        self.tat_s += shift_s

    async def _send(self, ready: _Ready, latest_s: float) -> None:
        work = ready.work
        send = partial(
            self._gateway.send,
            ready.instance,
            outbound(work.message),
            departed=partial(self._left, latest_s),
            may_retry=self.circuit.may_retry,
            may_leave=lambda: self._refuse(ready, self._clock()) is None,
        )
        if work.traceparent is None or not is_recorded(work.traceparent):
            outcome = await send(work.traceparent)
        else:
            with followed("message sent", work.traceparent, provider=ready.instance.config.provider) as traceparent:
                outcome = await send(traceparent)
        self._crash_point("after_answer")
        if outcome == NotSent(TOO_LATE):
            self.circuit.give_back()
            self._end(ready, self._refuse(ready, self._clock()) or NeverLeft("intent_too_old", returned=True))
            return
        self._react(ready.instance, outcome)
        self._end(ready, classify(outcome, utc_now(), self._settings.rest_s, work.message.attempt))

    def _end(self, ready: _Ready, finding: Finding) -> None:
        self._outcomes.put(Outcome(ready.work, ready.lease.epoch, finding))
        self.in_flight -= 1
        self.on_change()

    def _react(self, instance: Instance, outcome: SendOutcome) -> None:
        """What an answer means for the instance, beyond its message."""
        match outcome:
            case Accepted():
                self._doubt = doubt.NONE
                self._note(instance, "success", "")
            case Throttled(scope=scope, retry_after_s=after_s, code=code):
                self._note(instance, "success", "")
                if scope != "pair":
                    rest_s = clamp_retry_after(after_s if after_s is not None else self._settings.rest_s)
                    self.rest_until_s = max(self.rest_until_s, self._clock() + rest_s)
                    self._slow_down(instance, code)
            case Rejected(failure=failure):
                if failure.stops in ("instance", "host", "portfolio"):
                    self._refused_whole(instance, failure)
                else:
                    self._note(instance, "failure" if failure.name == "provider_busy" else "success", failure.name)
            case NotSent(reason="host_full"):
                self.circuit.give_back()  # it was not asked, so nothing is known of it
            case NotSent(reason=reason) | Ambiguous(reason=reason):
                self._note(instance, "failure", reason)

    def _refused_whole(self, instance: Instance, failure: Failure) -> None:
        """The number itself was refused, not the message."""
        if failure.action == "pause_instance":
            self._alarm.rested(instance, failure)
            return
        believed = True
        if failure.action == "retry_then_disable_instance":
            self._note(instance, "failure", failure.name)
            self._doubt, believed = doubt.refuse(self._doubt, self._clock())
        if believed:
            self._doubt = doubt.NONE
            self._alarm.stopped(instance, failure)

    def _slow_down(self, instance: Instance, code: str) -> None:
        slower = pace.slow_down(self.pace, self._full, utc_now().timestamp())
        if slower is not self.pace:
            self.pace = slower
            self._alarm.slowed(instance, slower, self._full, code)

    def _note(self, instance: Instance, result: breaker.Result, reason: str) -> None:
        before = self.circuit.own
        self.circuit.note(instance, result)
        after = self.circuit.own
        if isinstance(after, breaker.Open) and not isinstance(before, breaker.Open):
            self._alarm.breaker_opened(instance, reason, self.circuit.policy.open_s)
        elif isinstance(before, breaker.HalfOpen) and isinstance(after, breaker.Closed):
            self._alarm.breaker_closed(instance)
