"""The baselines one after the other: how fast, at which cost, and what a kill leaves behind (G5)."""

import asyncio
import importlib.util
import shutil
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import asyncpg
import psutil

from pombo.backing import processes
from pombo.backing.databases import in_database
from pombo.backing.folders import kept_port
from pombo.bench import stage
from pombo.bench.arrivals import Arrival
from pombo.bench.baselines.provider import Peer
from pombo.bench.figures import Figure, cpu_s
from pombo.bench.measures import NS, between
from pombo.bench.running import LATENCY_MS, Bench
from pombo.demo.scenario import Stuck

WINDOW_S = 20.0
RAMP_S = 3.0
AFTER_KILL_S = 6.0
COMMAND_WITHIN_S = 120.0
READY_WITHIN_S = 10.0


@dataclass(frozen=True, slots=True)
class Baseline:
    """`needs`: packages, and whether it wants a Redis. `queued`: more than it sends in its time."""

    module: str
    queued: int
    package: str
    redis: bool
    loss_model: str

    @property
    def figure(self) -> str:
        return f"baseline_{self.module}_messages_per_second"


BASELINES = (
    Baseline("table_poll", 200, "asyncpg", False, "a kill between POST and mark sends that message twice"),
    Baseline("redis_list", 3_000, "redis", True, "a kill loses what was popped and not yet sent"),
    Baseline(
        "procrastinate_jobs",
        20_000,
        "procrastinate",
        False,
        "jobs of a killed worker stay `doing`; retried by hand they may leave twice",
    ),
    Baseline("arq_jobs", 20_000, "arq", True, "jobs of a killed worker run again in five minutes and may leave twice"),
)
FIGURES = tuple(baseline.figure for baseline in BASELINES)


def measure(bench: Bench) -> Iterator[Figure]:
    """Our services are stopped meanwhile; the simulator and PostgreSQL are the same."""
    if bench.services_run():
        bench.settle()
    bench.stop_services()
    for baseline in BASELINES:
        if (why := missing(baseline)) is not None:
            bench.tell(f"{baseline.module} is left out: {why}")
            continue
        with _peer(bench, baseline) as (peer, servers):
            yield _measure(bench, baseline, peer, servers)


def missing(baseline: Baseline) -> str | None:
    if importlib.util.find_spec(baseline.package) is None:
        return f"the package {baseline.package} is not installed (make setup)"
    if baseline.redis and shutil.which("redis-server") is None:
        return "redis-server is not installed"
    return None


def _measure(bench: Bench, baseline: Baseline, peer: Peer, servers: list[int]) -> Figure:
    log = bench.stack.folder.logs / f"{baseline.module}.log"
    command(baseline, peer, log, "prepare", str(baseline.queued))
    arrivals = bench.arrivals()
    worker = spawn(baseline, peer, log)
    try:
        _await_first(bench, worker, log)
        bench.wait(RAMP_S)
        from_ns, before_s = time.monotonic_ns(), cpu_s([worker.pid, *servers])
        bench.wait(WINDOW_S)
        until_ns, after_s = time.monotonic_ns(), cpu_s([worker.pid, *servers])
        rss_mib = round(worker.memory_info().rss / 2**20)
    finally:
        processes.stop(worker, signal.SIGKILL, within_s=5.0)
    again = spawn(baseline, peer, log)
    bench.wait(AFTER_KILL_S)
    processes.stop(again, signal.SIGTERM, within_s=5.0)
    waiting = int(command(baseline, peer, log, "waiting"))
    bench.simulator.stats()
    sends = arrivals.read()[0]
    sent = between([send.at_ns for send in sends], from_ns, until_ns)
    per_second = sent / ((until_ns - from_ns) / NS)
    return bench.figure(
        baseline.figure,
        per_second,
        "messages/s",
        messages=sent,
        seconds=round((until_ns - from_ns) / NS, 1),
        provider_latency_ms=LATENCY_MS,
        cpu_seconds_per_1000_messages=round((after_s - before_s) * 1000 / max(1, sent), 2),
        worker_rss_mib=rss_mib,
        loss_model=baseline.loss_model,
        **_after_kill(baseline, sends, waiting),
        **_ratios(bench, per_second),
    )


