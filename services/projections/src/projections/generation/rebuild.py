"""Makes the read models anew from the log while the service runs: shows them, or compares them with the live ones.

The other generation is emptied and filled from the beginning, never beyond the offsets that the live consumers have
reached. When it is nearly there, the generation's lock is taken exclusively: live batches wait, the offsets stand
still, the rest is read. Then the views are repointed in the same transaction and the live consumers go on in the
new generation at the offsets they had. Nothing is published meanwhile.
"""

import time
from collections.abc import AsyncIterator, Sequence
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass
from typing import Final

import asyncpg
from aiokafka import TopicPartition

from chassis.database import open_raw
from chassis.telemetry import log
from projections.consumers import COMPONENTS
from projections.generation.generations import GENERATION_LOCK, TABLES, Digest, Generation, dump, other, read_current
from projections.generation.log import Offsets
from projections.generation.replay import Replay
from projections.settings import Settings

# So few records behind, the rest is read within well under a second of standing still.
NEARLY: Final = 2000
_ONE_AT_A_TIME: Final = "SELECT pg_try_advisory_lock(7292, 0)"
_LIVE: Final = "SELECT topic, partition, next_offset FROM projections.consumer_offset WHERE consumer_group = $1"


class RebuildRunning(Exception):
    """Another rebuild or check is running: wait for it."""


@dataclass(frozen=True, slots=True)
class Rebuilt:
    """`standstill_s`: how long live batches waited."""

    generation: Generation
    events: int
    seconds: float
    standstill_s: float


@dataclass(frozen=True, slots=True)
class Compared:
    """Digests of every table, live and rebuilt, of one moment."""

    events: int
    live: dict[str, Digest]
    rebuilt: dict[str, Digest]

    @property
    def differing(self) -> list[str]:
        return [table for table in TABLES if self.live[table] != self.rebuilt[table]]


async def rebuild(settings: Settings) -> Rebuilt:
    """Rebuilds and shows the other generation. Raises RebuildRunning, LogIsShorter."""
    began = time.monotonic()
    async with _working(settings) as (connection, target, replays):
        await _fill(connection, replays)
        async with _standing_still(settings) as still:
            stood = time.monotonic()
            await _finish(connection, replays)
            # Readers hold views for as long as their transaction: rather give up than let all readers queue.
            await still.execute("SET LOCAL lock_timeout = '10s'")
            await still.execute("SELECT projections.show_generation($1)", target)
        ended = time.monotonic()
        events = sum(replay.events for replay in replays)
        log.info("generation_shown", generation=target, events=events)
        return Rebuilt(target, events, ended - began, ended - stood)


async def compare(settings: Settings) -> Compared:
    """Compares the live generation with a rebuilt one; shows nothing. Raises RebuildRunning, LogIsShorter."""
    async with _working(settings) as (connection, target, replays), AsyncExitStack() as reading:
        await _fill(connection, replays)
        snapshot = await _connect(settings)
        reading.push_async_callback(snapshot.close)
        async with _standing_still(settings):
            await _finish(connection, replays)
            await reading.enter_async_context(snapshot.transaction(isolation="repeatable_read", readonly=True))
            # The first query fixes what the transaction sees; live batches may go on after it.
            await read_current(snapshot)
        live, rebuilt = await dump(snapshot, other(target)), await dump(snapshot, target)
        return Compared(sum(replay.events for replay in replays), live, rebuilt)


@asynccontextmanager
async def _working(settings: Settings) -> AsyncIterator[tuple[asyncpg.Connection, Generation, Sequence[Replay]]]:
    """An emptied generation that is not shown, and a replay for each component."""
    async with AsyncExitStack() as stack:
        connection = await _connect(settings)
        stack.push_async_callback(connection.close)
        if not await connection.fetchval(_ONE_AT_A_TIME):
            raise RebuildRunning(RebuildRunning.__doc__)
        target = other(await read_current(connection))
        await connection.execute("TRUNCATE " + ", ".join(f"{target}.{table}" for table in TABLES))
        replays = [Replay(component, target, settings.kafka) for component in COMPONENTS]
        for replay in replays:
            stack.push_async_callback(replay.close)
        yield connection, target, replays


@asynccontextmanager
async def _standing_still(settings: Settings) -> AsyncIterator[asyncpg.Connection]:
    """A transaction during which no live batch runs; what it changes shows at once when they go on."""
    connection = await _connect(settings)
    try:
        async with connection.transaction():
            await connection.execute(GENERATION_LOCK)
            yield connection
    finally:
        await connection.close()


async def _fill(connection: asyncpg.Connection, replays: Sequence[Replay]) -> None:
    """Until the live consumers are nearly reached. At least once: a first read has connections to make, which takes
    longer than live batches should wait."""
    behind = NEARLY + 1
    while behind > NEARLY:
        live = await _read_live(connection)
        for replay, offsets in zip(replays, live, strict=True):
            await replay.advance(connection, offsets)
        live = await _read_live(connection)
        behind = sum(replay.behind(offsets) for replay, offsets in zip(replays, live, strict=True))


async def _finish(connection: asyncpg.Connection, replays: Sequence[Replay]) -> None:
    """Exactly up to the live offsets, which stand still."""
    live = await _read_live(connection)
    for replay, offsets in zip(replays, live, strict=True):
        await replay.advance(connection, offsets)


async def _read_live(connection: asyncpg.Connection) -> list[Offsets]:
    """The next offsets of each component's live consumer, as its committed batches left them."""
    offsets = []
    for component in COMPONENTS:
        rows = await connection.fetch(_LIVE, component.group)
        offsets.append({TopicPartition(row["topic"], row["partition"]): row["next_offset"] for row in rows})
    return offsets


async def _connect(settings: Settings) -> asyncpg.Connection:
    return await open_raw(settings.postgres.dsn, schema="projections", application_name="projections rebuild")
