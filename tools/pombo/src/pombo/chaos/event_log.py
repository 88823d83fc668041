"""Everything that stands in Kafka, read on from where the last run ended: what the audit wants to know of it."""

from collections import Counter
from collections.abc import Collection, Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any
from uuid import UUID

import orjson
from aiokafka import AIOKafkaConsumer, ConsumerRecord, TopicPartition

from chassis.lifecycle import stop_client
from contracts.messages import MessageAmbiguous
from contracts.topics import ALL, MESSAGE_SENT, WEBHOOK_RECEIVED
from pombo.demo.collect import named_ids

POLL_MS = 500


@dataclass(slots=True)
class EventLog:
    """`words`: by account, a word of its texts. Positions and stream versions go on over the runs of one stack."""

    words: Mapping[str, bytes]
    positions: dict[TopicPartition, int] = field(default_factory=dict)
    versions: dict[str, set[int]] = field(default_factory=dict)
    raw_counts: Counter[str] = field(default_factory=Counter)
    ambiguous: set[tuple[str, int]] = field(default_factory=set)
    foreign: list[str] = field(default_factory=list)

    def begin_run(self) -> None:
        self.raw_counts.clear()
        self.ambiguous.clear()
        self.foreign.clear()

    async def read_on(self, bootstrap: str, wanted: frozenset[str]) -> None:
        """To the present end of every topic. `wanted`: message ids whose raw webhooks are counted."""
        names = [topic.name for topic in ALL]
        # Without a group it is given every partition.
        consumer = AIOKafkaConsumer(
            *names, bootstrap_servers=bootstrap, group_id=None, enable_auto_commit=False, auto_offset_reset="earliest"
        )
        await consumer.start()
        try:
            places = sorted(consumer.assignment())
            for place in places:
                if place in self.positions:
                    consumer.seek(place, self.positions[place])
            ends = await consumer.end_offsets(places)
            while waiting := [place for place in places if await consumer.position(place) < ends[place]]:
                found = await consumer.getmany(*waiting, timeout_ms=POLL_MS, max_records=5000)
                for place, records in found.items():
                    self._take(place.topic, records, wanted)
            self.positions = {place: await consumer.position(place) for place in places}
        finally:
            await stop_client(consumer)

    def gaps(self) -> list[str]:
        """Streams whose versions are not 1..n."""
        return [
            f"stream {stream}: {len(versions)} different versions up to {max(versions)}"
            for stream, versions in self.versions.items()
            if len(versions) != max(versions)
        ]

    @property
    def stream_events(self) -> int:
        return sum(len(versions) for versions in self.versions.values())

    def _take(self, topic: str, records: Iterable[ConsumerRecord[Any, Any]], wanted: frozenset[str]) -> None:
        for record in records:
            if topic == WEBHOOK_RECEIVED.name:
                self.raw_counts.update(named_ids(record.value, wanted))
                continue
            headers = dict(record.headers)
            if "ce_sequence" in headers:
                stream = headers["ce_subject"].decode()
                self.versions.setdefault(stream, set()).add(int(headers["ce_sequence"]))
            if topic == MESSAGE_SENT.name and headers.get("ce_type") == MessageAmbiguous.__name__.encode():
                dispatch = headers["ce_subject"].decode()
                self.ambiguous.add((dispatch, orjson.loads(record.value)["attempt"]))
            self._look_for_others(topic, headers, record.value)

    def _look_for_others(self, topic: str, headers: Mapping[str, bytes], value: bytes | None) -> None:
        account = headers.get("ce_accountid", b"").decode()
        if not account or value is None:
            return
        for owner, word in self.words.items():
            if owner != account and word in value:
                self.foreign.append(f"a record of {topic} of account {account} has a word of {owner}")


async def end_offsets(bootstrap: str, places: Collection[TopicPartition]) -> dict[TopicPartition, int]:
    """Where each partition ends now."""
    consumer = AIOKafkaConsumer(bootstrap_servers=bootstrap, group_id=None, enable_auto_commit=False)
    await consumer.start()
    try:
        ends: dict[TopicPartition, int] = await consumer.end_offsets(places)
        return ends
    finally:
        await stop_client(consumer)


def by_dispatch(ambiguous: Iterable[tuple[str, int]]) -> dict[UUID, int]:
    return dict(Counter(UUID(dispatch) for dispatch, _ in ambiguous))
