"""Kafka: records in and out with their envelope, the producer, the topics, and where unreadable records go."""

import asyncio
import logging
from collections import Counter
from collections.abc import Sequence
from datetime import datetime
from typing import Any, NamedTuple
from uuid import UUID, uuid4

import confluent_kafka
from aiokafka import errors
from aiokafka.admin import AIOKafkaAdminClient, NewTopic
from confluent_kafka import KafkaException

from chassis.settings import KafkaSettings
from chassis.telemetry import counter, current_traceparent, log
from contracts import ids
from contracts.codec import UNREADABLE, encode, read_record
from contracts.envelope import Envelope, Event, Headers, write_headers
from contracts.topics import PARKED, Topic

BATCH_BYTES = 256 * 1024
RECORD_BYTES_MAX = 1_000_000  # the broker's default limit is 1 MiB a batch; what is parked carries some headers more
PARKED_BYTES_MAX = 2 * 1024 * 1024
REASON_LENGTH_MAX = 1000
DELIVERY_MS = 15_000
QUEUE_KIB = 64 * 1024
_POLL_S = 0.003


class Outgoing(NamedTuple):
    topic: Topic
    key: str | None
    event: Event
    envelope: Envelope


class Encoded(NamedTuple):
    """A record as Kafka takes it: what the outbox stores and what is parked."""

    topic: str
    key: bytes | None
    value: bytes
    headers: Headers


class Received(NamedTuple):
    topic: str
    partition: int
    offset: int
    key: str | None
    timestamp_ms: int
    envelope: Envelope
    event: Event


class Unreadable(Exception):
    """A record that no try will make readable: it is parked with this reason."""


class TooLarge(ValueError):
    """A record above RECORD_BYTES_MAX: split what it carries, Kafka would refuse it."""


def outgoing(
    topic: Topic,
    key: str | None,
    event: Event,
    *,
    source: str,
    account_id: UUID | None,
    time: datetime,
    event_id: UUID | None = None,
    correlation_id: str | None = None,
    causation_id: UUID | None = None,
    traceparent: str | None = None,
    stream_version: int | None = None,
) -> Outgoing:
    """`event_id`: give the derived one wherever the fact is derived. In an event stream the version derives it."""
    if type(event) not in topic.events:
        raise ValueError(f"{type(event).__name__} is not an event of topic {topic.name}")
    if time.tzinfo is None:
        raise ValueError("time has no offset")
    if event_id is None:
        streamed = key is not None and stream_version is not None
        event_id = ids.event_id(source, f"{topic.name}|{key}", f"version:{stream_version}") if streamed else uuid4()
    envelope = Envelope(
        id=event_id,
        type=type(event).__name__,
        version=event.VERSION,
        source=source,
        subject=key or "",
        time=time,
        account_id=account_id,
        correlation_id=correlation_id,
        causation_id=causation_id,
        traceparent=traceparent or current_traceparent(),
        stream_version=stream_version,
    )
    return Outgoing(topic, key, event, envelope)


def encoded(record: Outgoing) -> Encoded:
    """Raises TooLarge."""
    value = encode(record.event)
    if len(value) > RECORD_BYTES_MAX:
        raise TooLarge(f"{record.envelope.type} of {len(value)} bytes on {record.topic.name}")
    key = None if record.key is None else record.key.encode()
    return Encoded(record.topic.name, key, value, write_headers(record.envelope))


def received(record: Any, handles: frozenset[str] | None = None) -> Received | None:
    """Reads an aiokafka ConsumerRecord; None if its type is known but not in `handles`. Raises Unreadable."""
    try:
        if (read := read_record(record.headers, record.value or b"", handles)) is None:
            return None
        key = None if record.key is None else record.key.decode()
    except (*UNREADABLE, UnicodeDecodeError) as error:
        raise Unreadable(f"{type(error).__name__}: {error}") from error
    return Received(record.topic, record.partition, record.offset, key, record.timestamp, *read)


