"""The log of some topics, read in order of time from positions of this process's own: outside Kafka's groups.

By librdkafka, which fetches and unpacks in threads of its own, with a consumer for each topic: what topics say of one
row was written at one time, and is to come into one batch.
"""

import asyncio
import logging
from collections.abc import Mapping, Sequence
from typing import Any, Final

import confluent_kafka
from aiokafka import TopicPartition
from confluent_kafka import KafkaError, KafkaException

from chassis.settings import KafkaSettings
from contracts.topics import Topic

# Read in one go, some hundredths of a second: meanwhile the batch before is not given its next statement.
_RECORDS_AT_ONCE: Final = 500
_WAIT_S: Final = 0.5

Offsets = dict[TopicPartition, int]


class LogIsShorter(Exception):
    """A topic ends before what the live read models have read of it: Kafka was restored, or the topic made anew."""


class Log:
    """Positions are next offsets; a partition that was not begun has none and begins with its first record."""

    def __init__(self, topics: Sequence[Topic], settings: KafkaSettings, positions: Offsets) -> None:
        self._consumers = {topic.name: _consumer(settings) for topic in topics}
        self._positions = dict(positions)
        self._fetched: set[TopicPartition] = set()
        self._read_until_ms: dict[TopicPartition, int] = {}

    async def close(self) -> None:
        for consumer in self._consumers.values():
            await asyncio.to_thread(consumer.close)

    def positions(self) -> Offsets:
        return dict(self._positions)

    def behind(self, targets: Mapping[TopicPartition, int]) -> int:
        """Records, at most, that are missing up to `targets`."""
        return sum(max(0, target - self._positions.get(place, 0)) for place, target in targets.items())

    async def read(self, targets: Mapping[TopicPartition, int]) -> list[Any]:
        """Some of what is before `targets`, from the topic that is furthest back; empty only if nothing is missing.

        Raises KafkaException, LogIsShorter. While Kafka is away it waits.
        """
        while missing := [place for place, target in targets.items() if self._positions.get(place, 0) < target]:
            self._fetch(missing)
            hindmost = min(missing, key=lambda place: self._read_until_ms.get(place, 0))
            consumer = self._consumers[hindmost.topic]
            fetched = consumer.consume(_RECORDS_AT_ONCE, 0)
            if not fetched:
                fetched = await asyncio.to_thread(consumer.consume, 1, _WAIT_S)
            if records := self._take(fetched, targets):
                return records
        return []

    def _fetch(self, missing: Sequence[TopicPartition]) -> None:
        for place in missing:
            if place not in self._fetched:
                self._fetched.add(place)
                start = self._positions.get(place, confluent_kafka.OFFSET_BEGINNING)
                self._consumers[place.topic].incremental_assign(
                    [confluent_kafka.TopicPartition(place.topic, place.partition, start)]
                )

    def _take(self, fetched: Sequence[Any], targets: Mapping[TopicPartition, int]) -> list[Any]:
        """What is before the targets; a partition that has reached its own is fetched no further."""
        taken = []
        for message in fetched:
            place = TopicPartition(message.topic(), message.partition())
            offset, target = message.offset(), targets.get(place, 0)
            if (error := message.error()) is not None:
                if error.code() != KafkaError._PARTITION_EOF:
                    raise KafkaException(error)
                # Where a compacted topic's last records are gone, no record tells that the target is reached.
                if offset < target:
                    raise LogIsShorter(
                        f"Kafka's {place.topic} ends at offset {offset} of partition {place.partition}, the live read"
                        f" models have read it to {target}: it was restored or made anew. Restart projections, which"
                        " then reads it from its beginning, and rebuild again."
                    )
                self._positions[place] = target
            elif offset < target:
                self._positions[place] = offset + 1
                self._read_until_ms[place] = message.timestamp()[1]
                taken.append(message)
            else:
                self._positions[place] = target
            if place in self._fetched and self._positions[place] >= target:
                self._fetched.remove(place)
                self._consumers[place.topic].incremental_unassign(
                    [confluent_kafka.TopicPartition(place.topic, place.partition)]
                )
        return taken


def _consumer(settings: KafkaSettings) -> Any:
    return confluent_kafka.Consumer(
        {
            "bootstrap.servers": settings.bootstrap,
            "group.id": "projections.rebuild",  # asked for by the library; nothing joins it or commits to it
            "enable.auto.commit": False,
            "enable.partition.eof": True,
            "auto.offset.reset": "earliest",
            "fetch.message.max.bytes": 256 * 1024,
            "queued.max.messages.kbytes": 8 * 1024,
            "fetch.wait.max.ms": 20,
        },
        logger=logging.getLogger("librdkafka"),
    )
