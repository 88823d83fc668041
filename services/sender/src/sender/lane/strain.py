"""How late this process's event loop is, and whether new intents should wait until it has caught up.

A loop with more work than it can do still takes every message that is offered: each then waits, committed, among
hundreds of others, and a pause has to wait for all of them. What waits in the queue instead holds up nobody.
"""

import asyncio
from collections.abc import Callable

from chassis.telemetry import gauge

BEAT_S = 0.02
# Of the loop's lateness now and before: half of it is gone after five beats.
SHARE = 0.13
# A single stall of an eighth of a second stays below it. Messages a second are the same as without a bound; a pause is
# acknowledged in half of the time (2 cores, everything on them).
STRAINED_S = 0.02


class Strain:
    """Times are seconds."""

    def __init__(self) -> None:
        self.late_s = 0.0
        self._gauge = gauge("pombo_loop_late_seconds", "How late the event loop is.")

    @property
    def is_high(self) -> bool:
        return self.late_s > STRAINED_S

    async def watch(self, clock: Callable[[], float], stopping: asyncio.Event) -> None:
        while not stopping.is_set():
            due_s = clock() + BEAT_S
            await asyncio.sleep(BEAT_S)
            self.beat(clock() - due_s)

    def beat(self, late_s: float) -> None:
        self.late_s += SHARE * (max(0.0, late_s) - self.late_s)
        self._gauge.set(self.late_s)
