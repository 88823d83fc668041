"""Kafka: records in and out with their envelope, the producer, the topics, and where unreadable records go."""

import asyncio
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any
from uuid import UUID, uuid4

from aiokafka import AIOKafkaProducer, errors
from aiokafka.admin import AIOKafkaAdminClient, NewTopic

from chassis.settings import KafkaSettings
from chassis.telemetry import counter, current_traceparent, log
from contracts import ids
from contracts.codec import Undecodable, UnknownType, decode, encode
from contracts.envelope import Envelope, Event, Headers, UnreadableEnvelope, read_headers, write_headers
from contracts.topics import EVENT_TYPES, PARKED, Topic

LINGER_MS = 5
BATCH_BYTES = 256 * 1024
RECORD_BYTES_MAX = 1_000_000  # the broker's default limit is 1 MiB a batch; what is parked carries some headers more
PARKED_BYTES_MAX = 2 * 1024 * 1024
REASON_LENGTH_MAX = 1000
_REQUEST_TIMEOUT_MS = 15_000


@dataclass(frozen=True, slots=True)
class Outgoing:
    topic: Topic
    key: str | None
    event: Event
    envelope: Envelope


@dataclass(frozen=True, slots=True)
class Encoded:
    """A record as Kafka takes it: what the outbox stores and what is parked."""

    topic: str
    key: bytes | None
    value: bytes
    headers: Headers


@dataclass(frozen=True, slots=True)
class Received:
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
        envelope = read_headers(record.headers)
        if handles is not None and envelope.type not in handles and envelope.type in EVENT_TYPES:
            return None
        event = decode(envelope.type, envelope.version, record.value or b"")
        key = None if record.key is None else record.key.decode()
    except (UnreadableEnvelope, UnknownType, Undecodable, UnicodeDecodeError) as error:
        raise Unreadable(f"{type(error).__name__}: {error}") from error
    return Received(record.topic, record.partition, record.offset, key, record.timestamp, envelope, event)


class Producer:
    """acks=all, idempotent, lz4. Bounded: one open batch of BATCH_BYTES per partition, then `publish` waits."""

    def __init__(self, settings: KafkaSettings, *, client_id: str = "pombo") -> None:
        self._settings = settings
        self._client_id = client_id
        self._producer: Any = None
        self._renewing = asyncio.Lock()

    async def start(self) -> None:
        """Raises KafkaError if no broker answers."""
        producer = AIOKafkaProducer(
            bootstrap_servers=self._settings.bootstrap,
            client_id=self._client_id,
            acks="all",
            enable_idempotence=True,
            compression_type="lz4",
            linger_ms=LINGER_MS,
            max_batch_size=BATCH_BYTES,
            max_request_size=PARKED_BYTES_MAX,
            request_timeout_ms=_REQUEST_TIMEOUT_MS,
            metadata_max_age_ms=60_000,
        )
        try:
            await producer.start()
        except BaseException:
            await producer.stop()
            raise
        self._producer = producer

    async def stop(self) -> None:
        """Sends what is still in the buffer."""
        producer, self._producer = self._producer, None
        if producer is not None:
            await producer.stop()

    async def publish(self, records: Sequence[Outgoing]) -> None:
        """Enqueues all, then waits once for all acknowledgements; while Kafka is away it waits.

        Raises KafkaError if any was refused, TooLarge before anything is sent. Cancelled, records may still go out.
        """
        await self.publish_encoded([encoded(record) for record in records])

    async def publish_raw(self, topic: Topic, key: bytes | str | None, value: bytes, headers: Headers) -> None:
        """Bytes as they are, under a name of contracts.topics: for `parked`."""
        key_bytes = key.encode() if isinstance(key, str) else key
        await self.publish_encoded([Encoded(topic.name, key_bytes, value, headers)])

    async def publish_encoded(self, records: Sequence[Encoded]) -> None:
        producer = await self._running()
        waiting: list[asyncio.Future[Any]] = []
        try:
            for record in records:
                key, headers = record.key, record.headers
                waiting.append(await producer.send(record.topic, record.value, key=key, headers=headers))
            # wait() and not gather(): a cancelled caller must not cancel futures that belong to the producer.
            pending = set(waiting)
            while pending:
                _, pending = await asyncio.wait(pending, timeout=1)
                if pending and self._producer is not producer:
                    raise errors.KafkaError("the producer was replaced, after another publish had broken it")
            for future in waiting:
                future.result()
        except Exception as error:
            for future in waiting:
                future.add_done_callback(_look_at)
            if not isinstance(error, errors.MessageSizeTooLargeError | errors.KafkaTimeoutError):
                await self._discard(producer)
            raise
        published = counter("pombo_records_published_total", "Records that Kafka acknowledged.", ("topic",))
        for record in records:
            published.labels(record.topic).inc()

    async def _running(self) -> Any:
        async with self._renewing:
            if self._producer is None:
                await self.start()
            return self._producer

    async def _discard(self, producer: Any) -> None:
        """After a failed send the idempotent sequence is unsure; the next publish starts with a new producer id."""
        async with self._renewing:
            if self._producer is producer:
                self._producer = None
        await stop_client(producer, within_s=1)


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
    await producer.publish_raw(PARKED, record.key, record.value or b"", headers)
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


async def stop_client(client: Any, *, within_s: float = 5) -> None:
    """Stops an aiokafka client whatever state it is in. Its `stop` may raise the CancelledError of a task of its own,
    which would end ours as if somebody had cancelled it."""
    try:
        async with asyncio.timeout(within_s):
            await client.stop()
    except asyncio.CancelledError:
        task = asyncio.current_task()
        if task is None or task.cancelling():
            raise
    except (errors.KafkaError, TimeoutError) as error:
        log.warning("client_stopped_hard", error=type(error).__name__)


def passes(error: BaseException) -> bool:
    """True if Kafka is away or busy, and not the record at fault."""
    return isinstance(error, errors.KafkaError) and not isinstance(error, errors.MessageSizeTooLargeError)


def _look_at(future: asyncio.Future[Any]) -> None:
    """Its error was told by another future of the same publish."""
    if not future.cancelled():
        future.exception()
