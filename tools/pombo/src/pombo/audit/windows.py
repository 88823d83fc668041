"""Sliding windows and pair rates, checked exactly over arrivals. Times in nanoseconds, ascending."""

from collections import deque
from collections.abc import Sequence

NS = 1_000_000_000
DAY_NS = 86_400 * NS


def busiest(times_ns: Sequence[int], window_ns: int = NS) -> int:
    """The most arrivals in any window [t, t + window)."""
    most = start = 0
    for end, at_ns in enumerate(times_ns):
        while times_ns[start] <= at_ns - window_ns:
            start += 1
        most = max(most, end - start + 1)
    return most


def too_close(times_ns: Sequence[int], per_minute: float, burst: int) -> int:
    """How many arrivals at one person came before the pair rate allows them (`burst` at once, then paid back)."""
    interval_ns = 60 * NS / per_minute
    tolerance_ns = (burst - 1) * interval_ns
    due_ns = float("-inf")
    early = 0
    for at_ns in times_ns:
        if at_ns < due_ns - tolerance_ns:
            early += 1
            continue
        due_ns = max(due_ns, at_ns) + interval_ns
    return early


def most_people(arrivals: Sequence[tuple[int, str]], window_ns: int = DAY_NS) -> int:
    """The most different people in any moving window."""
    inside: deque[tuple[int, str]] = deque()
    counts: dict[str, int] = {}
    most = 0
    for at_ns, person in arrivals:
        inside.append((at_ns, person))
        counts[person] = counts.get(person, 0) + 1
        while inside[0][0] <= at_ns - window_ns:
            _, gone = inside.popleft()
            counts[gone] -= 1
            if counts[gone] == 0:
                del counts[gone]
        most = max(most, len(counts))
    return most
