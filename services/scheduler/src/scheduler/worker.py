"""The driver: wait, ask the deciders, act. Two loops and a publisher; any number of replicas may run them."""

import asyncio
import contextlib
from collections.abc import Awaitable, Callable
from uuid import UUID

from chassis import kafka
from chassis.database import Database, driver, is_passing
from chassis.lifecycle import backoff_s, pause
from chassis.telemetry import counter, log
from scheduler.campaign.chores import Chores
from scheduler.campaign.drains import Drains
from scheduler.campaign.timers import Timers
from scheduler.campaign.upkeep import Upkeep
from scheduler.lane import lanes
from scheduler.lane.publication import Publication
from scheduler.lane.releases import Released, Releasing
from scheduler.order.answers import Answers
from scheduler.plan.moves import Moves
from scheduler.plan.planning import Planning
from scheduler.settings import PacingSettings
from scheduler.signals import Signals

# Committed releases waiting for Kafka; when full, releasing waits, so that little is in memory if the process dies.
_UNPUBLISHED_MAX = 4
_STUCK_ROUNDS = 20
_UPKEEP_EACH = 30  # sweeps


class Worker:
    def __init__(
        self,
        database: Database,
        settings: PacingSettings,
        signals: Signals,
        releasing: Releasing,
        publication: Publication,
        planning: Planning,
        answers: Answers,
        timers: Timers,
        chores: Chores,
        moves: Moves,
        drains: Drains,
        upkeep: Upkeep,
    ) -> None:
        self._database = database
        self._settings = settings
        self._signals = signals
        self._releasing = releasing
        self._publication = publication
        self._planning = planning
        self._answers = answers
        self._timers = timers
        self._chores = chores
        self._moves = moves
        self._drains = drains
        self._upkeep = upkeep
        self._sweeps = 0
        self.committed: asyncio.Queue[Released] = asyncio.Queue(_UNPUBLISHED_MAX)

    async def run_ticks(self, stopping: asyncio.Event) -> None:
        """Releases what is due, at once when something happened, else every `poll_s`."""
        await self._guard(stopping, self.tick, self._signals.wake, self._settings.poll_s)

    async def run_plans(self, stopping: asyncio.Event) -> None:
        """Plans and bulk changes, apart from the ticks: their pages are long transactions."""

        await self._guard(stopping, self.plan, self._signals.plan, self._settings.sweep_s)

    async def run_sweeps(self, stopping: asyncio.Event) -> None:
        """Finds what no signal told: everything here is idempotent."""

        await self._guard(stopping, self.sweep, stopping, self._settings.sweep_s)

    async def publish_releases(self, stopping: asyncio.Event) -> None:
        """What cannot be published or marked now is published by the sweep: nothing is lost with the queue."""
        clock = asyncio.get_running_loop().time
        mark_at = clock() + self._settings.mark_each_s
        while not (stopping.is_set() and self.committed.empty()):
            released = None
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(0.2):
                    released = await self.committed.get()
            try:
                if released is not None:
                    await self._publication.publish(released.rows, released.runs)
                if clock() >= mark_at:
                    mark_at = clock() + self._settings.mark_each_s
                    await self._publication.mark()
            except Exception as error:
                if not _may_pass(error):
                    raise
                log.warning("publication_failed", error=type(error).__name__)
                await pause(stopping, backoff_s(1))

    async def tick(self) -> None:
        signals = self._signals
        signals.wake.clear()
        begins, more = (True, True) if signals.wants_turn() else await self._timers.look()
        if begins:
            more = True
            if instances := await self._begin_turn():
                async with self._database.transaction() as connection:
                    await lanes.wake(await driver(connection), instances)
        while more:
            released = await self._releasing.release_due()
            if released.rows:
                counter("pombo_dispatches_released_total", "Dispatches released.").inc(len(released.rows))
                await self.committed.put(released)
            more = released.more
            if more and signals.wake.is_set():
                # Answers of people do not wait for the end of a long round.
                signals.wake.clear()
                signals.wake_instances(await self._begin_turn())
        if drained := signals.take_drained():
            await self._drains.report_drained(drained)

    async def _begin_turn(self) -> set[UUID]:
        """Wakes lanes, ends waits, publishes answers. Returns the lanes that more than that wakes: dispatches are
        locked by now, and lanes come before them (see lanes.py)."""
        campaigns, instances = self._signals.take_campaigns(), self._signals.take_instances()
        async with self._database.transaction() as connection:
            raw = await driver(connection)
            if campaigns:
                await lanes.wake_campaigns(raw, campaigns)
            if instances:
                await lanes.wake(raw, instances)
            waited = await self._timers.end_waits(connection)
            answers = await self._answers.release_waiting(connection)
        if self._signals.take_answers() or answers:
            await self._publication.publish_answers()
        return waited

    async def plan(self) -> None:
        self._signals.plan.clear()
        await self._planning.discover()
        # A page of each in turn: one account's million is not in the way of what others start, cancel or lost.
        while any([await self._planning.plan_page(), await self._chores.do_page(), await self._moves.move_page()]):
            self._signals.wake.set()
            if self._signals.plan.is_set():
                self._signals.plan.clear()
                await self._planning.discover()

    async def sweep(self) -> None:
        await self._timers.report_due_campaigns()
        await self._timers.find_expired()
        await self._publication.publish_forgotten()
        if self._signals.take_recover():
            for _ in range(_STUCK_ROUNDS):
                if not await self._publication.publish_stuck_now():
                    break
        await self._drains.report_drained()
        await self._drains.report_blocked()
        self._sweeps += 1
        if self._sweeps % _UPKEEP_EACH == 0:
            if wrong := await self._upkeep.recount_credit():
                log.warning("credit_recounted", lanes=wrong)
            await self._upkeep.remove_old()

    async def _guard(
        self, stopping: asyncio.Event, act: Callable[[], Awaitable[None]], wake: asyncio.Event, rest_s: float
    ) -> None:
        """Acts when woken, else every `rest_s`. Waits out PostgreSQL and Kafka; anything else ends the process."""
        failures = 0
        while not stopping.is_set():
            try:
                await act()
                failures = 0
            except Exception as error:
                if not _may_pass(error):
                    raise
                failures += 1
                log.warning("worker_interrupted", error=type(error).__name__)
                await pause(stopping, backoff_s(failures))
            await pause(wake, rest_s)


def _may_pass(error: Exception) -> bool:
    return is_passing(error) or kafka.passes(error)
