"""Reads the log from its beginning into a generation, outside Kafka's groups: positions are this process's own."""

import asyncio
from collections.abc import Iterable, Mapping, Sequence
from typing import Any, Final

import asyncpg
from aiokafka import AIOKafkaConsumer, TopicPartition

from chassis import kafka
from chassis.database import is_passing
from chassis.kafka import Unreadable
from chassis.settings import KafkaSettings
from chassis.telemetry import log
from contracts.envelope import Envelope, Event
from projections.consumers import Component
from projections.generation.generations import Generation

# Of one transaction. What is said of one row within it is written once, so many: a message has five events or more.
# Bytes and not records, because one record describes a message or five hundred; in memory they are many times that.
BATCH_BYTES: Final = 8 * 1024 * 1024
# Read in one go, some hundredths of a second: meanwhile the batch before is not given its next statement.
_RECORDS_AT_ONCE: Final = 500
_POLL_MS: Final = 500
# The tables grow from nothing within minutes: each of the large batches gets plans of its own.
_ENTER: Final = """
SELECT set_config('search_path', $1, true), go_by_key(), set_config('plan_cache_mode', 'force_custom_plan', true)
"""

Offsets = dict[TopicPartition, int]


class Replay:
    """One component's log, applied to one generation up to given offsets, then further."""

    def __init__(self, component: Component, generation: Generation, settings: KafkaSettings) -> None:
        self._component = component
        self._generation = generation
        self._types = frozenset(event.__name__ for event in component.handles)
        self._consumer: Any = AIOKafkaConsumer(
            bootstrap_servers=settings.bootstrap,
            group_id=None,
            enable_auto_commit=False,
            auto_offset_reset="earliest",
            fetch_max_bytes=16 * 1024 * 1024,
            max_partition_fetch_bytes=1024 * 1024,
        )
        self._read_until_ms: dict[TopicPartition, int] = {}
        self.events = 0

    async def start(self) -> None:
        await self._consumer.start()

    async def stop(self) -> None:
        await self._consumer.stop()

    async def behind(self, targets: Mapping[TopicPartition, int]) -> int:
        """Records, at most, that are missing up to `targets`."""
        await self._assign(targets)
        return sum([max(0, target - await self._position(place, target)) for place, target in targets.items()])

    async def advance(self, connection: asyncpg.Connection, targets: Mapping[TopicPartition, int]) -> None:
        """Applies everything before `targets` (the next offsets of the live consumer), and nothing from there on.

        While PostgreSQL works on one batch, the next one is read.
        """
        await self._assign(targets)
        batch = await self._read_batch(targets)
        while batch:
            batch, _ = await asyncio.gather(self._read_batch(targets), self._apply(connection, batch))

    async def _read_batch(self, targets: Mapping[TopicPartition, int]) -> list[tuple[Envelope, Event]]:
        """Empty only if nothing is missing up to `targets`."""
        batch: list[tuple[Envelope, Event]] = []
        size = 0
        while (size < BATCH_BYTES or not batch) and (
            waiting := [place for place, target in targets.items() if await self._position(place, target) < target]
        ):
            for record in await self._fetch(waiting, targets):
                size += len(record.value or b"")
                if (read := self._read(record)) is not None:
                    batch.append(read)
            await asyncio.sleep(0)  # a fetch that finds records at hand does not let anything else run
        return batch

    async def _fetch(self, waiting: list[TopicPartition], targets: Mapping[TopicPartition, int]) -> list[Any]:
        """From the half of the partitions that is furthest back in time: what the topics say of one row comes into
        one batch."""
        waiting.sort(key=lambda place: self._read_until_ms.get(place, 0))
        hindmost = waiting[: (len(waiting) + 1) // 2]
        fetched = await self._consumer.getmany(*hindmost, timeout_ms=_POLL_MS, max_records=_RECORDS_AT_ONCE)
        records: list[Any] = []
        for place, found in fetched.items():
            self._read_until_ms[place] = found[-1].timestamp
            wanted = [record for record in found if record.offset < targets[place]]
            if len(wanted) < len(found):
                self._consumer.seek(place, targets[place])
            records += wanted
        return records

    async def _assign(self, places: Iterable[TopicPartition]) -> None:
        """Partitions that the live consumer has got since; those read already keep their position."""
        known = self._consumer.assignment()
        if not (added := set(places) - known):
            return
        positions = {place: await self._consumer.position(place) for place in known}
        self._consumer.assign(sorted(known | added))
        for place, position in positions.items():
            self._consumer.seek(place, position)
        await self._consumer.seek_to_beginning(*added)

    async def _position(self, place: TopicPartition, target: int) -> int:
        """A partition that the live consumer has not begun needs no position."""
        position: int = 0 if target == 0 else await self._consumer.position(place)
        return position

    def _read(self, record: Any) -> tuple[Envelope, Event] | None:
        """What cannot be read was parked by the live consumer."""
        try:
            received = kafka.received(record, self._types)
        except Unreadable:
            return None
        return None if received is None else (received.envelope, received.event)

    async def _apply(self, connection: asyncpg.Connection, records: Sequence[tuple[Envelope, Event]]) -> None:
        """One transaction; a batch that fails is halved, a record that fails alone was parked by the live consumer."""
        try:
            async with connection.transaction():
                await connection.execute(_ENTER, self._generation)
                # A crash starts the rebuild anew; the commit that shows this generation makes it all durable.
                await connection.execute("SET LOCAL synchronous_commit = off")
                await self._component.apply(connection, records)
        except Exception as error:
            if is_passing(error):
                raise
            if len(records) == 1:
                log.error("record_left_out", group=self._component.group, type=records[0][0].type, exc_info=error)
                return
            middle = len(records) // 2
            await self._apply(connection, records[:middle])
            await self._apply(connection, records[middle:])
            return
        self.events += len(records)
