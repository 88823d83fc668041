"""The models of Kafka and PostgreSQL are held to the real ones: each test here runs on both."""

import asyncio
from collections.abc import AsyncIterator
from dataclasses import dataclass
from datetime import UTC, datetime
from random import Random
from typing import Any, Protocol
from uuid import UUID, uuid4

import asyncpg
import pytest
from aiokafka import AIOKafkaConsumer, AIOKafkaProducer, TopicPartition
from aiokafka.admin import AIOKafkaAdminClient, NewTopic

from chassis.inbox import create_offsets
from chassis.outbox import create_outbox
from contracts import topics
from contracts.changes import ViewChanged
from contracts.envelope import Envelope
from pombo.backing import Database as RealDatabase
from simulation.clock import Loop, Process, Steps
from simulation.drivers import unmarked
from simulation.kafka import Kafka
from simulation.postgres import Database, OutboxRow, Transaction

WAIT_S = 0.5


class Connection(Protocol):
    """One connection with a transaction open."""

    async def read(self, key: str) -> int | None: ...
    async def write(self, key: str, value: int) -> None: ...
    async def lock(self, key: str, *, share: bool = False) -> bool:
        """False: it still waits; it is granted when the holder's transaction ends."""

    async def try_lock(self, key: str) -> bool: ...
    async def append(self, name: str) -> None:
        """A row of the outbox."""

    async def commit(self) -> None: ...
    async def roll_back(self) -> None: ...


class Store(Protocol):
    async def begin(self) -> Connection: ...
    async def unpublished(self) -> list[str]: ...
    async def mark(self, names: list[str]) -> None: ...


@dataclass
class ModelConnection:
    store: "ModelStore"
    transaction: Transaction

    async def read(self, key: str) -> int | None:
        found: int | None = self.transaction.read("s.thing", key)
        return found

    async def write(self, key: str, value: int) -> None:
        self.transaction.write("s.thing", key, value)

    async def lock(self, key: str, *, share: bool = False) -> bool:
        return self.store.do(self.transaction.lock("s.thing", key, share=share))

    async def try_lock(self, key: str) -> bool:
        return self.transaction.try_lock("s.thing", key)

    async def append(self, name: str) -> None:
        self.transaction.append("s", [name])  # type: ignore[list-item]

    async def commit(self) -> None:
        assert self.store.do(self.transaction.commit())

    async def roll_back(self) -> None:
        self.transaction.roll_back()
        self.store.loop.run(self.store.loop.now + WAIT_S, 1000)


class ModelStore:
    def __init__(self) -> None:
        self.loop = Loop(Random(1))
        self.database = Database(self.loop)
        self.process = Process("test", self.loop, lambda _: [])

    def do(self, steps: Steps[None]) -> bool:
        task = self.process.spawn(steps)
        self.loop.run(self.loop.now + WAIT_S, 1_000_000)
        return task.done

    async def begin(self) -> Connection:
        return ModelConnection(self, self.database.begin(self.process))

    async def unpublished(self) -> list[str]:
        return [str(row.record) for _, row in unmarked(self.database, "s.outbox")]

    async def mark(self, names: list[str]) -> None:
        transaction = self.database.begin(self.process)
        for position, row in unmarked(self.database, "s.outbox"):
            if str(row.record) in names:
                transaction.write("s.outbox", position, OutboxRow(row.record, published=True))
        assert self.do(transaction.commit())


@dataclass
class RealConnection:
    raw: asyncpg.Connection
    waiting: asyncio.Task[Any] | None = None

    async def _run(self, statement: str, *arguments: Any) -> Any:
        if self.waiting is not None:
            await self.waiting
        return await self.raw.fetchval(statement, *arguments)

    async def read(self, key: str) -> int | None:
        found: int | None = await self._run("SELECT value FROM thing WHERE key = $1", key)
        return found

    async def write(self, key: str, value: int) -> None:
        await self._run(
            "INSERT INTO thing VALUES ($1, $2) ON CONFLICT (key) DO UPDATE SET value = excluded.value", key, value
        )

    async def lock(self, key: str, *, share: bool = False) -> bool:
        mode = "SHARE" if share else "UPDATE"
        self.waiting = asyncio.create_task(self.raw.fetchval(f"SELECT 1 FROM thing WHERE key = $1 FOR {mode}", key))
        done, _ = await asyncio.wait([self.waiting], timeout=WAIT_S)
        return bool(done)

    async def try_lock(self, key: str) -> bool:
        found = await self._run("SELECT 1 FROM thing WHERE key = $1 FOR UPDATE SKIP LOCKED", key)
        return found is not None

    async def append(self, name: str) -> None:
        await self._run(
            "INSERT INTO outbox (id, topic, key, headers, value) VALUES ($1, $2, NULL, '{}', '')", uuid4(), name
        )

    async def commit(self) -> None:
        await self._run("COMMIT")

    async def roll_back(self) -> None:
        await self._run("ROLLBACK")


