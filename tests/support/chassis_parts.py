"""What the chassis' tests need on real servers: a service's database, topics and events of their own."""

import asyncio
import secrets
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from uuid import uuid4

from pydantic import SecretStr

from chassis.database import Database, driver, is_passing
from chassis.inbox import create_offsets
from chassis.kafka import Outgoing, Producer, ensure_topics, outgoing
from chassis.outbox import create_outbox
from chassis.settings import KafkaSettings, PostgresSettings
from contracts.envelope import Event
from contracts.operations import DeadLettersRequeued, HoldSet
from contracts.topics import OPERATIONS, Topic
from pombo import backing

NOON = datetime(2026, 3, 2, 12, tzinfo=UTC)
SCHEMA = "sender"


@dataclass(frozen=True, slots=True)
class Service:
    """A database as a service sees it: as owner for its tables, as worker for its work."""

    database: Database
    worker_dsn: str
    owner_dsn: str
    admin_dsn: str

    async def value(self, sql: str, *arguments: object) -> object:
        """Of a query; asked again if the connection was cut, as some tests do."""
        for last in (False, False, True):
            try:
                async with self.database.transaction() as connection:
                    return await (await driver(connection)).fetchval(sql, *arguments)
            except Exception as error:
                if last or not is_passing(error):
                    raise
        raise AssertionError("unreachable")


@asynccontextmanager
async def service(prepared: backing.Database, *ddl: str) -> AsyncIterator[Service]:
    owner_dsn, worker_dsn = prepared.roles[f"{SCHEMA}_owner"], prepared.roles[f"{SCHEMA}_worker"]
    owner = _connect(owner_dsn)
    async with owner.transaction() as connection:
        for statement in (*create_outbox(), *create_offsets(), *ddl):
            await (await driver(connection)).execute(statement)
    await owner.close()
    worker = _connect(worker_dsn)
    try:
        yield Service(worker, worker_dsn, owner_dsn, prepared.admin_dsn)
    finally:
        await worker.close()


def _connect(dsn: str) -> Database:
    return Database.connect(PostgresSettings(dsn=SecretStr(dsn)), schema=SCHEMA, application_name="chassis tests")


def kafka_settings(bootstrap: str) -> KafkaSettings:
    return KafkaSettings(bootstrap=bootstrap, partitions_max=3)


async def fresh_topic(settings: KafkaSettings) -> Topic:
    """A topic that no other test uses, with the events of `operations`."""
    topic = replace(OPERATIONS, name=f"operations.{secrets.token_hex(4)}")
    await ensure_topics(settings, [topic])
    return topic


@asynccontextmanager
async def started(settings: KafkaSettings) -> AsyncIterator[Producer]:
    producer = Producer(settings)
    await producer.start()
    try:
        yield producer
    finally:
        await producer.stop()


def hold(topic: Topic, key: str, version: int) -> Outgoing:
    return _of(topic, key, HoldSet(scope="account", held=True, version=version))


def operation(topic: Topic, key: str, reason: str) -> Outgoing:
    return _of(topic, key, DeadLettersRequeued(reason=reason))


def _of(topic: Topic, key: str, event: Event) -> Outgoing:
    return outgoing(topic, key, event, source="tests", account_id=uuid4(), time=NOON)


async def until(holds: Callable[[], bool | Awaitable[bool]], *, deadline_s: float = 20.0) -> None:
    """Waits for a condition, never for a time."""
    end = time.monotonic() + deadline_s
    while time.monotonic() < end:
        result = holds()
        if result if isinstance(result, bool) else await result:
            return
        await asyncio.sleep(0.02)
    raise AssertionError(f"not within {deadline_s} s: {holds}")
