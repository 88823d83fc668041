"""The agenda: everything planned for later, in one heap behind one timer of the loop.

Due times are rounded up to a tick, so that what falls due together is done together: a timer each would cost
several times as much, here and, by waking the receiver for every single webhook, on the other side.
"""

import asyncio
import math
from collections.abc import Callable
from heapq import heappop, heappush
from itertools import count
from typing import Any

TICK_S = 0.01
Act = Callable[..., Any]


class Agenda:
    """Does things later. `on_error` hears of what an act raised; the others are done all the same."""

    def __init__(self, loop: asyncio.AbstractEventLoop, on_error: Callable[[Exception], None]) -> None:
        self._loop = loop
        self._on_error = on_error
        self._heap: list[tuple[float, int, Act, tuple[Any, ...]]] = []
        self._order = count()
        self._timer: asyncio.TimerHandle | None = None
        self._armed_for = math.inf

    def __len__(self) -> int:
        return len(self._heap)

    def add(self, after_s: float, act: Act, args: tuple[Any, ...]) -> None:
        """Do it after so many real seconds; things due in one tick keep the order of their due times."""
        due = self._loop.time() + after_s
        heappush(self._heap, (due, next(self._order), act, args))
        if due < self._armed_for:
            self._arm(due)

    def _arm(self, due: float) -> None:
        if self._timer is not None:
            self._timer.cancel()
        self._armed_for = math.ceil(due / TICK_S) * TICK_S
        self._timer = self._loop.call_at(self._armed_for, self._run)

    def _run(self) -> None:
        self._timer, self._armed_for = None, math.inf
        now, heap = self._loop.time(), self._heap
        while heap and heap[0][0] <= now:
            _, _, act, args = heappop(heap)
            try:
                act(*args)
            except Exception as error:  # noqa: BLE001 - one broken act must not cost the others
                self._on_error(error)
        if heap and heap[0][0] < self._armed_for:
            self._arm(heap[0][0])
