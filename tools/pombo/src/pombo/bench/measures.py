"""What figures are made of: percentiles, windows above a limit, pacing, the time of a slump. Pure."""

import statistics
from bisect import bisect_left, bisect_right
from collections import deque
from collections.abc import Sequence
from dataclasses import dataclass

NS = 1_000_000_000
# Below this share of the usual rate a moment belongs to a slump.
SLUMP_SHARE = 0.7
SLUMP_WINDOW_S = 1.0
SLUMP_STEP_S = 0.1


def percentile(values: Sequence[float], percent: int) -> float:
    """The value that `percent` (1..99) of them do not exceed, interpolated; with few values p99 is the largest."""
    if not values:
        raise ValueError("no values")
    if len(values) == 1:
        return values[0]
    return statistics.quantiles(values, n=100, method="inclusive")[percent - 1]


def spread_ms(latencies_s: Sequence[float]) -> dict[str, float | int]:
    """p50, p99, longest in milliseconds, and of how many."""
    return {
        "p50_ms": round(percentile(latencies_s, 50) * 1000, 1),
        "p99_ms": round(percentile(latencies_s, 99) * 1000, 1),
        "longest_ms": round(max(latencies_s) * 1000, 1),
        "samples": len(latencies_s),
    }


def windows_over_limit(times_ns: Sequence[int], limit: int, window_ns: int = NS) -> int:
    """How many arrivals end a window [t - window, t] that holds more than `limit`. Ascending times.

    Every sliding window that is too full has one that ends at its last arrival, so 0 means none at all.
    """
    inside: deque[int] = deque()
    over = 0
    for at_ns in times_ns:
        inside.append(at_ns)
        while inside[0] <= at_ns - window_ns:
            inside.popleft()
        over += len(inside) > limit
    return over


def efficiency_percent(arrived: int, limit_per_s: float, numbers: int, seconds: float) -> float:
    """What arrived, of what the limits allow."""
    return 100.0 * arrived / (limit_per_s * numbers * seconds)


def crossings_s(reported_ns: Sequence[int], looks: Sequence[tuple[int, int]], since_ns: int) -> list[float]:
    """From each report until the first look whose count includes it, in seconds.

    `looks`: (when it was answered, count), ascending. Reports before `since_ns` are counted and not measured; those
    that no look has seen are left out (the caller waits for all of them).
    """
    lags: list[float] = []
    seen = 0
    for at_ns, count in looks:
        for reported in reported_ns[seen:count]:
            if reported >= since_ns:
                lags.append((at_ns - reported) / NS)
        seen = max(seen, min(count, len(reported_ns)))
    return lags


@dataclass(frozen=True, slots=True)
class Slump:
    """When the rate fell below its usual one and when it was back, in seconds after the fault; 0, 0: it never did."""

    began_s: float
    ended_s: float


def longest_slump(times_ns: Sequence[int], fault_ns: int, until_ns: int, usual_per_s: float) -> Slump:
    """The longest time after the fault with less than SLUMP_SHARE of the usual arrivals in the second that follows.

    A slump that lasts to `until_ns` ends there: the caller sees that it was not over.
    """
    longest = Slump(0.0, 0.0)
    began_s: float | None = None
    end_s = (until_ns - fault_ns) / NS
    steps = int((end_s - SLUMP_WINDOW_S) / SLUMP_STEP_S)
    for step in range(max(0, steps) + 1):
        at_s = step * SLUMP_STEP_S
        low = _count(times_ns, fault_ns, at_s) < SLUMP_SHARE * usual_per_s * SLUMP_WINDOW_S
        if low and began_s is None:
            began_s = at_s
        if began_s is not None and (not low or step == steps):
            ended_s = end_s if low else at_s
            if ended_s - began_s > longest.ended_s - longest.began_s:
                longest = Slump(began_s, ended_s)
            began_s = None
    return longest


def _count(times_ns: Sequence[int], fault_ns: int, at_s: float) -> int:
    from_ns = fault_ns + round(at_s * NS)
    return bisect_left(times_ns, from_ns + round(SLUMP_WINDOW_S * NS)) - bisect_left(times_ns, from_ns)


def between(times_ns: Sequence[int], from_ns: int, until_ns: int) -> int:
    """How many lie in [from, until]."""
    return bisect_right(times_ns, until_ns) - bisect_left(times_ns, from_ns)


def middle_rate(samples: Sequence[tuple[float, int]], total: int) -> float | None:
    """Per second between the first samples (seconds, count) with 20 % and with 80 % of all; None with too few."""
    begin = next((sample for sample in samples if sample[1] >= 0.2 * total), None)
    end = next((sample for sample in samples if sample[1] >= 0.8 * total), None)
    if begin is None or end is None or end[0] <= begin[0]:
        return None
    return (end[1] - begin[1]) / (end[0] - begin[0])
