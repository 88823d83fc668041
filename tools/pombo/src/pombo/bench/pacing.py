"""How near each number comes to its limit, and that no sliding second ever holds more (G4)."""

import time
from collections.abc import Iterator

from pombo.audit.windows import busiest
from pombo.bench.arrivals import by_number
from pombo.bench.figures import Figure
from pombo.bench.measures import NS, between, efficiency_percent, windows_over_limit
from pombo.bench.running import Bench

FIGURES = ("pacing_efficiency_percent", "windows_over_limit")
LIMIT_PER_S = 80
NUMBERS_MAX = 12
CARRIED_SHARE = 0.6
WARM_S, PLANNED_S = 5.0, 25.0


def measure(bench: Bench) -> Iterator[Figure]:
    """As many numbers of the usual tier as this machine carries easily: the limiter is measured, not the machine."""
    window_s = bench.wishes.duration_s
    count = max(1, min(NUMBERS_MAX, int(CARRIED_SHARE * bench.pace() / LIMIT_PER_S)))
    pool = bench.add_numbers(count, LIMIT_PER_S)
    campaign = bench.draft(int(count * LIMIT_PER_S * (window_s + WARM_S + PLANNED_S)), pool)
    arrivals = bench.arrivals()
    bench.start(campaign)
    bench.until_planned(campaign)
    bench.wait(WARM_S)
    from_ns = time.monotonic_ns()
    bench.wait(window_s)
    until_ns = time.monotonic_ns()
    bench.simulator.stats()
    times = by_number(arrivals.read()[0])
    found = [between(times[number.number], from_ns, until_ns) for number in pool]
    seconds = (until_ns - from_ns) / NS
    each = [round(efficiency_percent(arrived, LIMIT_PER_S, 1, seconds), 2) for arrived in found]
    conditions = {
        "numbers": count,
        "limit_per_second": LIMIT_PER_S,
        "seconds": round(seconds, 1),
        "busiest_second": max(busiest(times[number.number]) for number in pool),
        "messages": sum(len(times[number.number]) for number in pool),
    }
    yield bench.figure(
        FIGURES[0],
        efficiency_percent(sum(found), LIMIT_PER_S, count, seconds),
        "%",
        **conditions,
        lowest_number=min(each),
        highest_number=max(each),
    )
    over = sum(windows_over_limit(times[number.number], LIMIT_PER_S) for number in pool)
    yield bench.figure(FIGURES[1], over, "windows", **conditions)
