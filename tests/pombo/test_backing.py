"""Backing services: they start themselves, keep data and port, and say what is missing."""

import json
import os
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Awaitable, Callable, Iterator
from pathlib import Path

import asyncpg
import psutil
import pytest
from aiokafka import AIOKafkaConsumer, AIOKafkaProducer, TopicPartition
from aiokafka.admin import AIOKafkaAdminClient, NewTopic

from pombo.backing import (
    Backing,
    failures,
    postgres,
    postgres_server,
    start_backing,
    unprivileged,
)
from pombo.backing.outside import served


@pytest.fixture(scope="module")
def backing(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Backing]:
    """Both servers on a folder of their own: these tests stop and kill them."""
    with start_backing(tmp_path_factory.mktemp("backing"), mode="local", die_with_parent=True) as started:
        yield started
    started.postgres.remove()


@pytest.mark.postgres
@pytest.mark.parametrize("end", ["stop", "kill"])
async def test_postgres_keeps_rows_port_and_password_over(end: str, backing: Backing) -> None:
    dsn = backing.postgres_dsn_admin
    await _execute(dsn, f"CREATE TABLE kept_{end} AS SELECT 7 AS n")
    before = backing.postgres.pid

    getattr(backing.postgres, end)()
    assert backing.postgres.pid is None
    with pytest.raises(OSError, match="onnect"):
        await asyncpg.connect(dsn)
    backing.postgres.start()

    assert backing.postgres.pid != before
    assert backing.postgres_dsn_admin == dsn
    assert await _value(dsn, f"SELECT n FROM kept_{end}") == 7


@pytest.mark.kafka
@pytest.mark.parametrize("end", ["stop", "kill"])
async def test_kafka_keeps_records_and_port_over(end: str, backing: Backing) -> None:
    bootstrap = backing.kafka_bootstrap
    await _create_topic(bootstrap, f"kept-{end}")
    await _produce(bootstrap, f"kept-{end}", b"before")

    getattr(backing.kafka, end)()
    assert backing.kafka.pid is None
    backing.kafka.start()
    await _produce(bootstrap, f"kept-{end}", b"after")

    assert backing.kafka_bootstrap == bootstrap
    assert await _records(bootstrap, f"kept-{end}", count=2) == [b"before", b"after"]


@pytest.mark.kafka
async def test_a_group_can_commit_and_a_topic_is_never_made_by_a_typing_error(backing: Backing) -> None:
    bootstrap = backing.kafka_bootstrap
    await _create_topic(bootstrap, "committed")
    await _produce(bootstrap, "committed", b"one")
    consumer = AIOKafkaConsumer(
        "committed", bootstrap_servers=bootstrap, group_id="g", auto_offset_reset="earliest", enable_auto_commit=False
    )
    await consumer.start()
    try:
        await consumer.getone()
        await consumer.commit()
        assert await consumer.committed(TopicPartition("committed", 0)) == 1
    finally:
        await consumer.stop()
    admin = AIOKafkaAdminClient(bootstrap_servers=bootstrap)
    await admin.start()
    try:
        await admin.describe_topics(["no-such-topic"])
        assert "no-such-topic" not in await admin.list_topics()
    finally:
        await admin.close()


@pytest.mark.postgres
@pytest.mark.kafka
def test_processes_die_by_their_own_signal_and_start_again_is_enough(backing: Backing) -> None:
    pids = backing.pids
    assert set(pids) == {"kafka", "postgres"}
    for pid in pids.values():
        os.kill(pid, signal.SIGKILL)

    backing.postgres.start()
    backing.kafka.start()

    assert backing.pids.keys() == pids.keys()
    assert not set(backing.pids.values()) & set(pids.values())


@pytest.mark.postgres
def test_a_server_left_running_by_a_killed_runner_is_taken_over(tmp_path: Path) -> None:
    left = postgres_server(tmp_path, mode="local", die_with_parent=True)
    left.start()

    heir = postgres_server(tmp_path, mode="local")
    heir.start()
    try:
        assert heir.pid == left.pid
    finally:
        heir.stop()
        heir.remove()
    assert not psutil.pid_exists(left.pid or 0)


