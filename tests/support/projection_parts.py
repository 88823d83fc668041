"""What the projections' tests need: a migrated database, applying records, and the tables as text."""

import asyncio
import random
from collections.abc import AsyncIterator, Awaitable, Callable, Iterable, Sequence
from contextlib import asynccontextmanager

import asyncpg
from pydantic import SecretStr

from chassis.database import migrate
from chassis.kafka import Outgoing, Producer
from chassis.settings import KafkaSettings, PostgresSettings
from contracts import topics
from contracts.envelope import Envelope, Event
from contracts.progress import DispatchesChanged
from pombo.backing import Database
from projections.app import build
from projections.consumers import COMPONENTS
from projections.generation.generations import TABLES
from projections.settings import Settings

Record = tuple[Envelope, Event]
Tables = dict[str, list[str]]


def migrate_projections(database: Database) -> None:
    migrate(database.roles["projections_owner"], "projections", "projections")


async def enter(connection: asyncpg.Connection) -> None:
    """Inside a transaction, as a live batch does."""
    await connection.fetchval("SELECT projections.enter_generation(0)")


async def apply(connection: asyncpg.Connection, records: Iterable[Record]) -> None:
    """One batch: each component gets its own types, as its subscription would give them."""
    batch = list(records)
    for component in COMPONENTS:
        mine = [record for record in batch if isinstance(record[1], component.handles)]
        if mine:
            await component.apply(connection, mine)


async def read_tables(connection: asyncpg.Connection) -> Tables:
    tables: Tables = {}
    for table, key in TABLES.items():
        rows = await connection.fetch(f"SELECT t::text FROM {table} t ORDER BY {key}")
        tables[table] = [row[0] for row in rows]
    return tables


async def project(connection: asyncpg.Connection, batches: Sequence[Sequence[Record]]) -> Tables:
    """The tables after these batches on empty ones; nothing stays."""
    transaction = connection.transaction()
    await transaction.start()
    try:
        await enter(connection)
        for batch in batches:
            await apply(connection, batch)
        return await read_tables(connection)
    finally:
        await transaction.rollback()


def split(records: Sequence[Record], rng: random.Random, batches: int) -> list[list[Record]]:
    cuts = sorted(rng.randrange(len(records) + 1) for _ in range(batches - 1))
    return [list(records[start:end]) for start, end in zip([0, *cuts], [*cuts, len(records)], strict=True)]


def shuffle(records: Sequence[Record], rng: random.Random) -> list[Record]:
    """Another order, with repetitions."""
    mixed = [*records, *rng.choices(records, k=len(records) // 2)]
    rng.shuffle(mixed)
    return mixed


def draw_arrived(records: Sequence[Record], rng: random.Random) -> list[Record]:
    """All of them or, as often, of the scheduler's words only the first of each dispatch, one by one: the others are
    still on their way, whatever providers have told already."""
    if rng.random() < 0.5:
        return list(records)
    arrived: list[Record] = []
    for envelope, event in records:
        if isinstance(event, DispatchesChanged):
            arrived += [(envelope, DispatchesChanged(changes=(one,))) for one in event.changes if one.version == 1]
        else:
            arrived.append((envelope, event))
    return arrived


TOPIC_OF = {event: topic for topic in topics.ALL for event in topic.events}


async def publish(producer: Producer, records: Iterable[Record]) -> None:
    """As the services would: keyed by the stream."""
    await producer.publish(
        [Outgoing(TOPIC_OF[type(event)], envelope.subject, event, envelope) for envelope, event in records]
    )


def projections_settings(database: Database, bootstrap: str) -> Settings:
    return Settings(
        kafka=KafkaSettings(bootstrap=bootstrap, partitions_max=3),
        postgres=PostgresSettings(dsn=SecretStr(database.roles["projections_worker"])),
        linger_ms=20,
        notice_ms=100,
    )


@asynccontextmanager
async def serving(settings: Settings) -> AsyncIterator[None]:
    """The service, in this process, until the block ends."""
    stopping = asyncio.Event()
    async with asyncio.TaskGroup() as tasks:
        tasks.create_task(build(settings).serve(stopping))
        try:
            yield
        finally:
            stopping.set()


async def wait_until(condition: Callable[[], Awaitable[bool]], *, seconds: float = 30) -> None:
    async with asyncio.timeout(seconds):
        while not await condition():
            await asyncio.sleep(0.05)