class Producer:
    """acks=all, idempotent, lz4. librdkafka sends from a thread of its own; what it tells is read on the loop.
    Bounded: with QUEUE_KIB not yet acknowledged, `publish` waits before it takes more."""

    def __init__(self, settings: KafkaSettings, *, client_id: str = "pombo") -> None:
        self._settings = settings
        self._client_id = client_id
        self._client: Any = None
        self._polled: set[Any] = set()

    async def start(self, *, needs_broker: bool = True) -> None:
        """Raises KafkaError if no broker answers and one is needed; else it is connected to once it is there."""
        client = self._new_client()
        if needs_broker:
            try:
                await asyncio.to_thread(client.list_topics, timeout=10)
            except KafkaException as error:
                raise _translated(error.args[0]) from error
        self._client = client

    async def stop(self) -> None:
        """Sends what is buffered, for at most 5 s."""
        client, self._client = self._client, None
        if client is not None:
            await asyncio.to_thread(client.flush, 5)

    async def publish(self, records: Sequence[Outgoing]) -> None:
        """Enqueues all, then waits once for all acknowledgements; while Kafka is away it waits.

        Raises KafkaError if any was refused or not acknowledged in DELIVERY_MS, TooLarge before anything is sent.
        Cancelled, records may still go out.
        """
        await self.publish_encoded([encoded(record) for record in records])

    async def publish_encoded(self, records: Sequence[Encoded]) -> None:
        if not records:
            return
        if self._client is None:
            self._client = self._new_client()
        client = self._client
        acknowledgements = _Acknowledgements(len(records))
        for record in records:
            while not _enqueued(client, record, acknowledgements):
                client.poll(0)
                await asyncio.sleep(_POLL_S)
        self._poll_after(self._settings.linger_ms / 1000, client)
        try:
            await acknowledgements.all_told
        except errors.KafkaError:
            if acknowledgements.fatal and self._client is client:
                self._client = None  # the next publish starts with a new producer id
            raise
        published = counter("pombo_records_published_total", "Records that Kafka acknowledged.", ("topic",))
        for topic, count in Counter(record.topic for record in records).items():
            published.labels(topic).inc(count)

    def _poll_after(self, delay_s: float, client: Any) -> None:
        if client not in self._polled:
            self._polled.add(client)
            asyncio.get_running_loop().call_later(delay_s + _POLL_S, self._poll, client)

    def _poll(self, client: Any) -> None:
        """Tells the waiting what became of their records; comes again for as long as any is on its way."""
        self._polled.remove(client)
        client.poll(0)
        if len(client):
            self._poll_after(0, client)

    def _new_client(self) -> Any:
        return confluent_kafka.Producer(
            {
                "bootstrap.servers": self._settings.bootstrap,
                "client.id": self._client_id,
                "acks": "all",
                "enable.idempotence": True,
                "compression.type": "lz4",
                "partitioner": "murmur2_random",
                "linger.ms": self._settings.linger_ms,
                "batch.size": BATCH_BYTES,
                "message.max.bytes": PARKED_BYTES_MAX,
                "delivery.timeout.ms": DELIVERY_MS,
                "queue.buffering.max.kbytes": QUEUE_KIB,
                "reconnect.backoff.max.ms": 500,
            },
            logger=logging.getLogger("librdkafka"),
        )


class _Acknowledgements:
    """What Kafka said about the records of one publish; `all_told` ends with the last of them."""

    def __init__(self, count: int) -> None:
        self.all_told: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self.fatal = False
        self._missing = count
        self._error: errors.KafkaError | None = None

    def told(self, error: Any, _message: object) -> None:
        if error is not None:
            self.fatal |= error.fatal()
            self._error = _translated(error)
        self._missing -= 1
        if self._missing or self.all_told.done():  # done: the caller was cancelled
            return
        if self._error is None:
            self.all_told.set_result(None)
        else:
            self.all_told.set_exception(self._error)


def _enqueued(client: Any, record: Encoded, acknowledgements: _Acknowledgements) -> bool:
    """False if the queue is full: to be tried again when some of it was acknowledged."""
    try:
        client.produce(
            record.topic, record.value, record.key, headers=record.headers, on_delivery=acknowledgements.told
        )
    except BufferError:
        return False
    except KafkaException as error:
        acknowledgements.told(error.args[0], None)
    return True


def _translated(error: Any) -> errors.KafkaError:
    """As the exception that readers raise too: callers know one family."""
    kind = errors.MessageSizeTooLargeError if error.name() == "MSG_SIZE_TOO_LARGE" else errors.KafkaError
    return kind(f"{error.name()}: {error.str()}")


async def park(producer: Producer, record: Any, *, group: str, reason: str) -> None:
    """Writes what `group` could not read or handle to `parked`: original bytes and headers, and why."""
    notes = {
        "parked_topic": record.topic,
        "parked_partition": str(record.partition),
        "parked_offset": str(record.offset),
        "parked_group": group,
        "parked_reason": reason[:REASON_LENGTH_MAX],
    }
    headers: Headers = [*record.headers, *((name, text.encode()) for name, text in notes.items())]
    await producer.publish_encoded([Encoded(PARKED.name, record.key, record.value or b"", headers)])
    parked = counter("pombo_records_parked_total", "Records that a consumer could not read.", ("group", "topic"))
    parked.labels(group, record.topic).inc()
    log.error("record_parked", group=group, topic=record.topic, offset=record.offset, reason=reason.split(":")[0])


async def ensure_topics(settings: KafkaSettings, topics: Sequence[Topic]) -> None:
    """Creates what is missing; what exists stays as it is (more partitions would tear keys apart)."""
    admin = AIOKafkaAdminClient(bootstrap_servers=settings.bootstrap)
    await admin.start()
    try:
        answer = await admin.create_topics([_new_topic(topic, settings) for topic in topics])
    finally:
        await admin.close()
    for name, code, *details in answer.topic_errors:
        error = errors.for_code(code)
        if code != 0 and error is not errors.TopicAlreadyExistsError:
            raise error(f"topic {name}: {details}")


def _new_topic(topic: Topic, settings: KafkaSettings) -> NewTopic:
    retention_ms = -1 if topic.retention is None else int(topic.retention.total_seconds() * 1000)
    configuration = {
        "cleanup.policy": "compact" if topic.compacted else "delete",
        "retention.ms": str(retention_ms),
        # With three copies one broker may be away, and an acknowledged record still has two.
        "min.insync.replicas": str(max(1, settings.replication_factor - 1)),
        "max.message.bytes": str(PARKED_BYTES_MAX),
    }
    partitions = min(topic.partitions, settings.partitions_max)
    return NewTopic(topic.name, partitions, settings.replication_factor, topic_configs=configuration)


def passes(error: BaseException) -> bool:
    """True if Kafka is away or busy, and not the record at fault."""
    return isinstance(error, errors.KafkaError) and not isinstance(error, errors.MessageSizeTooLargeError)
