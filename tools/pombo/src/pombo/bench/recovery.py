"""After kill -9, until messages reach the provider again at their usual rate (G10)."""

import time
from collections.abc import Callable, Iterator, Sequence

from pombo.backing import Server
from pombo.bench.arrivals import Arrivals
from pombo.bench.figures import Figure
from pombo.bench.measures import NS, Slump, between, longest_slump
from pombo.bench.running import Bench
from pombo.demo.fleet import PoolNumber
from pombo.demo.scenario import Stuck
from pombo.stack import Service

FIGURES = (
    "recovery_seconds_sender",
    "recovery_seconds_takeover",
    "recovery_seconds_postgres",
    "recovery_seconds_kafka",
)
NUMBERS = 8
CARRIED_SHARE = 0.4
USUAL_S = 6.0
# Watched at least so long, because a fault may show late, and until all is as usual for a while.
WATCHED_S = {"sender": 12.0, "takeover": 20.0, "postgres": 15.0, "kafka": 25.0}
CALM_S = 4.0
LONGEST_S = 90.0
JOINED_S, PLANNED_S = 12.0, 20.0
READY_WITHIN_S = 90.0
STOP_WITHIN_S = 20.0
SECOND = "sender-1"


def measure(bench: Bench) -> Iterator[Figure]:
    """Numbers paced so that the machine carries them easily: what is missing afterwards is the fault's."""
    rate = CARRIED_SHARE * bench.pace()
    pool = bench.add_numbers(NUMBERS, rate / NUMBERS)
    yield _recovery(bench, pool, "sender", lambda: _restart_sender(bench))
    yield from _takeover(bench, pool)
    yield _recovery(bench, pool, "postgres", lambda: _restart(bench.stack.backing.postgres))
    yield _recovery(bench, pool, "kafka", lambda: _restart(bench.stack.backing.kafka))


def _takeover(bench: Bench, pool: Sequence[PoolNumber]) -> Iterator[Figure]:
    """Two senders share the numbers; one is killed and not started again until the other has taken over."""
    second = bench.stack.add_process(Service.SENDER, SECOND)
    try:
        second.start()
        second.wait_ready(READY_WITHIN_S)
        bench.wait(JOINED_S)
        yield _recovery(bench, pool, "takeover", bench.stack.process(Service.SENDER).kill, senders=2)
    finally:
        bench.stack.restart(Service.SENDER)
        bench.wait(JOINED_S)
        second.stop(STOP_WITHIN_S)
        del bench.stack.processes[SECOND]


def _recovery(
    bench: Bench, pool: Sequence[PoolNumber], what: str, kill: Callable[[], None], **conditions: int
) -> Figure:
    rate = sum(number.per_second for number in pool)
    campaign = bench.draft(int(rate * (PLANNED_S + USUAL_S + LONGEST_S)), pool)
    bench.start(campaign)
    bench.until_planned(campaign)
    arrivals = bench.arrivals()
    bench.wait(USUAL_S)
    killed_ns = time.monotonic_ns()
    kill()
    again = _watch(bench, WATCHED_S[what] - (time.monotonic_ns() - killed_ns) / NS)
    slump, usual = _await_calm(bench, arrivals, killed_ns, what)
    bench.settle()
    return bench.figure(
        f"recovery_seconds_{what}",
        slump.ended_s,
        "s",
        until="as many arrivals a second at the provider as before, all numbers together",
        messages_per_second=round(usual, 1),
        slump_began_s=round(slump.began_s, 1),
        numbers=NUMBERS,
        services_that_ended_and_were_started_again=again,
        **conditions,
    )


def _await_calm(bench: Bench, arrivals: Arrivals, killed_ns: int, what: str) -> tuple[Slump, float]:
    """The longest slump, and the rate before it. Raises Stuck when the usual rate does not come back."""
    times: list[int] = []
    while True:
        bench.simulator.stats()
        until_ns = time.monotonic_ns()
        times += [send.at_ns for send in arrivals.read()[0]]
        usual = between(times, killed_ns - round((USUAL_S - 1) * NS), killed_ns) / (USUAL_S - 1)
        slump = longest_slump(times, killed_ns, until_ns, usual)
        watched_s = (until_ns - killed_ns) / NS
        if slump.ended_s <= watched_s - CALM_S:
            return slump, usual
        if watched_s > LONGEST_S:
            raise Stuck(f"{what}: the usual rate was not back in {LONGEST_S:.0f} s; logs: {bench.stack.folder.logs}")
        _watch(bench, 1.0)


def _watch(bench: Bench, seconds: float) -> list[str]:
    """Names of services that ended by themselves; they are started again, as an orchestrator would."""
    again = []
    until_s = time.monotonic() + seconds
    while (left_s := until_s - time.monotonic()) > 0:
        bench.yardstick.sample()
        for name in bench.stack.ended():
            again.append(name)
            bench.stack.processes[name].start()
        time.sleep(min(left_s, 0.5))
    return again


def _restart_sender(bench: Bench) -> None:
    sender = bench.stack.process(Service.SENDER)
    sender.kill()
    sender.start()


def _restart(server: Server) -> None:
    server.kill()
    server.start()
