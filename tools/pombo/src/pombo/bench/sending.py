"""End to end: messages a second with all three statuses in the read model, what they cost, what is held (G1, G2)."""

from collections.abc import Iterator

from pombo.bench.figures import Figure
from pombo.bench.measures import middle_rate
from pombo.bench.running import LATENCY_MS, WARM_UP, Bench
from pombo.stack.stack import SIMULATOR

FIGURES = ("end_to_end_messages_per_second", "system_cpu_seconds_per_1000_messages", "system_memory_mib")
MESSAGES_MIN = 2000


def measure(bench: Bench) -> Iterator[Figure]:
    """From the request to start until the last `read` is in the read model: as many messages as take one window."""
    pool = bench.unpaced()
    messages = max(MESSAGES_MIN, round(bench.pace() * bench.wishes.duration_s, -2))
    campaign = bench.draft(int(messages), pool)
    before_s = bench.cpu_by_process()
    samples = bench.run(campaign)
    took_s, after_s = samples[-1][0] - samples[0][0], bench.cpu_by_process()
    memory = bench.memory_by_process()
    used_s = {name: (after_s[name] - before_s[name]) * 1000 / campaign.people for name in before_s}
    simulator_s = used_s.pop(SIMULATOR)
    conditions = {
        "messages": campaign.people,
        "seconds": round(took_s, 1),
        "statuses_each": 3,
        "numbers": len(pool),
        "provider_latency_ms": LATENCY_MS,
        "warm_up_messages": WARM_UP,
    }
    middle = middle_rate(samples, campaign.people) or campaign.people / took_s
    bench.learn_pace(middle)
    yield bench.figure(
        FIGURES[0],
        campaign.people / took_s,
        "messages/s",
        **conditions,
        in_the_middle_per_second=round(middle, 1),
    )
    yield bench.figure(
        FIGURES[1],
        sum(used_s.values()),
        "CPU s",
        **conditions,
        by_process={name: round(value, 2) for name, value in used_s.items()},
        simulator_beside=round(simulator_s, 2),
    )
    yield bench.figure(FIGURES[2], sum(memory.values()), "MiB", **conditions, by_process=memory)
