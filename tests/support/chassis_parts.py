"""What the chassis' tests need on real servers: a service's database, topics and events of their own."""

import asyncio
import secrets
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from uuid import UUID, uuid4

from pydantic import SecretStr

from chassis.database import Database, driver
from chassis.inbox import create_offsets
from chassis.kafka import Outgoing, Producer, ensure_topics, outgoing
from chassis.outbox import create_outbox
from chassis.settings import KafkaSettings, PostgresSettings
from contracts.operations import HoldSet, StuckRecoveryRequested
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
        async with self.database.transaction() as connection:
            return await (await driver(connection)).fetchval(sql, *arguments)


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


def hold(topic: Topic, key: str, version: int, stream_version: int | None = None) -> Outgoing:
    event = HoldSet(scope="account", held=True, version=version)
    return _outgoing(topic, key, event, stream_version)


def recovery(topic: Topic, key: str) -> Outgoing:
    return _outgoing(topic, key, StuckRecoveryRequested(), None)


def _outgoing(topic: Topic, key: str, event: HoldSet | StuckRecoveryRequested, stream_version: int | None) -> Outgoing:
    account_id: UUID = uuid4()
    return outgoing(topic, key, event, source="tests", account_id=account_id, time=NOON, stream_version=stream_version)


async def until(holds: Callable[[], bool | Awaitable[bool]], *, deadline_s: float = 20.0) -> None:
    """Waits for a condition, never for a time."""
    end = time.monotonic() + deadline_s
    while time.monotonic() < end:
        result = holds()
        if result if isinstance(result, bool) else await result:
            return
        await asyncio.sleep(0.02)
    raise AssertionError(f"not within {deadline_s} s: {holds}")
