"""Reads message-queued and hands each message to its instance's lane; commits what is finished.

At least once from Kafka: an offset is committed when everything before it is settled and told. What is read again
meets the ledger, which refuses a second send and repeats the outcome.
"""

import asyncio
import contextlib
from collections.abc import Callable, Coroutine
from dataclasses import dataclass, field
from functools import lru_cache
from typing import Any
from uuid import UUID

from aiokafka import AIOKafkaConsumer, ConsumerRebalanceListener, TopicPartition
from aiokafka.coordinator.assignors.sticky.sticky_assignor import StickyPartitionAssignor
from aiokafka.errors import KafkaError

from chassis.health import Readiness
from chassis.kafka import Producer, Unreadable, park, received
from chassis.lifecycle import CONSUMER_RETRY_MS
from chassis.settings import KafkaSettings
from chassis.telemetry import log
from contracts.messages import MessageQueued
from contracts.topics import MESSAGE_QUEUED
from sender.instance.ownership import lease_from
from sender.lane.lane import Lane
from sender.offsets import Watermark
from sender.settings import Settings
from sender.work import Work

GROUP = "sender"
POLL_MS = 100
BATCH_MAX = 1000
READ_AT_ONCE = 16  # records; reading a thousand takes longer than a departure may be late
CREDIT_S = 5.0
OPEN_MIN = 1000
HANDLED = frozenset({MessageQueued.__name__})


@dataclass(slots=True)
class Partition:
    """What is under way of one partition."""

    watermark: Watermark = field(default_factory=Watermark)
    lanes: set[UUID] = field(default_factory=set)
    paused: bool = False
    closed: bool = False


