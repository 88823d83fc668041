"""The inbox: consumers whose effect is in PostgreSQL keep their offsets there, in the effect's own transaction.

Kafka's group only says who reads which partition. An offset moves by compare-and-set, so a consumer that lost its
partitions without knowing it cannot apply a record a second time.
"""

import asyncio
import contextlib
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass, field
from typing import Any

from aiokafka import AIOKafkaConsumer, ConsumerRebalanceListener, TopicPartition
from aiokafka.errors import KafkaError
from sqlalchemy.ext.asyncio import AsyncConnection

from chassis import kafka
from chassis.database import Database, driver, is_passing
from chassis.health import Readiness
from chassis.kafka import Producer, Received, Unreadable
from chassis.lifecycle import CONSUMER_RETRY_MS, backoff_s, crash_point, pause, stop_client
from chassis.settings import KafkaSettings
from chassis.telemetry import counter, gauge, log, mark_applied
from contracts.envelope import Event
from contracts.topics import Topic

TRIES = 3  # of a record that fails alone, before it is parked
PARKED_IN_A_ROW_MAX = 50
_POLL_MS = 200
_TELL_KAFKA_S = 5.0
_INSERT = """
INSERT INTO consumer_offset (consumer_group, topic, partition, next_offset)
SELECT $1, topic, partition, 0 FROM unnest($2::text[], $3::int[]) AS k(topic, partition) ON CONFLICT DO NOTHING
"""
_SELECT = "SELECT topic, partition, next_offset FROM consumer_offset WHERE consumer_group = $1 AND topic = ANY($2)"
_MOVE = """
UPDATE consumer_offset AS o SET next_offset = m.next_offset
FROM unnest($2::text[], $3::int[], $4::bigint[], $5::bigint[]) AS m(topic, partition, expected, next_offset)
WHERE o.consumer_group = $1 AND o.topic = m.topic AND o.partition = m.partition AND o.next_offset = m.expected
"""

Handle = Callable[[AsyncConnection, Sequence[Received]], Awaitable[None]]
_Place = tuple[str, int, int]


@dataclass(frozen=True, slots=True)
class Subscription:
    """At least once from Kafka, effect once in PostgreSQL. A lone record is handled at once; fetches are `linger_ms`
    apart, and none starts before the last is handled: it would wait for idle partitions and hold up the busy ones."""

    group: str
    topics: tuple[Topic, ...]
    handles: tuple[type[Event], ...]
    batch_max: int = 500
    linger_ms: int = 50


class TooManyParked(Exception):
    """Many records in a row could not be handled: the fault is rather here than in them. Nothing more is skipped."""


class _Fenced(Exception):
    """The stored offset is not the expected one: another consumer has moved it."""


def create_offsets() -> list[str]:
    """For a migration of the service's schema."""
    return [
        """
        CREATE TABLE consumer_offset (
          consumer_group text NOT NULL, topic text NOT NULL, partition int NOT NULL,
          next_offset bigint NOT NULL CHECK (next_offset >= 0), PRIMARY KEY (consumer_group, topic, partition)
        )
        """
    ]


async def consume(
    subscription: Subscription,
    *,
    settings: KafkaSettings,
    database: Database,
    producer: Producer,
    handle: Handle,
    after: Callable[[], Awaitable[None]] | None = None,
    ready: Readiness | None = None,
    stopping: asyncio.Event,
) -> None:
    """Reads until `stopping`; waits out PostgreSQL and Kafka. Raises TooManyParked."""
    inbox = _Inbox(subscription, database, producer, handle, after, ready or Readiness(), stopping)
    inbox.leave()
    failures = 0
    while not stopping.is_set():
        inbox.consumer = consumer = _consumer(subscription.group, settings)
        try:
            consumer.subscribe([topic.name for topic in subscription.topics], listener=inbox)
            await consumer.start()
            failures = 0
            await inbox.read()
        except Exception as error:
            if not (is_passing(error) or kafka.passes(error)):
                raise
            failures += 1
            log.warning("consumer_interrupted", group=subscription.group, error=type(error).__name__)
            await pause(stopping, backoff_s(failures))
        finally:
            inbox.leave()
            await stop_client(consumer)