class RealStore:
    def __init__(self, dsn: str) -> None:
        self.dsn = dsn
        self.open: list[asyncpg.Connection] = []

    async def connect(self) -> asyncpg.Connection:
        self.open.append(await asyncpg.connect(self.dsn))
        return self.open[-1]

    async def begin(self) -> Connection:
        raw = await self.connect()
        await raw.execute("BEGIN")
        return RealConnection(raw)

    async def unpublished(self) -> list[str]:
        rows = await self.open[0].fetch("SELECT topic FROM outbox WHERE published_at IS NULL ORDER BY position")
        return [row["topic"] for row in rows]

    async def mark(self, names: list[str]) -> None:
        await self.open[0].execute("UPDATE outbox SET published_at = now() WHERE topic = ANY($1)", names)


@pytest.fixture(params=["model", pytest.param("real", marks=pytest.mark.postgres)])
async def store(request: pytest.FixtureRequest) -> AsyncIterator[Store]:
    if request.param == "model":
        yield ModelStore()
        return
    database: RealDatabase = request.getfixturevalue("database")
    real = RealStore(database.admin_dsn)
    setup = await real.connect()
    for statement in ("CREATE TABLE thing (key text PRIMARY KEY, value int)", *create_outbox(), *create_offsets()):
        await setup.execute(statement)
    yield real
    for connection in real.open:
        connection.terminate()


async def given(store: Store, **values: int) -> None:
    connection = await store.begin()
    for key, value in values.items():
        await connection.write(key, value)
    await connection.commit()


async def test_a_transaction_is_seen_wholly_or_not_at_all(store: Store) -> None:
    one, other = await store.begin(), await store.begin()
    await one.write("a", 1)
    await one.write("b", 2)
    assert (await one.read("a"), await other.read("a")) == (1, None)
    await one.commit()
    assert (await other.read("a"), await other.read("b")) == (1, 2)
    undone = await store.begin()
    await undone.write("a", 9)
    await undone.roll_back()
    assert await other.read("a") == 1


async def test_shared_locks_go_together_and_a_writer_waits_for_all(store: Store) -> None:
    await given(store, gate=0)
    one, other, closing = await store.begin(), await store.begin(), await store.begin()
    assert await one.lock("gate", share=True)
    assert await other.lock("gate", share=True)
    assert not await closing.lock("gate")
    await one.commit()
    await other.commit()
    await closing.write("gate", 1)
    await closing.commit()
    assert await (await store.begin()).read("gate") == 1


async def test_who_waited_for_a_lock_sees_what_the_holder_wrote(store: Store) -> None:
    """The compare-and-set of offsets: the second finds that the offset has moved."""
    await given(store, offset=5)
    one, other = await store.begin(), await store.begin()
    assert await one.lock("offset")
    assert not await other.lock("offset")
    await one.write("offset", 6)
    await one.commit()
    assert await other.read("offset") == 6
    await other.roll_back()


async def test_a_rolled_back_holder_frees_its_locks(store: Store) -> None:
    await given(store, lane=0)
    one, other = await store.begin(), await store.begin()
    assert await one.lock("lane")
    assert not await other.try_lock("lane")
    await one.roll_back()
    assert await other.try_lock("lane")
    await other.commit()


async def test_what_commits_late_is_still_unmarked(store: Store) -> None:
    """Positions are given before the commit: reading by the last position seen would lose the first row."""
    await given(store)
    early, late = await store.begin(), await store.begin()
    await early.append("first")
    await late.append("second")
    await late.commit()
    assert await store.unpublished() == ["second"]
    await store.mark(["second"])
    await early.commit()
    assert await store.unpublished() == ["first"]