class Worker(ConsumerRebalanceListener):  # type: ignore[misc]
    """`make_lane` builds a lane; `spawn` runs a task that outlives it."""

    def __init__(
        self,
        settings: Settings,
        producer: Producer,
        make_lane: Callable[[UUID, UUID], Lane],
        *,
        ready: Readiness,
        clock: Callable[[], float],
        crash_point: Callable[[str], None],
    ) -> None:
        self.lanes: dict[UUID, Lane] = {}
        self._settings = settings
        self._producer = producer
        self._make_lane = make_lane
        self._ready = ready
        self._clock = clock
        self._crash_point = crash_point
        self._consumer: Any = None
        self._partitions: dict[TopicPartition, Partition] = {}
        self._running: dict[UUID, asyncio.Task[None]] = {}
        self._spawn: Callable[[Coroutine[Any, Any, None]], asyncio.Task[None]]

    @property
    def waiting(self) -> int:
        return sum(lane.waiting for lane in self.lanes.values())

    def finish(self, work: Work) -> None:
        """Nothing about this record can be lost any more."""
        partition = self._partitions.get(work.position[:2])  # equal as a tuple
        if partition is not None:
            partition.watermark.finish(work.position[2])

    async def run(self, stopping: asyncio.Event, spawn: Callable[[Coroutine[Any, Any, None]], Any]) -> None:
        """Until `stopping`; then lanes give their leases back. Waits out Kafka."""
        self._spawn = spawn
        while not stopping.is_set():
            self._consumer = _consumer(self._settings.kafka)
            try:
                self._consumer.subscribe([MESSAGE_QUEUED.name], listener=self)
                await self._consumer.start()
                await self._read(stopping)
                await self._close(set(self._partitions))
                await self._commit()
            except KafkaError as error:
                log.warning("queue_interrupted", error=f"{type(error).__name__}: {error}")
                await self._close(set(self._partitions))
                await asyncio.sleep(1)
            finally:
                self._ready.set("queue", False)
                with contextlib.suppress(KafkaError, TimeoutError):
                    async with asyncio.timeout(5):
                        await self._consumer.stop()
                self._partitions.clear()

    async def _read(self, stopping: asyncio.Event) -> None:
        commit_at_s = self._clock() + self._settings.commit_s
        while not stopping.is_set():
            fetched = await self._consumer.getmany(timeout_ms=POLL_MS, max_records=BATCH_MAX)
            for partition, records in [(self._partitions.get(source), records) for source, records in fetched.items()]:
                await self._take_all(partition, records)
            self._pause_full()
            if self._clock() >= commit_at_s:
                commit_at_s = self._clock() + self._settings.commit_s
                await self._commit()

    async def _take_all(self, partition: Partition | None, records: list[Any]) -> None:
        """What else is due goes between. A partition that is revoked meanwhile is read again by its next owner."""
        for nth, record in enumerate(records, 1):
            if partition is None or partition.closed:
                return
            await self._take(partition, record)
            if nth % READ_AT_ONCE == 0:
                await asyncio.sleep(0)

    async def _take(self, partition: Partition, record: Any) -> None:
        if not partition.watermark.begin(record.offset):
            return
        try:
            read = received(record, HANDLED)
            work = None if read is None else _work(read, record.value, self._clock())
        except Unreadable as error:
            await park(self._producer, record, group=GROUP, reason=str(error))
            work = None
        if work is None:
            partition.watermark.finish(record.offset)
            return
        self._lane(work, partition).put(work)

    def _lane(self, work: Work, partition: Partition) -> Lane:
        lane = self.lanes.get(work.instance_id)
        if lane is None:
            lane = self.lanes[work.instance_id] = self._make_lane(work.instance_id, work.account_id)
            self._running[work.instance_id] = self._spawn(lane.run())
        partition.lanes.add(work.instance_id)
        return lane

    def _pause_full(self) -> None:
        """Fetching pauses above twice what the partition's lanes may have released, never by age."""
        for source, partition in self._partitions.items():
            credit = sum(self.lanes[key].credit(CREDIT_S) for key in partition.lanes if key in self.lanes)
            full = partition.watermark.open > max(OPEN_MIN, 2 * credit)
            if full != partition.paused:
                (self._consumer.pause if full else self._consumer.resume)(source)
                partition.paused = full

    async def _commit(self) -> None:
        offsets = {}
        for source, partition in self._partitions.items():
            if (offset := partition.watermark.advance()) is not None:
                offsets[source] = offset
        if not offsets:
            return
        self._crash_point("before_offset_commit")
        try:
            await self._consumer.commit(offsets)
        except KafkaError as error:
            # Read again later and told again by the ledger.
            log.warning("offsets_not_committed", error=type(error).__name__)

    async def on_partitions_revoked(self, revoked: set[TopicPartition]) -> None:
        await self._close(revoked)
        await self._commit()
        for source in revoked:
            self._partitions.pop(source, None)

    async def on_partitions_assigned(self, assigned: set[TopicPartition]) -> None:
        for source in assigned:
            self._partitions[source] = Partition()
        self._ready.set("queue", True)

    async def _close(self, sources: set[TopicPartition]) -> None:
        """Lanes stop at once; their leases go back as soon as their last committed intent has left."""
        closing = [self._partitions[source] for source in sources if source in self._partitions]
        for partition in closing:
            partition.closed = True
        instances = {key for partition in closing for key in partition.lanes}
        running = []
        for key in instances & self.lanes.keys():
            self.lanes.pop(key).close()
            running.append(self._running.pop(key))
        if running:
            await asyncio.wait(running, timeout=self._settings.intent_age_max_s + 1)

    async def renew(self, stopping: asyncio.Event, owners: Any) -> None:
        """Proves and prolongs all leases together. A lane that lost its lease takes it anew, with a higher epoch."""
        while not stopping.is_set() or self.lanes:
            held = {key: lane.lease.epoch for key, lane in self.lanes.items() if lane.lease is not None}
            asked_s = self._clock()
            try:
                renewed = await owners.renew(held)
            except Exception as error:  # noqa: BLE001  the edge of the loop; leases lapse by their own deadline
                log.warning("leases_not_renewed", error=type(error).__name__)
            else:
                for key, epoch in held.items():
                    lane = self.lanes.get(key)
                    if lane is None or lane.lease is None or lane.lease.epoch != epoch:
                        continue
                    lane.lease = (
                        lease_from(epoch, asked_s, self._settings.lease_s, self._settings.lease_margin_s)
                        if key in renewed
                        else None
                    )
                    lane.wake()
            await asyncio.sleep(self._settings.renew_s)


def _work(read: Any, value: bytes, now_s: float) -> Work | None:
    message = read.event
    assert isinstance(message, MessageQueued)
    try:
        instance_id = _instance_id(read.envelope.subject)
    except ValueError as error:
        raise Unreadable(f"ce_subject is no instance id: {error}") from error
    if read.envelope.account_id is None:
        raise Unreadable("a message without account")
    return Work(
        account_id=read.envelope.account_id,
        instance_id=instance_id,
        message=message,
        value=value,
        position=(read.topic, read.partition, read.offset),
        waits_since_s=now_s,
        traceparent=read.envelope.traceparent,
        correlation_id=read.envelope.correlation_id,
    )


@lru_cache(maxsize=4096)  # few numbers, each with many messages
def _instance_id(subject: str) -> UUID:
    return UUID(subject)


def _consumer(settings: KafkaSettings) -> AIOKafkaConsumer:
    return AIOKafkaConsumer(
        bootstrap_servers=settings.bootstrap,
        group_id=GROUP,
        group_instance_id=settings.group_instance_id,
        client_id=GROUP,
        enable_auto_commit=False,
        auto_offset_reset="earliest",
        partition_assignment_strategy=(StickyPartitionAssignor,),
        session_timeout_ms=settings.session_timeout_ms,
        heartbeat_interval_ms=max(300, settings.session_timeout_ms // 6),
        max_poll_interval_ms=300_000,
        metadata_max_age_ms=30_000,
        retry_backoff_ms=CONSUMER_RETRY_MS,
    )
