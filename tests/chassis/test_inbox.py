"""chassis.inbox: each record takes effect once, in order, whatever dies, moves or cannot be read."""

import asyncio
import sys
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from contextlib import asynccontextmanager
from functools import partial
from typing import cast
from uuid import uuid4

import asyncpg
import pytest
from aiokafka import AIOKafkaConsumer, TopicPartition
from aiokafka.admin import AIOKafkaAdminClient, RecordsToDelete
from sqlalchemy.ext.asyncio import AsyncConnection

from chassis import inbox
from chassis.database import driver
from chassis.health import Readiness
from chassis.inbox import Subscription, TooManyParked, consume
from chassis.kafka import Encoded, Producer, Received, encoded, ensure_topics
from chassis.lifecycle import stop_client
from chassis.settings import KafkaSettings
from chassis_parts import Service, fresh_topic, hold, kafka_settings, operation, service, started, until
from contracts.operations import HoldSet
from contracts.topics import PARKED, Topic
from pombo import backing

pytestmark = [pytest.mark.postgres, pytest.mark.kafka]
# No key: a record that takes effect twice is seen as two rows.
EFFECT = "CREATE TABLE effect (nth bigint GENERATED ALWAYS AS IDENTITY, topic text, key text, version int, by text)"

Handle = Callable[[AsyncConnection, Sequence[Received]], Awaitable[None]]


@pytest.fixture
async def settings(kafka_bootstrap: str) -> KafkaSettings:
    settings = kafka_settings(kafka_bootstrap)
    await ensure_topics(settings, [PARKED])
    return settings


@pytest.fixture
async def topic(settings: KafkaSettings) -> Topic:
    return await fresh_topic(settings)


def subscription(*topics: Topic, group: str | None = None, batch_max: int = 500) -> Subscription:
    return Subscription(group or f"tests-{uuid4()}", topics, (HoldSet,), batch_max=batch_max, linger_ms=0)


def record(by: str = "") -> Handle:
    """A handler that writes down what it was given."""

    async def handle(connection: AsyncConnection, batch: Sequence[Received]) -> None:
        rows = [(r.topic, r.key, r.event.version, by) for r in batch if isinstance(r.event, HoldSet)]
        await (await driver(connection)).executemany(
            "INSERT INTO effect (topic, key, version, by) VALUES ($1, $2, $3, $4)", rows
        )

    return handle


@asynccontextmanager
async def consuming(
    s: Service, settings: KafkaSettings, producer: Producer, sub: Subscription, handle: Handle, **more: object
) -> AsyncIterator[None]:
    stopping = asyncio.Event()
    async with asyncio.TaskGroup() as tasks:
        tasks.create_task(
            consume(
                sub,
                settings=settings,
                database=s.database,
                producer=producer,
                handle=handle,
                stopping=stopping,
                **more,  # type: ignore[arg-type]
            )
        )
        try:
            yield
        finally:
            stopping.set()


async def effects(s: Service, key: str) -> list[int]:
    found = await s.value("SELECT coalesce(array_agg(version ORDER BY nth), '{}') FROM effect WHERE key = $1", key)
    return cast(list[int], found)


async def until_effects(s: Service, count: int, deadline_s: float = 30) -> None:
    await until(partial(_has_all, s, count), deadline_s=deadline_s)


async def parked_of(settings: KafkaSettings, group: str) -> list[dict[str, bytes]]:
    consumer = AIOKafkaConsumer(bootstrap_servers=settings.bootstrap, auto_offset_reset="earliest")
    await consumer.start()
    try:
        partitions = [TopicPartition(PARKED.name, n) for n in range(PARKED.partitions)]
        consumer.assign(partitions)
        ends = await consumer.end_offsets(partitions)
        found: list[dict[str, bytes]] = []
        for partition in partitions:
            while await consumer.position(partition) < ends[partition]:
                for fetched in (await consumer.getmany(partition, timeout_ms=500)).values():
                    found += [{**dict(one.headers), "value": one.value} for one in fetched]
        return [one for one in found if one["parked_group"].decode() == group]
    finally:
        await stop_client(consumer)


async def test_every_record_takes_effect_once_and_in_order(
    database: backing.Database, settings: KafkaSettings, topic: Topic
) -> None:
    other = await fresh_topic(settings)
    async with service(database, EFFECT) as s, started(settings) as producer:
        await producer.publish([hold(t, key, n) for n in range(300) for t in (topic, other) for key in "abc"])
        async with consuming(s, settings, producer, subscription(topic, other, batch_max=70), record()):
            await until_effects(s, 1800)
        for key in "abc":
            for t in (topic, other):
                query = "SELECT array_agg(version ORDER BY nth) FROM effect WHERE key = $1 AND topic = $2"
                assert await s.value(query, key, t.name) == list(range(300))


