"""chassis.outbox: rows leave in order, at least once, and none is ever passed over."""

import asyncio
import signal
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from functools import partial

import asyncpg
import pytest
from aiokafka import AIOKafkaConsumer, TopicPartition

from chassis.database import driver, is_passing
from chassis.kafka import RECORD_BYTES_MAX, Outgoing, Producer, Received, TooLarge, received
from chassis.lifecycle import stop_client
from chassis.outbox import append, relay
from chassis.settings import KafkaSettings
from chassis_parts import (
    SCHEMA,
    Service,
    fresh_topic,
    hold,
    kafka_settings,
    operation,
    service,
    started,
    until,
)
from contracts.topics import Topic
from pombo import backing

pytestmark = [pytest.mark.postgres, pytest.mark.kafka]
STREAM = "CREATE TABLE stream (id text, version int, PRIMARY KEY (id, version))"


@pytest.fixture
def settings(kafka_bootstrap: str) -> KafkaSettings:
    return kafka_settings(kafka_bootstrap)


@pytest.fixture
async def topic(settings: KafkaSettings) -> Topic:
    return await fresh_topic(settings)


@asynccontextmanager
async def relaying(s: Service, producer: Producer, *, poll_s: float = 0.2, keep_s: float = 3600) -> AsyncIterator[None]:
    stopping = asyncio.Event()
    async with asyncio.TaskGroup() as tasks:
        tasks.create_task(
            relay(
                s.database,
                producer,
                schema=SCHEMA,
                dsn=s.worker_dsn,
                stopping=stopping,
                poll_s=poll_s,
                keep_s=keep_s,
            )
        )
        try:
            yield
        finally:
            stopping.set()


async def write(s: Service, *records: Outgoing) -> None:
    async with s.database.transaction() as connection:
        await append(connection, records)


async def write_again_if_cut(s: Service, record: Outgoing) -> None:
    """Each of the pool's connections may have to be found out to be lost."""
    while True:
        try:
            await write(s, record)
        except Exception as error:
            if not is_passing(error):
                raise
        else:
            return


async def all_marked(s: Service) -> bool:
    return bool(await s.value("SELECT bool_and(published_at IS NOT NULL) FROM outbox"))


async def in_topic(settings: KafkaSettings, topic: Topic) -> list[Received]:
    """All that is in the topic now, by partition and offset."""
    consumer = AIOKafkaConsumer(bootstrap_servers=settings.bootstrap, auto_offset_reset="earliest")
    await consumer.start()
    try:
        partitions = [TopicPartition(topic.name, n) for n in range(3)]
        ends = await consumer.end_offsets(partitions)
        consumer.assign(partitions)
        found: list[Received] = []
        while sum(ends.values()) > len(found):
            for records in (await consumer.getmany(timeout_ms=500)).values():
                found += [read for record in records if (read := received(record)) is not None]
        return sorted(found, key=lambda record: (record.partition, record.offset))
    finally:
        await stop_client(consumer)


def versions(records: list[Received], key: str) -> list[int]:
    return [record.event.version for record in records if record.key == key]  # type: ignore[attr-defined]


async def test_what_is_appended_arrives_with_its_envelope(
    database: backing.Database, settings: KafkaSettings, topic: Topic
) -> None:
    record = hold(topic, "a", 1)
    async with service(database) as s, started(settings) as producer, relaying(s, producer):
        await write(s, record)
        await until(lambda: all_marked(s))
        (arrived,) = await in_topic(settings, topic)
    assert (arrived.key, arrived.event, arrived.envelope) == ("a", record.event, record.envelope)


async def test_nothing_leaves_a_transaction_that_was_taken_back(
    database: backing.Database, settings: KafkaSettings, topic: Topic
) -> None:
    async with service(database) as s, started(settings) as producer, relaying(s, producer):
        with pytest.raises(ZeroDivisionError):  # noqa: PT012
            async with s.database.transaction() as connection:
                await append(connection, [hold(topic, "a", 1)])
                raise ZeroDivisionError
        await write(s, hold(topic, "a", 2))
        await until(lambda: all_marked(s))
        assert versions(await in_topic(settings, topic), "a") == [2]


