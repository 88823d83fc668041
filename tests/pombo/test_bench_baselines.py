"""Each baseline sends what it was given, through the real simulator, PostgreSQL or Redis."""

import asyncio
import signal
from collections.abc import AsyncIterator, Iterator
from contextlib import contextmanager, nullcontext
from pathlib import Path

import pytest

from backing import MakeDatabase
from pombo.backing import Database, processes
from pombo.backing.folders import kept_port
from pombo.bench.baselines.comparing import BASELINES, Baseline, command, missing, running_redis, spawn
from pombo.bench.baselines.provider import Peer
from simulated_providers import Simulator, eventually, simulator

NUMBER = "peer"
PEOPLE = 15


@pytest.fixture
async def provider(tmp_path: Path) -> AsyncIterator[Simulator]:
    number = {"kind": "meta", "id": NUMBER, "phone": "5511900000000", "token": "token", "limits": {"mps": None}}
    async with simulator(tmp_path, {"numbers": [number]}) as running:
        yield running


@contextmanager
def queue_of(baseline: Baseline, folder: Path) -> Iterator[int]:
    """The port of its Redis, where it has one."""
    port = kept_port(folder, "redis")
    with running_redis(folder / "redis", port) if baseline.redis else nullcontext():
        yield port


def nothing(_: Database) -> None:
    """No migration."""


@pytest.mark.postgres
@pytest.mark.parametrize("baseline", BASELINES, ids=lambda baseline: baseline.module)
async def test_a_baseline_sends_everybody_once(
    baseline: Baseline, provider: Simulator, database_factory: MakeDatabase, tmp_path: Path
) -> None:
    if (why := missing(baseline)) is not None:
        pytest.skip(why)
    database = database_factory(nothing)
    with queue_of(baseline, tmp_path) as port:
        peer = Peer(provider.url, NUMBER, "token", database.admin_dsn, str(port))
        log = tmp_path / "peer.log"
        assert await asyncio.to_thread(command, baseline, peer, log, "prepare", str(PEOPLE)) == ""
        assert int(await asyncio.to_thread(command, baseline, peer, log, "waiting")) == PEOPLE
        worker = spawn(baseline, peer, log)
        try:
            await eventually(lambda: len(provider.lines("request_closed", how="answered")) >= PEOPLE)
            await eventually(lambda: int(command(baseline, peer, log, "waiting")) == 0)
        finally:
            processes.stop(worker, signal.SIGKILL, within_s=5)
        sends = provider.lines("request_open")
        assert len(sends) == len({send["person"] for send in sends}) == PEOPLE
        assert all(send["accepted"] for send in sends)
