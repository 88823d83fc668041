"""How long the machine was not ours: a run is not to be blamed for what others used, or for being stopped by them."""

import os
import threading
import time

import psutil

LOOK_EVERY_S = 0.25
STALL_S = 2.0
WEIGH_EVERY_S = 2.0


class Stalls:
    """A thread that mostly sleeps. `total_s` grows by the time in which nobody here ran (it wakes much too late), and
    by what processes that are not ours used, as if they had had all processors for so much shorter."""

    def __init__(self) -> None:
        self.total_s = 0.0
        self._own = psutil.Process()
        self._cores = os.cpu_count() or 1
        self._stopping = threading.Event()
        self._thread = threading.Thread(target=self._watch, name="stalls", daemon=True)
        self._thread.start()

    def stop(self) -> None:
        self._stopping.set()
        self._thread.join()

    def _watch(self) -> None:
        last_s = weighed_s = time.monotonic()
        before = self._used_by_others_s()
        while not self._stopping.wait(LOOK_EVERY_S):
            now_s = time.monotonic()
            stalled = now_s - last_s > STALL_S
            if stalled:
                self.total_s += now_s - last_s
            if stalled or now_s - weighed_s > WEIGH_EVERY_S:
                after = self._used_by_others_s()
                # A process of ours that ended takes what it had used out of the sum: at most the time that passed.
                if not stalled:
                    self.total_s += min(max(0.0, after - before) / self._cores, now_s - weighed_s)
                before, weighed_s = after, now_s
            last_s = now_s

    def _used_by_others_s(self) -> float:
        """CPU seconds since the machine started: of everybody, less those of the processes that live below us now."""
        everybody = psutil.cpu_times()
        busy_s = everybody.user + everybody.nice + everybody.system
        return busy_s - sum(_used_s(process) for process in [self._own, *self._own.children(recursive=True)])


def _used_s(process: psutil.Process) -> float:
    try:
        used = process.cpu_times()
    except psutil.Error:
        return 0.0
    return float(used.user + used.system)