async def test_a_notice_wakes_the_relay_long_before_its_poll(
    database: backing.Database, settings: KafkaSettings, topic: Topic
) -> None:
    async with service(database) as s, started(settings) as producer, relaying(s, producer, poll_s=60):
        await write(s, hold(topic, "a", 1))
        await until(lambda: all_marked(s))
        await write(s, hold(topic, "a", 2))
        await until(lambda: all_marked(s), deadline_s=5)


async def test_one_append_is_one_statement_that_keeps_the_order_given(
    database: backing.Database, settings: KafkaSettings, topic: Topic
) -> None:
    async with service(database) as s, started(settings) as producer:
        await write(s, *(hold(topic, "a", n) for n in range(1200)))
        async with relaying(s, producer):
            await until(lambda: all_marked(s))
        assert versions(await in_topic(settings, topic), "a") == list(range(1200))


async def test_a_record_that_kafka_would_refuse_is_refused_where_it_is_written(
    database: backing.Database, topic: Topic
) -> None:
    async with service(database) as s:
        with pytest.raises(TooLarge):
            await write(s, operation(topic, "a", reason="x" * RECORD_BYTES_MAX))
        assert await s.value("SELECT count(*) FROM outbox") == 0


async def test_two_transactions_on_one_stream_cannot_both_write_a_version(
    database: backing.Database, settings: KafkaSettings, topic: Topic
) -> None:
    """The second waits for the first at the version's unique key, so its rows never get positions before."""
    async with service(database, STREAM) as s, started(settings) as producer, relaying(s, producer):
        first_wrote, second_waits = asyncio.Event(), asyncio.Event()

        async def first() -> None:
            async with s.database.transaction() as connection:
                await _take_version(connection, "a", 1)
                await append(connection, [hold(topic, "a", 1)])
                first_wrote.set()
                await second_waits.wait()
                await until(lambda: _somebody_waits(s))

        async def second() -> None:
            await first_wrote.wait()
            second_waits.set()
            with pytest.raises(asyncpg.UniqueViolationError):
                async with s.database.transaction() as connection:
                    await _take_version(connection, "a", 1)
            async with s.database.transaction() as connection:
                await _take_version(connection, "a", 2)
                await append(connection, [hold(topic, "a", 2)])

        await asyncio.gather(first(), second())
        await until(lambda: all_marked(s))
        assert versions(await in_topic(settings, topic), "a") == [1, 2]


async def test_a_lower_position_that_commits_later_is_not_passed_over(
    database: backing.Database, settings: KafkaSettings, topic: Topic
) -> None:
    async with service(database) as s, started(settings) as producer, relaying(s, producer):
        async with s.database.transaction() as slow:
            await append(slow, [hold(topic, "slow", 1)])
            await write(s, hold(topic, "fast", 2))
            await until(lambda: all_marked(s))  # it sees the higher position only, and publishes it
            assert versions(await in_topic(settings, topic), "fast") == [2]
        await until(lambda: _marked(s, 2))
        assert versions(await in_topic(settings, topic), "slow") == [1]


async def test_one_relay_works_and_another_takes_over_when_it_ends(
    database: backing.Database, settings: KafkaSettings, topic: Topic
) -> None:
    async with service(database) as s, started(settings) as producer:
        async with relaying(s, producer):
            async with relaying(s, producer):
                await write(s, *(hold(topic, "a", n) for n in range(50)))
                await until(lambda: all_marked(s))
                assert await s.value("SELECT count(*) FROM pg_locks WHERE locktype = 'advisory' AND granted") == 1
            await write(s, hold(topic, "a", 50))
            await until(lambda: all_marked(s))
        assert versions(await in_topic(settings, topic), "a") == list(range(51))


