"""The lane of one instance: people before campaigns, its own limiter, breaker and slots, never in another's way.

What a lane cannot send it answers; only what will go within moments waits here.
"""

import asyncio
from collections.abc import Mapping
from typing import assert_never
from uuid import UUID

from chassis.lifecycle import utc_now
from chassis.telemetry import log
from contracts.messages import ReturnReason
from sender.instance.ownership import Lease, holds, lease_from
from sender.lane import throttle
from sender.lane.departures import Departures
from sender.lane.parts import Parts
from sender.lane.queues import Queues
from sender.lane.refusals import Refusals, Refused
from sender.ledger.answers import refused_for_good, tell_again
from sender.ledger.batching import Committed, GroupRefused, IntentsFailed
from sender.ledger.delivery import AlreadyInFlight, AnswerAgain, Decision, Fail, Fenced, Intend, Refuse
from sender.ledger.outcomes import about_work
from sender.work import Group, Instance, Work

RETRY_S = 0.25
BEHIND_AGAIN_S = 0.02
STOPPED_AGAIN_S = 5.0
BUDGET_AGAIN_S = 5.0
PAIRS_KEPT = 100_000
LOOKAHEAD_MAX_S = 0.25  # well below the age at which an intent is too old to leave


class Lane:
    """Runs until closed; then it gives its lease back as soon as nothing committed can still leave."""

    def __init__(self, instance_id: UUID, account_id: UUID, parts: Parts, departures: Departures) -> None:
        self.instance_id = instance_id
        self.departures = departures
        self._account_id = account_id
        self._parts = parts
        self._queues = Queues()
        self._refusals = Refusals(instance_id, parts, self._queues)
        self._wake = asyncio.Event()
        self._closing = False
        self._pairs: dict[str, float] = {}
        self._pairs_complete_at_s = 0.0
        self._next_acquire_s = 0.0
        self._group_max = 200
        self._lookahead_s = parts.settings.lookahead_s
        self.lease: Lease | None = None
        self._transaction_s = 0.0
        self._blocked = False
        departures.on_change = self._go_on

    @property
    def waiting(self) -> int:
        return len(self._queues)

    def put(self, work: Work) -> None:
        self._queues.put(work)
        self._wake.set()

    def wake(self) -> None:
        self._wake.set()

    def _go_on(self) -> None:
        """A slot is free again: news only where something waits for it."""
        if self._blocked:
            self._wake.set()

    def close(self) -> None:
        """No further intent; what waits is left to the next owner, who reads it again."""
        self._closing = True
        self._wake.set()

    async def run(self) -> None:
        while not self._closing:
            self._wake.clear()
            try:
                delay_s = await self._turn()
            except Exception as error:  # noqa: BLE001  the edge of the loop; one lane's trouble is not another's
                log.warning("lane_interrupted", instance_id=str(self.instance_id), exc_info=error)
                delay_s = RETRY_S
            if delay_s == 0 or self._closing:
                continue
            self._blocked = delay_s is None and self.waiting > 0
            try:
                async with asyncio.timeout(delay_s):
                    await self._wake.wait()
            except TimeoutError:
                pass
        await self._give_back()

    async def _give_back(self) -> None:
        await self.departures.all_left()
        if self.lease is None:
            return
        epoch, self.lease = self.lease.epoch, None
        wait_s = max(0.0, self.departures.tat_s - self._parts.clock())
        try:
            await self._parts.owners.release(self.instance_id, epoch, wait_s)
        except Exception as error:  # noqa: BLE001  the lease lapses by itself
            log.warning("lease_not_released", instance_id=str(self.instance_id), error=type(error).__name__)

    async def _turn(self) -> float | None:
        """Does what can be done now; gives the seconds until there may be more to do, None = when woken."""
        now_s = self._parts.clock()
        self._queues.ask_again(now_s)
        delay_s = await self._serve(now_s) if self.waiting else None
        if (asking_s := self._queues.next_asking()) is None:
            return delay_s
        due_s = max(0.01, asking_s - now_s)
        return due_s if delay_s is None else min(due_s, delay_s)

    async def _serve(self, now_s: float) -> float | None:
        instance = self._parts.instances.get(self.instance_id)
        if instance is None or instance.account_id != self._account_id:
            await self._refusals.older_than(self._parts.settings.unknown_wait_s, self.lease, "instance_unknown")
            return RETRY_S
        if instance.stopped is not None:
            await self._refusals.older_than(0, self.lease, "instance_stopped", STOPPED_AGAIN_S)
            return None
        if (rest_s := instance.rest_s(utc_now())) > 0:
            await self._refusals.older_than(0, self.lease, "instance_stopped", rest_s)
            return rest_s
        self.departures.circuit.meet(instance)
        if self.departures.circuit.awaits_probe(now_s):
            await self._refusals.older_than(
                self._parts.settings.owner_wait_s, self.lease, "breaker", self._parts.settings.breaker_open_s
            )
            return RETRY_S
        if (held := self._held(instance, now_s)) is not None:
            await self._refusals.older_than(0, self.lease, held[0], held[1] - now_s)
            return None
        if not holds(self.lease, now_s) and not await self._acquire(instance, now_s):
            await self._refusals.older_than(self._parts.settings.owner_wait_s, self.lease, "shutting_down")
            return RETRY_S
        instance = self.departures.paced(instance)
        count = self._count_ready(instance, self._parts.clock())
        if count == 0:
            return self._until_ready(instance, self._parts.clock())
        works, later = self.departures.circuit.within_budget(self._queues.take(count))
        await self._refusals.all(later, self.lease, "retry_budget", BUDGET_AGAIN_S)
        if works:
            await self._send_group(instance, works)
        return 0

    def _held(self, instance: Instance, now_s: float) -> tuple[ReturnReason, float] | None:
        """What keeps the whole lane from sending, and until when; short rests are waited for here."""
        if (until_s := self.departures.blocked_until(instance, now_s)) is not None:
            return "breaker", until_s
        if self.departures.rest_until_s > now_s + 1.0:
            return "throttled", self.departures.rest_until_s
        return None

    def _count_ready(self, instance: Instance, now_s: float) -> int:
        if self.departures.rest_until_s > now_s or self._is_behind(now_s):
            return 0
        slots = instance.in_flight_max - self.departures.in_flight
        if not self._queues.has_people and instance.in_flight_max > 1:
            slots -= 1  # kept for people
            if self._parts.strain.is_high:  # few at a time, also where they will only be refused
                slots = min(slots, 2 * self._parts.settings.in_flight_min - self.departures.in_flight)
        if slots <= 0:
            return 0
        permits = self.departures.circuit.permits(now_s)
        ahead = throttle.count_ahead(instance.rate, self._transaction_s) - self.departures.waiting
        most = min(slots, self.waiting, self._group_max, ahead, slots if permits is None else permits)
        return self.departures.count_ready(instance, now_s, self._lookahead_s, most) if most > 0 else 0

    def _is_behind(self, now_s: float) -> bool:
        enough = self.departures.in_flight >= self._parts.settings.in_flight_min and not self._queues.has_people
        return (enough and self._parts.strain.is_high) or self.departures.is_behind(now_s)

    def _until_ready(self, instance: Instance, now_s: float) -> float | None:
        if self.departures.rest_until_s > now_s:
            return self.departures.rest_until_s - now_s
        if self._is_behind(now_s):
            return BEHIND_AGAIN_S
        due_s = self.departures.ready_at(instance) - self._lookahead_s / 2 - now_s
        return throttle.until_next_group(due_s, self.departures.waiting, instance.rate)

    async def _send_group(self, instance: Instance, works: list[Work]) -> None:
        assert self.lease is not None
        lease, now_s = self.lease, self._parts.clock()
        self.departures.circuit.take(now_s)
        group = Group(
            instance,
            lease.epoch,
            works,
            [self.departures.times_out_s(work) for work in works],
            self._pairs,
            pairs_complete=now_s >= self._pairs_complete_at_s,
        )
        leaves = False
        try:
            committed = await self._parts.intents.submit(group)
            leaves = any(isinstance(decision, Intend) for decision in committed.admission.decisions)
        except IntentsFailed:
            self._queues.put_back(works, retaken=True)
            await asyncio.sleep(RETRY_S)
            return
        except GroupRefused:
            self._isolate(works)
            return
        except BaseException:
            self._queues.put_back(works, retaken=True)
            raise
        finally:
            if not leaves:
                self.departures.circuit.give_back()
        self._look_ahead(self._parts.clock() - now_s)
        self._remember_pairs(committed.admission.pairs)
        refused: list[Refused] = []
        for work, decision in zip(works, committed.admission.decisions, strict=True):
            self._follow(instance, lease, work, decision, committed, refused)
        await self._refusals.answer(refused, lease)

    def _follow(
        self,
        instance: Instance,
        lease: Lease,
        work: Work,
        decision: Decision,
        committed: Committed,
        refused: list[Refused],
    ) -> None:
        match decision:
            case Intend():
                self._queues.note_left(work)
                valid_s = work.send_before_s - committed.admission.at_s
                self.departures.add(instance, lease, work, committed.begun_s, valid_s)
            case AnswerAgain(entry=entry):
                about = about_work(work)
                if entry.attempt != work.message.attempt:
                    message = work.message.model_copy(update={"attempt": entry.attempt})
                    about = about_work(work, message)
                self._parts.outcomes.answer(work, tell_again(about, entry, utc_now()))
            case AlreadyInFlight():
                self._queues.await_outcome(work, self._parts.clock())
            case Refuse(reason="throttled"):
                self._queues.put_back([work])
            case Refuse(reason=reason, not_before=not_before):
                refused.append(Refused(work, reason, not_before))
            case Fail(reason=reason):
                refused.append(Refused(work, reason))
            case Fenced():
                self.lease = None
                self._queues.put_back([work])
            case _:
                assert_never(decision)

    def _look_ahead(self, took_s: float) -> None:
        """Intents are made as far ahead as their transactions take, so that a slow database costs no pace."""
        self._transaction_s = max(took_s, took_s + 0.97 * (self._transaction_s - took_s))
        self._lookahead_s = min(max(self._parts.settings.lookahead_s, 2 * self._transaction_s), LOOKAHEAD_MAX_S)

    def _remember_pairs(self, pairs: Mapping[str, float]) -> None:
        self._pairs.update(pairs)
        if len(self._pairs) > PAIRS_KEPT:
            # The oldest states say least: most have long been paid back.
            recent = sorted(self._pairs.items(), key=lambda item: item[1])[PAIRS_KEPT // 2 :]
            self._pairs = dict(recent)

    def _isolate(self, works: list[Work]) -> None:
        """Finds the message that the database refuses by asking for each alone."""
        if len(works) > 1:
            self._group_max = 1
            self._queues.put_back(works)
            return
        self._parts.outcomes.answer(works[0], refused_for_good(about_work(works[0]), "bad_request", utc_now()))
        self._group_max = 200

    async def _acquire(self, instance: Instance, now_s: float) -> bool:
        if now_s < self._next_acquire_s:
            return False
        self._next_acquire_s = now_s + RETRY_S
        acquired = await self._parts.owners.acquire(self.instance_id, instance.account_id)
        if acquired is None:
            return False
        settings, now_s = self._parts.settings, self._parts.clock()
        self.lease = lease_from(
            acquired.epoch, self._next_acquire_s - RETRY_S, settings.lease_s, settings.lease_margin_s
        )
        start_s = now_s + acquired.wait_s
        if not acquired.released:
            start_s = max(start_s, throttle.emptied(now_s, instance.rate))
        self.departures.tat_s = max(self.departures.tat_s, start_s)
        self.departures.pace = acquired.pace
        self._pairs = {}
        self._pairs_complete_at_s = now_s + 3600.0
        return True

    def credit(self, seconds: float) -> int:
        """How many messages the scheduler may have released to this lane without outcome."""
        instance = self._parts.instances.get(self.instance_id)
        return 1 if instance is None else int(seconds * instance.rate.per_second) + 1
