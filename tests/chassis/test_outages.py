"""Servers are killed and come back: relay and inbox go on by themselves, and nothing is lost, doubled or reordered."""

import asyncio
from collections.abc import AsyncIterator, Iterator, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import pytest
from sqlalchemy.ext.asyncio import AsyncConnection

from chassis.database import driver, is_passing
from chassis.inbox import Subscription, consume
from chassis.kafka import Producer, Received
from chassis.outbox import append, relay
from chassis.settings import KafkaSettings
from chassis_parts import SCHEMA, Service, fresh_topic, hold, kafka_settings, service, until
from contracts.operations import HoldSet
from contracts.topics import Topic
from pombo import backing

pytestmark = [pytest.mark.postgres, pytest.mark.kafka]
EFFECT = "CREATE TABLE effect (nth bigint GENERATED ALWAYS AS IDENTITY, version int)"


@dataclass(frozen=True, slots=True)
class Servers:
    kafka: backing.KafkaServer
    postgres: backing.PostgresServer


@pytest.fixture(scope="module")
def servers(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Servers]:
    """Of this module alone, since it kills them; durable, since that is what is tested."""
    folder: Path = tmp_path_factory.mktemp("killed")
    kafka = backing.kafka_server(folder / "kafka", die_with_parent=True)
    postgres = backing.postgres_server(folder / "postgres", die_with_parent=True, durable=True)
    try:
        kafka.start()
        postgres.start()
        yield Servers(kafka, postgres)
    finally:
        for server in (kafka, postgres):
            server.stop()
            server.remove()


@asynccontextmanager
async def prepared(servers: Servers) -> AsyncIterator[tuple[Service, KafkaSettings, Topic]]:
    admin_dsn = servers.postgres.admin_dsn
    roles = await asyncio.to_thread(backing.prepare_database, admin_dsn, "for-tests-only", name="outages")
    database = backing.Database("outages", admin_dsn, roles)
    settings = kafka_settings(servers.kafka.bootstrap)
    try:
        async with service(database, EFFECT) as s:
            yield s, settings, await fresh_topic(settings)
    finally:
        await asyncio.to_thread(backing.drop_database, admin_dsn, "outages")


async def write_all(s: Service, topic: Topic, count: int, pace_s: float) -> None:
    """One after the other, each until it is in; a COMMIT whose answer was lost may leave it twice."""
    for n in range(count):
        while True:
            try:
                async with s.database.transaction() as connection:
                    await append(connection, [hold(topic, "a", n)])
                break
            except Exception as error:
                if not is_passing(error):
                    raise
                await asyncio.sleep(0.1)
        await asyncio.sleep(pace_s)


async def count_effects(connection: AsyncConnection, batch: Sequence[Received]) -> None:
    rows = [(record.event.version,) for record in batch if isinstance(record.event, HoldSet)]
    await (await driver(connection)).executemany("INSERT INTO effect (version) VALUES ($1)", rows)


async def effects(s: Service) -> list[int]:
    async with s.database.transaction() as connection:
        rows = await (await driver(connection)).fetch("SELECT version FROM effect ORDER BY nth")
    return [row["version"] for row in rows]


async def has_effect(s: Service, version: int) -> bool:
    try:
        return version in await effects(s)
    except Exception as error:
        if not is_passing(error):
            raise
        return False


@pytest.mark.parametrize("killed", ["postgres", "kafka"])
async def test_a_server_that_is_killed_and_comes_back_costs_time_only(servers: Servers, killed: str) -> None:
    server = servers.kafka if killed == "kafka" else servers.postgres
    stopping = asyncio.Event()
    async with prepared(servers) as (s, settings, topic):
        producer = Producer(settings)
        sub = Subscription("outages", (topic,), (HoldSet,))
        async with asyncio.TaskGroup() as tasks:
            tasks.create_task(
                relay(s.database, producer, schema=SCHEMA, dsn=s.worker_dsn, stopping=stopping, poll_s=0.2)
            )
            tasks.create_task(
                consume(
                    sub,
                    settings=settings,
                    database=s.database,
                    producer=producer,
                    handle=count_effects,
                    stopping=stopping,
                )
            )
            written = tasks.create_task(write_all(s, topic, 100, 0.03))
            await until(partial(has_effect, s, 10))
            await asyncio.to_thread(server.kill)
            await asyncio.sleep(0.5)
            await asyncio.to_thread(server.start)
            await written
            await until(partial(has_effect, s, 99), deadline_s=60)
            stopping.set()
        await producer.stop()
        seen = await effects(s)
        # The relay publishes a batch again whose acknowledgement or mark was lost; each record takes effect once.
        assert list(dict.fromkeys(seen)) == list(range(100))
        published = await s.value("SELECT sum(next_offset) FROM consumer_offset")
        assert published == len(seen)
        assert await s.value("SELECT count(*) FROM outbox WHERE published_at IS NULL") == 0