class Broker(Protocol):
    async def publish(self, keyed: list[tuple[str, str]]) -> None: ...
    async def read(self, member: str, group: str, most: int, *, commit: bool) -> list[tuple[int, str, str]]:
        """(partition, key, value) from the committed offsets on, in the order of each partition."""


class ModelBroker:
    def __init__(self) -> None:
        self.store = ModelStore()
        self.kafka = Kafka(self.store.loop)
        self.values: dict[UUID, str] = {}

    async def publish(self, keyed: list[tuple[str, str]]) -> None:
        for key, value in keyed:
            event = ViewChanged(view="message", id=UUID(int=1))
            envelope = Envelope(uuid4(), "ViewChanged", 1, "test", key, datetime.now(UTC))
            self.values[envelope.id] = value
            self.kafka.append(topics.CHANGES.name, key, envelope, event)

    async def read(self, member: str, group: str, most: int, *, commit: bool) -> list[tuple[int, str, str]]:
        process = Process(member, self.store.loop, lambda _: [])
        joined = self.kafka.join(group, process, [topics.CHANGES])
        found: list[tuple[int, str, str]] = []
        offsets = {}
        for place in joined.assigned():
            for record in self.kafka.read(place, joined.group.committed[place], most - len(found)):
                found.append((record.partition, str(record.key), self.values[record.envelope.id]))
                offsets[place] = record.offset + 1
        if commit:
            joined.commit(offsets)
        joined.group.expel(joined.name)
        return found


class RealBroker:
    def __init__(self, bootstrap: str) -> None:
        self.bootstrap, self.topic = bootstrap, f"contract-{uuid4()}"

    async def publish(self, keyed: list[tuple[str, str]]) -> None:
        admin = AIOKafkaAdminClient(bootstrap_servers=self.bootstrap)
        await admin.start()
        await admin.create_topics([NewTopic(self.topic, num_partitions=2, replication_factor=1)])
        await admin.close()
        async with AIOKafkaProducer(bootstrap_servers=self.bootstrap, enable_idempotence=True) as producer:
            for key, value in keyed:
                await producer.send_and_wait(self.topic, value.encode(), key.encode())

    async def read(self, member: str, group: str, most: int, *, commit: bool) -> list[tuple[int, str, str]]:
        consumer = AIOKafkaConsumer(
            self.topic, bootstrap_servers=self.bootstrap, group_id=f"{group}-{self.topic}", client_id=member,
            enable_auto_commit=False, auto_offset_reset="earliest",
        )  # fmt: skip
        found: list[tuple[int, str, str]] = []
        offsets: dict[TopicPartition, int] = {}
        await consumer.start()
        try:
            for _ in range(20):
                for place, records in (await consumer.getmany(timeout_ms=500, max_records=most - len(found))).items():
                    for record in records:
                        found.append((record.partition, record.key.decode(), record.value.decode()))
                        offsets[place] = record.offset + 1
                if len(found) == most:
                    break
            if commit:
                await consumer.commit(offsets)
        finally:
            await consumer.stop()
        return found


@pytest.fixture(params=["model", pytest.param("real", marks=pytest.mark.kafka)])
def broker(request: pytest.FixtureRequest) -> Broker:
    return ModelBroker() if request.param == "model" else RealBroker(request.getfixturevalue("kafka_bootstrap"))


KEYED = [("a", "1"), ("b", "1"), ("a", "2"), ("c", "1"), ("b", "2"), ("a", "3")]


async def test_a_key_has_one_partition_and_its_records_their_order(broker: Broker) -> None:
    await broker.publish(KEYED)
    found = await broker.read("one", "g", len(KEYED), commit=False)
    for key in "abc":
        assert [value for _, of, value in found if of == key] == [value for of, value in KEYED if of == key]
        assert len({partition for partition, of, _ in found if of == key}) == 1


async def test_what_was_not_committed_is_read_again_by_the_next_member(broker: Broker) -> None:
    await broker.publish(KEYED)
    first = await broker.read("one", "g", 2, commit=True)
    second = await broker.read("two", "g", 3, commit=False)
    third = await broker.read("three", "g", 4, commit=True)
    assert sorted(first + third) == sorted((p, k, v) for p, k, v in await broker.read("all", "other", 6, commit=False))
    assert set(second) <= set(third)
