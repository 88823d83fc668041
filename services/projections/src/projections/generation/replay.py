"""Reads the log from its beginning into a generation, outside Kafka's groups: positions are this process's own."""

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

RECORDS_MAX: Final = 5000
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
            max_partition_fetch_bytes=4 * 1024 * 1024,
        )
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
        """Applies everything before `targets` (the next offsets of the live consumer), and nothing from there on."""
        await self._assign(targets)
        while waiting := [place for place, target in targets.items() if await self._position(place, target) < target]:
            fetched = await self._consumer.getmany(*waiting, timeout_ms=_POLL_MS, max_records=RECORDS_MAX)
            records: list[Any] = []
            for place, found in fetched.items():
                wanted = [record for record in found if record.offset < targets[place]]
                if len(wanted) < len(found):
                    self._consumer.seek(place, targets[place])
                records += wanted
            if records:
                await self._apply(connection, [read for record in records if (read := self._read(record)) is not None])

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