@pytest.mark.parametrize("nth", [1, 2])
async def test_killed_between_publish_and_mark_it_publishes_again_and_loses_nothing(
    nth: int, database: backing.Database, settings: KafkaSettings, topic: Topic
) -> None:
    async with service(database) as s:
        for n in range(3):
            await write(s, *(hold(topic, "a", version) for version in range(n * 500, n * 500 + 500)))
        killed = await _relay_process(s, settings, crash_at=f"outbox_published:{nth}")
        assert await asyncio.wait_for(killed.wait(), 30) == 137
        unmarked = "SELECT count(*) FROM outbox WHERE published_at IS NULL"
        assert await s.value(unmarked) == 1500 - 500 * (nth - 1)
        again = await _relay_process(s, settings)
        await until(lambda: all_marked(s))
        again.send_signal(signal.SIGKILL)
        await again.wait()
    published = versions(await in_topic(settings, topic), "a")
    assert len(published) == 2000  # the batch of the kill twice
    assert list(dict.fromkeys(published)) == list(range(1500))


async def test_it_survives_losing_every_connection_to_postgres(
    database: backing.Database, settings: KafkaSettings, topic: Topic
) -> None:
    async with service(database) as s, started(settings) as producer, relaying(s, producer):
        for n in range(3):
            await write_again_if_cut(s, hold(topic, "a", n))
            await until(partial(_marked, s, n + 1))
            await _cut_connections(s)
        assert versions(await in_topic(settings, topic), "a") == [0, 1, 2]


async def test_published_rows_are_deleted_after_a_while(
    database: backing.Database, settings: KafkaSettings, topic: Topic
) -> None:
    async with service(database) as s, started(settings) as producer:
        await write(s, *(hold(topic, "a", n) for n in range(10)))
        async with relaying(s, producer):
            await until(lambda: all_marked(s))
        async with relaying(s, producer, keep_s=0):
            await until(lambda: _count_is(s, 0))


async def _take_version(connection: object, stream: str, version: int) -> None:
    await (await driver(connection)).execute("INSERT INTO stream VALUES ($1, $2)", stream, version)  # type: ignore[arg-type]


async def _somebody_waits(s: Service) -> bool:
    return bool(await s.value("SELECT EXISTS (SELECT FROM pg_locks WHERE NOT granted)"))


async def _marked(s: Service, rows: int) -> bool:
    return await s.value("SELECT count(*) FROM outbox WHERE published_at IS NOT NULL") == rows


async def _count_is(s: Service, rows: int) -> bool:
    return await s.value("SELECT count(*) FROM outbox") == rows


async def _cut_connections(s: Service) -> None:
    admin = await asyncpg.connect(s.admin_dsn)
    await admin.execute(
        "SELECT pg_terminate_backend(pid) FROM pg_stat_activity"
        " WHERE datname = current_database() AND pid <> pg_backend_pid()"
    )
    await admin.close()


async def _relay_process(s: Service, settings: KafkaSettings, crash_at: str = "") -> asyncio.subprocess.Process:
    program = """
import asyncio, sys
from pydantic import SecretStr
from chassis.database import Database
from chassis.kafka import Producer
from chassis.outbox import relay
from chassis.settings import KafkaSettings, PostgresSettings

async def main(dsn, bootstrap, schema):
    database = Database.connect(PostgresSettings(dsn=SecretStr(dsn)), schema=schema, application_name="relay process")
    producer = Producer(KafkaSettings(bootstrap=bootstrap))
    await producer.start()
    await relay(database, producer, schema=schema, dsn=dsn, stopping=asyncio.Event(), poll_s=0.1)

asyncio.run(main(*sys.argv[1:]))
"""
    return await asyncio.create_subprocess_exec(
        sys.executable,
        "-c",
        program,
        s.worker_dsn,
        settings.bootstrap,
        SCHEMA,
        env={"CRASH_AT": crash_at, "TEST_MODE": "true"},
    )
