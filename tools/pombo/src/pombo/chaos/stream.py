"""One direction of a proxied connection: what was said and is not passed on yet."""

import asyncio
from collections import deque
from collections.abc import Callable

# A source is not read further while so much of its data waits; a small bound keeps slow links slow.
WAITING_BYTES_MAX = 256 * 1024
SLOW_TICK_S = 0.05


class Stream:
    """One direction: pieces with the time at which each is due, passed on in order. `source`: the end that speaks."""

    def __init__(self, source: Callable[[], asyncio.Transport | None]) -> None:
        self._source = source
        self._target: asyncio.Transport | None = None
        self._waiting: deque[tuple[float, bytes]] = deque()
        self._bytes = 0
        self._timer: asyncio.TimerHandle | None = None
        self._ending = False
        self._full = False
        self.is_slow = False

    def lead_to(self, target: asyncio.Transport) -> None:
        self._target = target
        self._flush()

    def put(self, data: bytes, delay_s: float = 0.0) -> None:
        if not data:
            return
        if not delay_s and not self._waiting and self._target is not None:
            self._target.write(data)
            return
        due_s = asyncio.get_running_loop().time() + delay_s
        if self._waiting:
            due_s = max(due_s, self._waiting[-1][0])
        self._waiting.append((due_s, data))
        self._bytes += len(data)
        self._brake()
        self._flush()

    def put_slowly(self, data: bytes, bytes_per_s: int) -> None:
        """Small pieces, each due when its bytes have had their time."""
        self.is_slow = True
        piece = max(1, int(bytes_per_s * SLOW_TICK_S))
        now_s = asyncio.get_running_loop().time()
        due_s = max(now_s, self._waiting[-1][0]) if self._waiting else now_s
        for start in range(0, len(data), piece):
            part = data[start : start + piece]
            due_s += len(part) / bytes_per_s
            self._waiting.append((due_s, part))
        self._bytes += len(data)
        self._brake()
        self._flush()

    def hurry(self) -> None:
        """The toxic is gone: everything is due."""
        self.is_slow = False
        self._waiting = deque((0.0, data) for _, data in self._waiting)
        self._flush()

    def close_when_empty(self) -> None:
        self._ending = True
        self._flush()

    def drop(self) -> None:
        self._waiting.clear()
        self._bytes = 0
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None

    def brake_target_full(self, full: bool) -> None:
        self._full = full
        self._brake()

    def _flush(self) -> None:
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        if self._target is None:
            return
        loop = asyncio.get_running_loop()
        now_s = loop.time()
        while self._waiting and self._waiting[0][0] <= now_s:
            _, data = self._waiting.popleft()
            self._bytes -= len(data)
            self._target.write(data)
        if self._waiting:
            self._timer = loop.call_at(self._waiting[0][0], self._flush)
        elif self._ending:
            self._target.close()
        self._brake()

    def _brake(self) -> None:
        source = self._source()
        if source is None or source.is_closing():
            return
        if self._full or self._bytes > WAITING_BYTES_MAX:
            source.pause_reading()
        else:
            source.resume_reading()