@pytest.mark.postgres
@pytest.mark.skipif(os.geteuid() != 0, reason="only root starts it as another user")
def test_root_with_closed_folders_starts_it_from_the_open_one(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    open_folder = Path(tempfile.mkdtemp(dir="/var/tmp"))
    open_folder.chmod(0o1777)
    monkeypatch.setattr(unprivileged, "OPEN_FOLDER", open_folder)
    monkeypatch.setattr(postgres, "OPEN_FOLDER", open_folder)
    monkeypatch.setattr(unprivileged, "reachable", lambda folder: False)
    monkeypatch.setattr(postgres, "reachable", lambda folder: False)
    server = postgres.LocalPostgres(tmp_path, die_with_parent=True)
    try:
        server.start()
        assert server.home.parent == open_folder
        assert psutil.Process(server.pid).username() == "nobody"
        assert str(open_folder) in psutil.Process(server.pid).exe()
    finally:
        server.stop()
        server.remove()
        shutil.rmtree(open_folder)


@pytest.mark.postgres
async def test_durability_is_on_and_only_this_machine_gets_in(backing: Backing) -> None:
    for name, value in {
        "fsync": "on",
        "synchronous_commit": "on",
        "listen_addresses": "127.0.0.1",
        "server_version_num": "18",
    }.items():
        assert str(await _value(backing.postgres_dsn_admin, f"SHOW {name}")).startswith(value)
    with pytest.raises(asyncpg.InvalidPasswordError):
        await asyncpg.connect(backing.postgres_dsn_admin.replace("postgres:", "postgres:x"))


@pytest.mark.postgres
def test_the_password_file_is_for_its_owner_only(backing: Backing) -> None:
    assert isinstance(backing.postgres, postgres.LocalPostgres)
    assert (backing.postgres.data_dir / "postgres.password").stat().st_mode & 0o777 == 0o600


@pytest.mark.postgres
@pytest.mark.kafka
def test_serve_prints_the_addresses_and_leaves_nothing_behind(tmp_path: Path) -> None:
    command = [sys.executable, "-m", "pombo.backing", "serve", "--dir", str(tmp_path), "--mode", "local"]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as serving:
        assert serving.stdout is not None
        addresses = json.loads(serving.stdout.readline())
        assert addresses["kafka_bootstrap"].startswith("127.0.0.1:")
        assert addresses["postgres_admin_dsn"].startswith("postgresql://postgres:")
        _wait_until((tmp_path / "addresses.json").exists)
        assert served(tmp_path)[0].bootstrap == addresses["kafka_bootstrap"]
        serving.send_signal(signal.SIGTERM)
        assert serving.wait(timeout=60) == 0
    assert not any(psutil.pid_exists(pid) for pid in addresses["pids"].values())
    with pytest.raises(failures.NotServed, match="serve --dir"):
        served(tmp_path)
    postgres_server(tmp_path, mode="local").remove()


@pytest.mark.postgres
@pytest.mark.skipif(shutil.which("setpriv") is None, reason="the kernel is asked through setpriv (Linux)")
def test_servers_of_a_killed_test_session_end_with_it(tmp_path: Path) -> None:
    program = (
        "import pathlib, sys, time; from pombo.backing import postgres_server\n"
        "server = postgres_server(pathlib.Path(sys.argv[1]), mode='local', die_with_parent=True)\n"
        "server.start(); print(server.pid, flush=True); time.sleep(600)"
    )
    with subprocess.Popen([sys.executable, "-c", program, str(tmp_path)], stdout=subprocess.PIPE, text=True) as session:
        assert session.stdout is not None
        pid = int(session.stdout.readline())
        session.kill()
        _wait_until(lambda: not psutil.pid_exists(pid))
    postgres_server(tmp_path, mode="local").remove()


def _wait_until(condition: Callable[[], bool], *, within_s: float = 20.0) -> None:
    deadline = time.monotonic() + within_s
    while not condition():
        assert time.monotonic() < deadline, "not within the deadline"
        time.sleep(0.05)


async def _execute(dsn: str, statement: str) -> None:
    await _connected(dsn, lambda connection: connection.execute(statement))


async def _value(dsn: str, query: str, *arguments: object) -> object:
    return await _connected(dsn, lambda connection: connection.fetchval(query, *arguments))


async def _connected(dsn: str, act: Callable[[asyncpg.Connection], Awaitable[object]]) -> object:
    connection = await asyncpg.connect(dsn)
    try:
        return await act(connection)
    finally:
        await connection.close()


async def _create_topic(bootstrap: str, topic: str) -> None:
    admin = AIOKafkaAdminClient(bootstrap_servers=bootstrap)
    await admin.start()
    try:
        await admin.create_topics([NewTopic(topic, num_partitions=1, replication_factor=1)])
    finally:
        await admin.close()


async def _produce(bootstrap: str, topic: str, value: bytes) -> None:
    async with AIOKafkaProducer(bootstrap_servers=bootstrap, acks="all") as producer:
        await producer.send_and_wait(topic, value)


async def _records(bootstrap: str, topic: str, *, count: int) -> list[bytes]:
    consumer = AIOKafkaConsumer(topic, bootstrap_servers=bootstrap, auto_offset_reset="earliest")
    await consumer.start()
    try:
        return [(await consumer.getone()).value for _ in range(count)]
    finally:
        await consumer.stop()
