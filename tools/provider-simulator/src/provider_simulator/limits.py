"""Limits as a provider enforces them: true sliding windows, not buckets of a clock. Pure: the time is given.

Times are monotonic nanoseconds unless a name says otherwise. Arrivals may come slightly out of order
(requests read late from the socket carry the kernel's earlier time), so windows insert in order.
"""

from bisect import bisect_right, insort
from dataclasses import dataclass, field

SECOND_NS = 1_000_000_000


@dataclass(slots=True)
class SlidingWindow:
    """At most `limit` arrivals in any window (t - 1 s, t]. A refused arrival does not count.

    `limit` None admits everything and only watches; `peak` is the largest window ever seen.
    """

    limit: int | None = None
    span_ns: int = SECOND_NS
    peak: int = 0
    _times: list[int] = field(default_factory=list)

    def take(self, at_ns: int) -> bool:
        """Whether an arrival at `at_ns` fits in every window that contains it; if so it is counted."""
        times = self._times
        if not times or at_ns >= times[-1]:  # the usual case: the newest; only the window ending here matters
            size = len(times) + 1 - bisect_right(times, at_ns - self.span_ns)
            if self.limit is not None and size > self.limit:
                return False
            times.append(at_ns)
            self.peak = max(self.peak, size)
            self._trim()
            return True
        index = bisect_right(times, at_ns)
        if self.limit is not None and self._would_overfill(index, at_ns, self.limit):
            return False
        insort(times, at_ns)
        self._note_peak(index)
        self._trim()
        return True

    def _trim(self) -> None:
        """Forget what no later arrival can meet in a window, now and then."""
        times = self._times
        if len(times) > 4096 and times[2048] <= times[-1] - 2 * self.span_ns:
            del times[: bisect_right(times, times[-1] - 2 * self.span_ns)]

    def _would_overfill(self, index: int, at_ns: int, limit: int) -> bool:
        times = self._times
        if limit <= 0:
            return True
        # The windows that would contain the newcomer end at it or at a later arrival up to 1 s on.
        for end in range(index, len(times) + 1):
            end_ns = at_ns if end == index else times[end - 1]
            if end_ns >= at_ns + self.span_ns:
                return False
            # With the newcomer inserted, the window ending here holds `end - first + 1` arrivals.
            first = bisect_right(times, end_ns - self.span_ns)
            if end - first + 1 > limit:
                return True
        return False

    def _note_peak(self, index: int) -> None:
        times = self._times
        at_ns = times[index]
        for end in range(index, len(times)):
            end_ns = times[end]
            if end_ns >= at_ns + self.span_ns:
                return
            size = end + 1 - bisect_right(times, end_ns - self.span_ns)
            self.peak = max(self.peak, size)


@dataclass(slots=True)
class PairRate:
    """One message per `interval_s` from a number to one person, with a burst that is paid back."""

    interval_s: float = 6.0
    burst: int = 45
    _due_ns: dict[str, int] = field(default_factory=dict)  # person -> when the debt is paid back
    _inserts: int = 0

    def take(self, person: str, at_ns: int) -> bool:
        """Whether one more message to this person is allowed; if so it is charged."""
        step_ns = round(self.interval_s * SECOND_NS)
        due_ns = max(self._due_ns.get(person, at_ns), at_ns) + step_ns
        if due_ns - at_ns > step_ns * self.burst:
            return False
        self._due_ns[person] = due_ns
        self._inserts += 1
        if self._inserts >= 20_000:  # forget people whose debt is paid, so that the table stays small
            self._inserts = 0
            self._due_ns = {who: due for who, due in self._due_ns.items() if due > at_ns}
        return True


@dataclass(slots=True)
class UniquePeople:
    """Distinct people reached in the last 24 h; `limit` None is unlimited. Times in wall milliseconds."""

    limit: int | None = None
    span_ms: int = 24 * 3600 * 1000
    _last_ms: dict[str, int] = field(default_factory=dict)  # ordered by last time, oldest first

    def take(self, person: str, at_ms: int) -> bool:
        """Whether this person fits under the limit; someone already counted always does."""
        self._expire(at_ms)
        known = self._last_ms.pop(person, None)
        if known is None and self.limit is not None and len(self._last_ms) >= self.limit:
            return False
        self._last_ms[person] = at_ms
        return True

    def count(self, at_ms: int) -> int:
        """How many distinct people the window holds."""
        self._expire(at_ms)
        return len(self._last_ms)

    def _expire(self, at_ms: int) -> None:
        oldest_ms = at_ms - self.span_ms
        while self._last_ms:
            person = next(iter(self._last_ms))
            if self._last_ms[person] > oldest_ms:
                return
            del self._last_ms[person]