async def test_a_type_that_is_not_handled_is_passed_over(
    database: backing.Database, settings: KafkaSettings, topic: Topic
) -> None:
    sub = subscription(topic)
    async with service(database, EFFECT) as s, started(settings) as producer:
        await producer.publish([operation(topic, "a", "x"), hold(topic, "a", 1), operation(topic, "a", "y")])
        async with consuming(s, settings, producer, sub, record()):
            await until(lambda: _offsets_sum_to(s, sub, 3))
        assert await effects(s, "a") == [1]
        assert await parked_of(settings, sub.group) == []


async def test_it_goes_on_where_it_stopped_whatever_kafka_believes(
    database: backing.Database, settings: KafkaSettings, topic: Topic
) -> None:
    sub = subscription(topic)
    async with service(database, EFFECT) as s, started(settings) as producer:
        await producer.publish([hold(topic, "a", 1)])
        async with consuming(s, settings, producer, sub, record()):
            await until_effects(s, 1)
        await _commit_the_start(settings, sub.group, topic)
        await producer.publish([hold(topic, "a", 2)])
        async with consuming(s, settings, producer, sub, record()):
            await until_effects(s, 2)
        assert await effects(s, "a") == [1, 2]


async def test_a_batch_that_fails_leaves_neither_effect_nor_offset(
    database: backing.Database, settings: KafkaSettings, topic: Topic
) -> None:
    """The handler writes and then loses its connection, as in a crash of the database, three times."""
    attempts = 0

    async def handle(connection: AsyncConnection, batch: Sequence[Received]) -> None:
        nonlocal attempts
        await record()(connection, batch)
        attempts += 1
        if attempts <= 3:
            await (await driver(connection)).execute("SELECT pg_terminate_backend(pg_backend_pid())")

    sub = subscription(topic)
    async with service(database, EFFECT) as s, started(settings) as producer:
        await producer.publish([hold(topic, "a", n) for n in range(20)])
        async with consuming(s, settings, producer, sub, handle):
            await until_effects(s, 20)
        assert await effects(s, "a") == list(range(20))
        assert await parked_of(settings, sub.group) == []  # an outage is nobody's poison


class TestPoison:
    async def test_records_that_cannot_be_read_are_parked_with_their_bytes_and_the_rest_goes_on(
        self, database: backing.Database, settings: KafkaSettings, topic: Topic
    ) -> None:
        sub = subscription(topic)
        good = encoded(hold(topic, "a", 1))
        unknown = Encoded(topic.name, b"a", b'{"x":1}', _retyped(good, b"NeverHeardOf"))
        broken = Encoded(topic.name, b"a", b'{"scope":', good.headers)
        bare = Encoded(topic.name, b"a", b"no headers", [])
        empty = Encoded(topic.name, b"a", b"", good.headers)
        async with service(database, EFFECT) as s, started(settings) as producer:
            await producer.publish_encoded([good, unknown, broken, bare, empty])
            await producer.publish([hold(topic, "a", 2)])
            async with consuming(s, settings, producer, sub, record()):
                await until_effects(s, 2)
            parked = await parked_of(settings, sub.group)
        assert sorted(one["value"] for one in parked) == sorted([unknown.value, broken.value, bare.value, b""])
        reasons = {one["value"]: one["parked_reason"].decode() for one in parked}
        assert reasons[unknown.value].startswith("UnknownType")
        assert reasons[broken.value].startswith("Undecodable")
        assert reasons[bare.value].startswith("UnreadableEnvelope")
        by_value = {one["value"]: one for one in parked}
        assert by_value[unknown.value]["ce_type"] == b"NeverHeardOf"  # the original headers are there as well
        assert by_value[unknown.value]["parked_topic"] == topic.name.encode()

    async def test_a_record_that_the_handler_refuses_is_found_in_its_batch_and_parked_alone(
        self, database: backing.Database, settings: KafkaSettings, topic: Topic
    ) -> None:
        seen_alone = 0

        async def handle(connection: AsyncConnection, batch: Sequence[Received]) -> None:
            nonlocal seen_alone
            await record()(connection, batch)
            if any(r.event.version == 13 for r in batch):  # type: ignore[attr-defined]
                seen_alone += len(batch) == 1
                raise RuntimeError("unlucky")

        sub = subscription(topic)
        async with service(database, EFFECT) as s, started(settings) as producer:
            await producer.publish([hold(topic, "a", n) for n in range(40)])
            async with consuming(s, settings, producer, sub, handle):
                await until_effects(s, 39)
            assert await effects(s, "a") == [n for n in range(40) if n != 13]
            assert seen_alone >= inbox.TRIES  # more where the machine stood so long that the group began anew
            (parked,) = await parked_of(settings, sub.group)
        assert parked["parked_reason"] == b"RuntimeError: unlucky"

    async def test_a_row_of_failures_stops_the_consumer_instead_of_parking_everything(
        self, database: backing.Database, settings: KafkaSettings, topic: Topic
    ) -> None:
        sub = subscription(topic)
        async with service(database, EFFECT) as s, started(settings) as producer:
            await producer.publish_encoded([Encoded(topic.name, b"a", b"?", [])] * 120)
            with pytest.raises(ExceptionGroup) as stopped:
                async with consuming(s, settings, producer, sub, record()):
                    await asyncio.sleep(30)
            assert stopped.group_contains(TooManyParked)
            assert len(await parked_of(settings, sub.group)) == inbox.PARKED_IN_A_ROW_MAX