@dataclass(slots=True, eq=False)
class _Inbox(ConsumerRebalanceListener):  # type: ignore[misc]
    subscription: Subscription
    database: Database
    producer: Producer
    handle: Handle
    after: Callable[[], Awaitable[None]] | None
    ready: Readiness
    stopping: asyncio.Event
    consumer: Any = None
    joined: bool = False
    positions: dict[TopicPartition, int] = field(default_factory=dict)  # as stored; none = to be read again
    parked_in_a_row: int = 0
    hopeless: dict[_Place, str] = field(default_factory=dict)  # of this batch, failed alone: why
    parked: set[_Place] = field(default_factory=set)  # of this batch: not again if the transaction is tried again

    def leave(self) -> None:
        self.positions.clear()
        self.joined = False
        self.ready.set(f"inbox {self.subscription.group}", False)

    async def on_partitions_revoked(self, revoked: object) -> None:  # noqa: ARG002
        self.positions.clear()

    async def on_partitions_assigned(self, assigned: object) -> None:  # noqa: ARG002
        # Only the reading loop positions, so a batch in flight finds its positions gone, never other ones.
        self.positions.clear()
        self.joined = True

    async def read(self) -> None:
        clock = asyncio.get_running_loop().time
        next_at, tell_at, batch_max = 0.0, clock() + _TELL_KAFKA_S, self.subscription.batch_max
        held: frozenset[TopicPartition] = frozenset()
        while not self.stopping.is_set():
            if missing := self.consumer.assignment() - self.positions.keys():
                await self._position(missing)
            self.ready.set(f"inbox {self.subscription.group}", self.joined)
            fetched = await self.consumer.getmany(timeout_ms=0 if held else _POLL_MS, max_records=batch_max)
            if fetched and not held:
                held, next_at = self.consumer.assignment(), clock() + self.subscription.linger_ms / 1000
                self.consumer.pause(*held)
            if batch := self._in_order(fetched):
                await self._apply_all(batch)
            if held and sum(map(len, fetched.values())) < batch_max:
                await pause(self.stopping, next_at - clock())
                self.consumer.resume(*(held & self.consumer.assignment()))
                held = frozenset()
            if clock() >= tell_at:
                tell_at = clock() + _TELL_KAFKA_S
                await self._tell_kafka()
        await self._tell_kafka()

    async def _position(self, partitions: set[TopicPartition]) -> None:
        """Seeks each partition to its stored offset; to the start where there is none."""
        keys = self.subscription.group, [p.topic for p in partitions], [p.partition for p in partitions]
        ends = await self.consumer.end_offsets(partitions)
        async with self.database.transaction() as connection:
            raw = await driver(connection)
            await raw.execute(_INSERT, *keys)
            rows = await raw.fetch(_SELECT, *keys[:2])
            stored = {TopicPartition(row["topic"], row["partition"]): row["next_offset"] for row in rows}
            cut = {p: (stored[p], 0) for p in partitions if stored[p] > ends[p]}
            if cut:
                # The log is shorter than what was read of it: Kafka was restored, or the topic made anew.
                log.error("topic_was_cut", group=keys[0], topics=sorted({p.topic for p in cut}))
                await self._move(connection, cut)
        for partition in partitions & self.consumer.assignment():
            self.positions[partition] = 0 if partition in cut else stored[partition]
            self.consumer.seek(partition, self.positions[partition])

    def _in_order(self, fetched: dict[TopicPartition, list[Any]]) -> list[Any]:
        """By topic as subscribed, partition, offset; nothing of partitions whose position is not known."""
        order = [topic.name for topic in self.subscription.topics]
        known = sorted(fetched.keys() & self.positions.keys(), key=lambda p: (order.index(p.topic), p.partition))
        return [record for p in known for record in fetched[p] if record.offset >= self.positions[p]]

    async def _apply_all(self, records: list[Any]) -> None:
        """Until all are applied or parked, the partitions are lost, or the service stops."""
        pending = [records]  # consecutive parts, the next one last
        outages = tries = 0
        while pending and not self.stopping.is_set():
            part = pending[-1]
            try:
                await self._apply(part)
            except _Fenced:
                self.positions.clear()
                break
            except Exception as error:
                if isinstance(error, TooManyParked):
                    raise
                if is_passing(error) or kafka.passes(error):
                    outages += 1
                    log.warning("batch_waits", group=self.subscription.group, error=type(error).__name__)
                    await pause(self.stopping, backoff_s(outages))
                elif len(part) > 1:
                    pending[-1:] = [part[len(part) // 2 :], part[: len(part) // 2]]
                elif _place(part[0]) in self.hopeless:
                    raise
                elif (tries := tries + 1) < TRIES:
                    await pause(self.stopping, backoff_s(tries))
                else:
                    log.error("record_failed", group=self.subscription.group, exc_info=error)
                    self.hopeless[_place(part[0])] = f"{type(error).__name__}: {error}"
            else:
                pending.pop()
                outages = tries = 0
        self.hopeless.clear()
        self.parked.clear()

    async def _apply(self, records: list[Any]) -> None:
        """One transaction: the offsets first (a zombie waits on their rows and then fails), then the effect."""
        readable, in_a_row = await self._read_or_park(records)
        moves: dict[TopicPartition, tuple[int, int]] = {}
        for record in records:
            partition = TopicPartition(record.topic, record.partition)
            if partition not in self.positions:
                raise _Fenced
            moves[partition] = (self.positions[partition], record.offset + 1)
        async with self.database.transaction() as connection:
            await self._move(connection, moves)
            if readable:
                await self.handle(connection, readable)
            crash_point("inbox_handled")
        crash_point("inbox_committed")
        mark_applied(self.subscription.group, (one.envelope for one in readable))
        self.parked_in_a_row = in_a_row
        consumed = counter("pombo_records_consumed_total", "Records handled or passed over.", ("group",))
        consumed.labels(self.subscription.group).inc(len(records))
        for partition in moves.keys() & self.positions.keys():
            self.positions[partition] = moves[partition][1]
        if self.after is not None:
            await self.after()

    async def _read_or_park(self, records: list[Any]) -> tuple[list[Received], int]:
        """What can be handled, and how many were parked in a row by now. Raises TooManyParked."""
        readable, in_a_row, group = [], self.parked_in_a_row, self.subscription.group
        types = frozenset(event.__name__ for event in self.subscription.handles)
        for nth, record in enumerate(records, 1):
            if nth % 32 == 0:
                await asyncio.sleep(0)  # what else is due goes between
            try:
                if _place(record) in self.hopeless:
                    raise Unreadable(self.hopeless[_place(record)])
                if (read := kafka.received(record, types)) is not None:
                    readable.append(read)
                    in_a_row = 0
            except Unreadable as error:
                if (in_a_row := in_a_row + 1) > PARKED_IN_A_ROW_MAX:
                    raise TooManyParked(f"{group} stopped at {_place(record)}; the last one: {error}") from error
                if _place(record) not in self.parked:
                    await kafka.park(self.producer, record, group=group, reason=str(error))
                    self.parked.add(_place(record))
        return readable, in_a_row

    async def _move(self, connection: AsyncConnection, moves: dict[TopicPartition, tuple[int, int]]) -> None:
        """Compare-and-set of the rows of these partitions, which it locks until the transaction ends."""
        raw = await driver(connection)
        columns = list(zip(*((p.topic, p.partition, *move) for p, move in moves.items()), strict=True))
        if await raw.execute(_MOVE, self.subscription.group, *columns) != f"UPDATE {len(moves)}":
            raise _Fenced

    async def _tell_kafka(self) -> None:
        """Only for tools that show lag; what counts is the stored offset."""
        lag = gauge("pombo_consumer_lag_records", "Records not read yet.", ("group", "topic", "partition"))
        for partition, position in self.positions.items():
            behind = (self.consumer.highwater(partition) or position) - position
            lag.labels(self.subscription.group, partition.topic, partition.partition).set(behind)
        if self.positions:
            with contextlib.suppress(KafkaError, TimeoutError):
                async with asyncio.timeout(1):
                    await self.consumer.commit(dict(self.positions))


def _consumer(group: str, settings: KafkaSettings) -> Any:
    return AIOKafkaConsumer(
        bootstrap_servers=settings.bootstrap,
        group_id=group,
        group_instance_id=settings.group_instance_id,
        enable_auto_commit=False,
        auto_offset_reset="earliest",
        session_timeout_ms=settings.session_timeout_ms,
        heartbeat_interval_ms=settings.session_timeout_ms // 4,
        metadata_max_age_ms=10_000,
        retry_backoff_ms=CONSUMER_RETRY_MS,
        fetch_max_wait_ms=250,
    )


def _place(record: Any) -> _Place:
    return record.topic, record.partition, record.offset