def _after_kill(baseline: Baseline, sends: list[Arrival], waiting: int) -> dict[str, int]:
    """What one kill -9 left once another worker had worked on for some seconds."""
    persons = len({send.person for send in sends})
    return {
        "after_one_kill_taken_and_not_sent": max(0, baseline.queued - waiting - persons),
        "after_one_kill_sent_twice": len(sends) - persons,
    }


def _ratios(bench: Bench, per_second: float) -> dict[str, float]:
    """How many times as fast we are, where that was measured in this run."""
    ours = {"send_stage": stage.FIGURES[0], "end_to_end": "end_to_end_messages_per_second"}
    known = {name: bench.measured[figure] for name, figure in ours.items() if figure in bench.measured}
    return {f"{name}_is_times_faster": round(value / per_second, 1) for name, value in known.items() if per_second}


def _await_first(bench: Bench, worker: psutil.Process, log: Path) -> None:
    arrivals = bench.arrivals()
    deadline_s = time.monotonic() + 30
    while not arrivals.read()[0]:
        if processes.living_pid(worker) is None or time.monotonic() > deadline_s:
            raise Stuck(f"the baseline sends nothing: {processes.tail(log)}")
        time.sleep(0.1)


@contextmanager
def _peer(bench: Bench, baseline: Baseline) -> Iterator[tuple[Peer, list[int]]]:
    """A number, a database or a Redis of its own; yields also whose CPU its queue costs."""
    token, number = f"token-{baseline.module}", f"peer-{baseline.module}"
    bench.simulator.add_number(kind="meta", id=number, phone="5511900000000", token=token, limits={"mps": None})
    admin = bench.stack.backing.postgres_dsn_admin
    port = kept_port(bench.stack.folder.data, "redis")
    peer = Peer(bench.stack.addresses.simulator, number, token, in_database(admin, number), str(port))
    if not baseline.redis:
        asyncio.run(_make_database(admin, number))
        yield peer, [bench.pids()["postgres"]]
        return
    with running_redis(bench.stack.folder.data / number, port) as redis:
        yield peer, [redis.pid]


@contextmanager
def running_redis(folder: Path, port: int) -> Iterator[psutil.Process]:
    """One that writes what it was told to its file, fsync each second, as it comes."""
    folder.mkdir()
    words = ["redis-server", "--bind", "127.0.0.1", "--port", str(port), "--dir", str(folder), "--appendonly", "yes"]
    redis = processes.spawn(words, log=folder / "redis.log", die_with_parent=True)
    try:
        deadline_s = time.monotonic() + READY_WITHIN_S
        while not _listens(port):
            if processes.living_pid(redis) is None or time.monotonic() > deadline_s:
                raise Stuck(f"redis-server does not listen: {processes.tail(folder / 'redis.log')}")
            time.sleep(0.05)
        yield redis
    finally:
        processes.stop(redis, signal.SIGTERM, within_s=10.0)


def _listens(port: int) -> bool:
    with socket.socket() as probe:
        return probe.connect_ex(("127.0.0.1", port)) == 0


async def _make_database(admin: str, name: str) -> None:
    connection = await asyncpg.connect(admin)
    try:
        await connection.execute(f'CREATE DATABASE "{name}"')
    finally:
        await connection.close()


def spawn(baseline: Baseline, peer: Peer, log: Path) -> psutil.Process:
    words = [sys.executable, "-m", f"pombo.bench.baselines.{baseline.module}", "work"]
    environment = processes.inherited_environment(**peer.environment())
    return processes.spawn(words, log=log, env=environment, die_with_parent=True)


def command(baseline: Baseline, peer: Peer, log: Path, *arguments: str) -> str:
    done = subprocess.run(
        [sys.executable, "-m", f"pombo.bench.baselines.{baseline.module}", *arguments],
        env=processes.inherited_environment(**peer.environment()),
        capture_output=True,
        text=True,
        start_new_session=True,
        timeout=COMMAND_WITHIN_S,
        check=False,
    )
    if done.returncode != 0:
        raise Stuck(f"{baseline.module} {arguments[0]}: {done.stderr[-1000:]} (log: {log})")
    return done.stdout