class TestZombies:
    async def test_a_consumer_that_lost_its_partitions_cannot_apply_its_batch(
        self, database: backing.Database, settings: KafkaSettings, topic: Topic
    ) -> None:
        """It stands still inside its handler; the offset moves meanwhile, as if another one had taken over."""
        inside, go_on = asyncio.Event(), asyncio.Event()
        sub = subscription(topic)

        async def slow(connection: AsyncConnection, batch: Sequence[Received]) -> None:
            if not inside.is_set():
                inside.set()
                await go_on.wait()
            await record("zombie")(connection, batch)

        async with service(database, EFFECT) as s, started(settings) as producer:
            await producer.publish([hold(topic, "a", 1)])
            async with consuming(s, settings, producer, sub, slow):
                await asyncio.wait_for(inside.wait(), 20)
                await _end_transactions(s)  # the database took its transaction back
                async with s.database.transaction() as connection:
                    await (await driver(connection)).execute(
                        "UPDATE consumer_offset SET next_offset = next_offset + 1"
                        " WHERE next_offset = 0 AND partition = $1",
                        await _partition_with_records(settings, topic),
                    )
                go_on.set()
                await producer.publish([hold(topic, "a", 2)])
                await until_effects(s, 1)
            assert await effects(s, "a") == [2]

    async def test_members_come_and_go_and_nothing_is_lost_doubled_or_reordered(
        self, database: backing.Database, settings: KafkaSettings, topic: Topic
    ) -> None:
        sub = subscription(topic, batch_max=20)
        async with service(database, EFFECT) as s, started(settings) as producer:
            written, enough = 0, asyncio.Event()

            async def write() -> None:
                nonlocal written
                while not enough.is_set():
                    await producer.publish([hold(topic, key, written) for key in "abcdef"])
                    written += 1

            async with asyncio.TaskGroup() as tasks, consuming(s, settings, producer, sub, record("1")):
                tasks.create_task(write())
                await until_effects(s, 100)
                for name in ("2", "3"):
                    async with consuming(s, settings, producer, sub, record(name)):
                        await until(partial(_has_worked, s, name))
                enough.set()
                await until(lambda: _has_all(s, written * 6), deadline_s=60)
            for key in "abcdef":
                assert await effects(s, key) == list(range(written))

    @pytest.mark.parametrize("crash_at", ["inbox_handled:2", "inbox_committed:2"])
    async def test_killed_around_its_commit_it_neither_loses_nor_doubles(
        self, crash_at: str, database: backing.Database, settings: KafkaSettings, topic: Topic
    ) -> None:
        sub = subscription(topic, batch_max=10)
        async with service(database, EFFECT) as s, started(settings) as producer:
            await producer.publish([hold(topic, "a", n) for n in range(50)])
            process = await _consumer_process(s, settings, topic, sub.group, crash_at)
            assert await asyncio.wait_for(process.wait(), 30) == 137
            async with consuming(s, settings, producer, sub, record()):
                await until_effects(s, 50)
            assert await effects(s, "a") == list(range(50))


async def test_it_is_ready_once_it_has_its_partitions_and_calls_after_when_something_was_applied(
    database: backing.Database, settings: KafkaSettings, topic: Topic
) -> None:
    ready, called = Readiness(), 0
    sub = subscription(topic)

    async def after() -> None:
        nonlocal called
        called += 1
        assert await s.value("SELECT count(*) FROM effect") == 1  # committed by then

    async with service(database, EFFECT) as s, started(settings) as producer:
        async with consuming(s, settings, producer, sub, record(), ready=ready, after=after):
            await until(lambda: ready.report() == {f"inbox {sub.group}": True})
            await producer.publish([hold(topic, "a", 1)])
            await until(lambda: called == 1)
        assert ready.report() == {f"inbox {sub.group}": False}


