"""After kill -9, until messages reach the provider again at their usual rate (G10)."""

import time
from collections.abc import Callable, Iterator

from pombo.bench.figures import Figure
from pombo.bench.measures import NS, between, longest_slump
from pombo.bench.running import Bench
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
WATCHED_S = {"sender": 15.0, "takeover": 25.0, "postgres": 20.0, "kafka": 35.0}
JOINED_S, PLANNED_S = 12.0, 25.0
READY_WITHIN_S = 90.0
SECOND = "sender-1"


def measure(bench: Bench) -> Iterator[Figure]:
    """Numbers paced so that the machine carries them easily: what is missing afterwards is the fault's."""
    rate = CARRIED_SHARE * bench.pace()
    pool = bench.add_numbers(NUMBERS, rate / NUMBERS)
    whole_s = sum(WATCHED_S.values()) + len(WATCHED_S) * (USUAL_S + JOINED_S) + PLANNED_S
    campaign = bench.draft(int(rate * whole_s), pool)
    bench.start(campaign)
    bench.until_planned(campaign)
    yield _recovery(bench, "sender", lambda: _restart_sender(bench))
    yield from _takeover(bench)
    yield _recovery(bench, "postgres", lambda: _restart(bench, "postgres"))
    yield _recovery(bench, "kafka", lambda: _restart(bench, "kafka"))


def _takeover(bench: Bench) -> Iterator[Figure]:
    """Two senders share the numbers; one is killed and not started again until the other has taken over."""
    second = bench.stack.add_process(Service.SENDER, SECOND)
    try:
        second.start()
        second.wait_ready(READY_WITHIN_S)
        bench.wait(JOINED_S)
        yield _recovery(bench, "takeover", bench.stack.process(Service.SENDER).kill, senders=2)
        bench.stack.restart(Service.SENDER)
        bench.wait(JOINED_S)
    finally:
        second.stop(20.0)
        del bench.stack.processes[SECOND]
    bench.wait(JOINED_S)


def _recovery(bench: Bench, what: str, kill: Callable[[], None], **conditions: int) -> Figure:
    arrivals = bench.arrivals()
    bench.wait(USUAL_S)
    killed_ns = time.monotonic_ns()
    kill()
    restarted_s = (time.monotonic_ns() - killed_ns) / NS
    again = _watch(bench, WATCHED_S[what] - restarted_s)
    until_ns = time.monotonic_ns()
    bench.simulator.stats()
    times = [send.at_ns for send in arrivals.read()[0]]
    usual = between(times, killed_ns - round((USUAL_S - 1) * NS), killed_ns) / (USUAL_S - 1)
    slump = longest_slump(times, killed_ns, until_ns, usual)
    if slump.ended_s >= (until_ns - killed_ns) / NS:
        raise Stuck(f"{what}: the usual rate was not back in {WATCHED_S[what]:.0f} s; logs: {bench.stack.folder.logs}")
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


def _restart(bench: Bench, name: str) -> None:
    server = bench.stack.backing.kafka if name == "kafka" else bench.stack.backing.postgres
    server.kill()
    server.start()
