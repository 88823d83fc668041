"""One component's log, applied to one generation."""

import asyncio
from collections.abc import Mapping, Sequence
from typing import Any, Final, NamedTuple

import asyncpg
from aiokafka import TopicPartition

from chassis.database import is_passing
from chassis.settings import KafkaSettings
from chassis.telemetry import log
from contracts.codec import UNREADABLE, read_record
from contracts.envelope import Envelope, Event
from projections.consumers import Component
from projections.generation.generations import Generation
from projections.generation.log import Log, Offsets

# Of one transaction. What is said of one row within it is written once, so many: a message has five events or more.
# Bytes and not records, because one record describes a message or five hundred; in memory they are many times that.
PART_BYTES_MAX: Final = 8 * 1024 * 1024
# Each is twice as large as the one before: PostgreSQL need not wait long for the first.
_FIRST_PART_BYTES: Final = 1024 * 1024
# The tables grow from nothing within minutes: each of the large batches gets plans of its own.
_ENTER: Final = """
SELECT set_config('search_path', $1, true), go_by_key(), set_config('plan_cache_mode', 'force_custom_plan', true)
"""


class Part(NamedTuple):
    """What is written in one transaction, and where in the log it begins and ends."""

    batch: Any
    events: int
    start: Offsets
    end: Offsets


class Replay:
    """Up to given offsets, then further."""

    def __init__(self, component: Component, generation: Generation, settings: KafkaSettings) -> None:
        self._component = component
        self._generation = generation
        self._settings = settings
        self._types = frozenset(event.__name__ for event in component.handles)
        self._log = Log(component.topics, settings, {})
        self.events = 0

    async def close(self) -> None:
        await self._log.close()

    def behind(self, targets: Mapping[TopicPartition, int]) -> int:
        """Records, at most, that are missing up to `targets`."""
        return self._log.behind(targets)

    async def advance(self, connection: asyncpg.Connection, targets: Mapping[TopicPartition, int]) -> None:
        """Applies everything before `targets` (the next offsets of the live consumer), and nothing from there on.

        While PostgreSQL works on one part, the next one is read.
        """
        bytes_max = _FIRST_PART_BYTES
        part = await self._read_part(targets, bytes_max)
        while part.start != part.end:
            bytes_max = min(2 * bytes_max, PART_BYTES_MAX)
            part, _ = await asyncio.gather(self._read_part(targets, bytes_max), self._apply(connection, part))

    async def _read_part(self, targets: Mapping[TopicPartition, int], bytes_max: int) -> Part:
        """Empty only if nothing is missing up to `targets`."""
        start, batch, events, size = self._log.positions(), self._component.begin(), 0, 0
        while size < bytes_max and (records := await self._log.read(targets)):
            size += sum(map(len, records))
            # At once: of a decoded record only what is to be written stays in memory.
            events += self._gather(batch, records)
            await asyncio.sleep(0)  # records at hand do not let anything else run
        return Part(batch, events, start, self._log.positions())

    def _gather(self, batch: Any, records: Sequence[Any]) -> int:
        """How many events they are."""
        readable = [read for record in records if (read := self._read(record)) is not None]
        self._component.gather(batch, readable)
        return len(readable)

    def _read(self, record: Any) -> tuple[Envelope, Event] | None:
        """What cannot be read was parked by the live consumer."""
        try:
            return read_record(record.headers() or (), record.value() or b"", self._types)
        except UNREADABLE:
            return None

    async def _apply(self, connection: asyncpg.Connection, part: Part) -> None:
        if not await self._write(connection, part.batch):
            await self._leave_out(connection, part)
        else:
            self.events += part.events

    async def _write(self, connection: asyncpg.Connection, batch: Any) -> bool:
        """One transaction; False if something of it cannot be written."""
        try:
            async with connection.transaction():
                await connection.execute(_ENTER, self._generation)
                # A crash starts the rebuild anew; the commit that shows this generation makes it all durable.
                await connection.execute("SET LOCAL synchronous_commit = off")
                await self._component.write(connection, batch)
        except Exception as error:
            if is_passing(error):
                raise
            log.error("batch_refused", group=self._component.group, exc_info=error)
            return False
        return True

    async def _leave_out(self, connection: asyncpg.Connection, part: Part) -> None:
        """Reads the part again, in ever smaller pieces: what fails alone was parked by the live consumer."""
        again = Log(self._component.topics, self._settings, part.start)
        try:
            while records := await again.read(part.end):
                pieces = [records]
                while pieces:
                    piece, batch = pieces.pop(), self._component.begin()
                    events = self._gather(batch, piece)
                    if await self._write(connection, batch):
                        self.events += events
                    elif len(piece) > 1:
                        middle = len(piece) // 2
                        pieces += [piece[middle:], piece[:middle]]
        finally:
            await again.close()