async def test_a_topic_that_was_made_anew_is_read_from_its_start(
    database: backing.Database, settings: KafkaSettings, topic: Topic
) -> None:
    sub = subscription(topic)
    async with service(database, EFFECT) as s, started(settings) as producer:
        async with s.database.transaction() as connection:
            await (await driver(connection)).executemany(
                "INSERT INTO consumer_offset VALUES ($1, $2, $3, 1000)",
                [(sub.group, topic.name, partition) for partition in range(3)],
            )
        await producer.publish([hold(topic, "a", 1)])
        async with consuming(s, settings, producer, sub, record()):
            await until_effects(s, 1)


async def test_records_that_retention_removed_are_not_waited_for(
    database: backing.Database, settings: KafkaSettings, topic: Topic
) -> None:
    sub = subscription(topic)
    async with service(database, EFFECT) as s, started(settings) as producer:
        await producer.publish([hold(topic, "a", n) for n in range(10)])
        admin = AIOKafkaAdminClient(bootstrap_servers=settings.bootstrap)
        await admin.start()
        partition = await _partition_with_records(settings, topic)
        await admin.delete_records({TopicPartition(topic.name, partition): RecordsToDelete(before_offset=7)})
        await admin.close()
        async with consuming(s, settings, producer, sub, record()):
            await until_effects(s, 3)
        assert await effects(s, "a") == [7, 8, 9]


async def _commit_the_start(settings: KafkaSettings, group: str, topic: Topic) -> None:
    consumer = AIOKafkaConsumer(bootstrap_servers=settings.bootstrap, group_id=group, enable_auto_commit=False)
    await consumer.start()
    try:
        partitions = [TopicPartition(topic.name, n) for n in range(3)]
        consumer.assign(partitions)
        await consumer.commit(dict.fromkeys(partitions, 0))
    finally:
        await stop_client(consumer)


def _retyped(record_: Encoded, ce_type: bytes) -> list[tuple[str, bytes]]:
    return [(name, ce_type if name == "ce_type" else value) for name, value in record_.headers]


async def _has_worked(s: Service, name: str) -> bool:
    return bool(await s.value("SELECT count(*) > 0 FROM effect WHERE by = $1", name))


async def _has_all(s: Service, count: int) -> bool:
    return bool(await s.value("SELECT count(*) >= $1 FROM effect", count))


async def _offsets_sum_to(s: Service, sub: Subscription, total: int) -> bool:
    return await s.value("SELECT sum(next_offset) FROM consumer_offset WHERE consumer_group = $1", sub.group) == total


async def _partition_with_records(settings: KafkaSettings, topic: Topic) -> int:
    consumer = AIOKafkaConsumer(bootstrap_servers=settings.bootstrap)
    await consumer.start()
    try:
        ends = await consumer.end_offsets([TopicPartition(topic.name, n) for n in range(3)])
    finally:
        await stop_client(consumer)
    return next(int(partition.partition) for partition, end in ends.items() if end > 0)


async def _end_transactions(s: Service) -> None:
    admin = await asyncpg.connect(s.admin_dsn)
    await admin.execute(
        "SELECT pg_terminate_backend(pid) FROM pg_stat_activity"
        " WHERE datname = current_database() AND state = 'idle in transaction'"
    )
    await admin.close()


async def _consumer_process(
    s: Service, settings: KafkaSettings, topic: Topic, group: str, crash_at: str
) -> asyncio.subprocess.Process:
    program = """
import asyncio, sys
from dataclasses import replace
from pydantic import SecretStr
from chassis.database import Database, driver
from chassis.inbox import Subscription, consume
from chassis.kafka import Producer
from chassis.settings import KafkaSettings, PostgresSettings
from contracts.operations import HoldSet
from contracts.topics import OPERATIONS

async def handle(connection, batch):
    await (await driver(connection)).executemany(
        "INSERT INTO effect (key, version) VALUES ($1, $2)", [(r.key, r.event.version) for r in batch])

async def main(dsn, bootstrap, topic, group):
    settings = KafkaSettings(bootstrap=bootstrap, session_timeout_ms=1500)
    database = Database.connect(PostgresSettings(dsn=SecretStr(dsn)), schema="sender", application_name="consumer")
    subscription = Subscription(group, (replace(OPERATIONS, name=topic),), (HoldSet,), batch_max=10)
    await consume(subscription, settings=settings, database=database, producer=Producer(settings), handle=handle,
                  stopping=asyncio.Event())

asyncio.run(main(*sys.argv[1:]))
"""
    return await asyncio.create_subprocess_exec(
        sys.executable,
        "-c",
        program,
        s.worker_dsn,
        settings.bootstrap,
        topic.name,
        group,
        env={"CRASH_AT": crash_at, "TEST_MODE": "true"},
    )
