"""How long the machine stood still: a run on a machine that others stop is not to be blamed for it."""

import threading
import time

LOOK_EVERY_S = 0.25
STALL_S = 2.0


class Stalls:
    """A thread that only sleeps; when it wakes much too late, nobody here ran. `total_s` grows."""

    def __init__(self) -> None:
        self.total_s = 0.0
        self._stopping = threading.Event()
        self._thread = threading.Thread(target=self._watch, name="stalls", daemon=True)
        self._thread.start()

    def stop(self) -> None:
        self._stopping.set()
        self._thread.join()

    def _watch(self) -> None:
        last_s = time.monotonic()
        while not self._stopping.wait(LOOK_EVERY_S):
            now_s = time.monotonic()
            if now_s - last_s > STALL_S:
                self.total_s += now_s - last_s
            last_s = now_s
