"""Virtual time: processes made of generators that take turns, crash and stand still between any two of their steps.

A task yields what it waits for: seconds, a Signal, or (Signal, seconds). Between two yields nothing else happens, so a
yield stands for every place where a real process can lose the processor, its connections, or its life. Everything that
is drawn comes from one seeded generator and every queue has an order, so one seed is one schedule.
"""

import heapq
from collections.abc import Callable, Generator
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from random import Random
from typing import Any, TypeVar

T = TypeVar("T")
Wait = Any  # float | Signal | tuple[Signal, float | None]
Steps = Generator[Wait, None, T]
START = datetime(2026, 3, 2, 12, tzinfo=UTC)


class Signal:
    """Wakes every task that waits for it; who does not wait hears nothing, so look before you wait."""

    __slots__ = ("_loop", "_waiting")

    def __init__(self, loop: "Loop") -> None:
        self._loop = loop
        self._waiting: list[tuple[Task, int]] = []

    def set(self) -> None:
        waiting, self._waiting = self._waiting, []
        for task, ticket in waiting:
            if not task.done and task.ticket == ticket:
                self._loop.resume(task, self._loop.now)

    def add(self, task: "Task") -> None:
        self._waiting.append((task, task.ticket))


class Task:
    """`ticket` counts its waits: what was meant to end an earlier one is passed over."""

    __slots__ = ("done", "process", "steps", "ticket")

    def __init__(self, process: "Process", steps: Steps[Any]) -> None:
        self.process, self.steps, self.ticket, self.done = process, steps, 0, False


@dataclass(eq=False)
class Process:
    """`boot` gives its tasks at each start. `offset_s`: of its monotonic clock; `skew_s`: of its wall clock.
    `leaving`: requests between their last check and their first byte: whoever stands still there sends late."""

    name: str
    loop: "Loop"
    boot: Callable[["Process"], list[Steps[Any]]]
    mortal: bool = True
    alive: bool = False
    stands_until_s: float = 0.0
    offset_s: float = 0.0
    skew_s: float = 0.0
    starts: int = 0
    leaving: int = 0
    tasks: dict[Task, None] = field(default_factory=dict)
    on_death: list[Callable[["Process"], None]] = field(default_factory=list)

    def start(self) -> None:
        self.alive, self.stands_until_s, self.leaving = True, 0.0, 0
        self.starts += 1
        self.offset_s = self.loop.rng.uniform(0, 1e5)
        for steps in self.boot(self):
            self.spawn(steps)

    def spawn(self, steps: Steps[Any]) -> Task:
        task = Task(self, steps)
        self.tasks[task] = None
        self.loop.resume(task, self.loop.now)
        return task

    def kill(self) -> None:
        if not self.alive:
            return
        self.alive = False
        tasks, self.tasks = list(self.tasks), {}
        for task in tasks:
            task.done = True
            task.steps.close()
        for tell in self.on_death:
            tell(self)

    def stand(self, seconds: float) -> None:
        """As after SIGSTOP: sockets and memory stay, time goes on."""
        self.stands_until_s = max(self.stands_until_s, self.loop.now + seconds)

    @property
    def stands(self) -> bool:
        return self.stands_until_s > self.loop.now

    def monotonic(self) -> float:
        return self.loop.now + self.offset_s

    def wall(self) -> datetime:
        return START + timedelta(seconds=self.loop.now + self.skew_s)


@dataclass(eq=False)
class Loop:
    """`before_step` is asked before each step of a process and may kill or stop it."""

    rng: Random
    now: float = 0.0
    steps: int = 0
    before_step: Callable[[Process], None] | None = None
    _due: list[tuple[float, float, int, Task, int]] = field(default_factory=list)
    _pushed: int = 0

    def resume(self, task: Task, at_s: float) -> None:
        task.ticket += 1
        self._pushed += 1
        heapq.heappush(self._due, (at_s, self.rng.random(), self._pushed, task, task.ticket))

    def at(self) -> datetime:
        """True time, which is the database's."""
        return START + timedelta(seconds=self.now)

    def seconds(self) -> float:
        """The same as seconds of the epoch."""
        return START.timestamp() + self.now

    def run(self, until_s: float, steps_max: int) -> bool:
        """False if nothing is left to do."""
        due = self._due
        while due and self.steps < steps_max:
            if due[0][0] > until_s:
                self.now = until_s
                return True
            at_s, _, _, task, ticket = heapq.heappop(due)
            if not task.done and task.ticket == ticket:
                self.now = max(self.now, at_s)
                self._step(task)
        return bool(due)

    def _step(self, task: Task) -> None:
        process = task.process
        if self.before_step is not None and process.mortal and process.alive and not process.stands:
            self.before_step(process)
        if task.done:
            return
        if process.stands:
            self.resume(task, process.stands_until_s)
            return
        self.steps += 1
        try:
            wanted = next(task.steps)
        except StopIteration:
            task.done = True
            process.tasks.pop(task, None)
            return
        if isinstance(wanted, float | int):
            self.resume(task, self.now + wanted)
            return
        signal, timeout_s = wanted if isinstance(wanted, tuple) else (wanted, None)
        if timeout_s is not None:
            self.resume(task, self.now + max(0.0, timeout_s))
        else:
            task.ticket += 1
        signal.add(task)
