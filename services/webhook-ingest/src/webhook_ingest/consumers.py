"""What this service reads: instances (offsets in PostgreSQL) and its own raw webhooks (the translator).

The translator's effect is in Kafka, so its offsets are too: at least once, committed after the normalised events are
acknowledged. A repetition does no harm, the events' ids are derived from the provider's.
"""

import asyncio
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass
from functools import partial
from time import monotonic
from typing import Any
from uuid import UUID

from aiokafka import ConsumerRecord
from faststream import AckPolicy
from faststream.kafka import KafkaBroker
from faststream.kafka.annotations import KafkaMessage
from sqlalchemy.ext.asyncio import AsyncConnection

from chassis.inbox import Subscription
from chassis.kafka import Outgoing, Producer, Received, outgoing, park
from chassis.telemetry import counter, is_recorded, log, span
from contracts import topics
from contracts.codec import Undecodable, UnknownType, decode
from contracts.envelope import Envelope, Headers, UnreadableEnvelope, read_headers
from contracts.ids import event_id
from contracts.instances import InstanceConfigured
from contracts.webhooks import WebhookProvider, WebhookReceived
from providers.events import LimitSeen, UnreadablePayload, WebhookEvent
from providers.protocol import ProviderName
from providers.registry import PROVIDERS
from webhook_ingest.accounts import AccountEvent
from webhook_ingest.admission import KnownInstance
from webhook_ingest.directory import Directory
from webhook_ingest.raw import SOURCE, body_of
from webhook_ingest.reports import Report, Unplaced, read_reports
from webhook_ingest.store import save_instances
from webhook_ingest.unread import Left, left_unread

INSTANCES = Subscription(group="webhook-ingest", topics=(topics.INSTANCES,), handles=(InstanceConfigured,))
TRANSLATOR_GROUP = "webhook-translator"
RETRY_S = 1.0
# A batch costs as much as some tens of its records, so batches start this far apart unless there is a backlog.
BATCHES_APART_S = 0.2
FETCH_WAIT_MS = 1000  # an idle translator asks Kafka once a second
Parse = Callable[[tuple[ConsumerRecord, ...]], Awaitable[KafkaMessage]]
# How a payload without an instance in its address is read: only Meta mixes numbers in one POST.
MIXED: dict[WebhookProvider, ProviderName] = {"evolution": "evolution_web", "meta": "meta_cloud", "zapi": "zapi"}


async def on_instances(connection: AsyncConnection, records: Sequence[Received]) -> None:
    await save_instances(
        connection,
        [
            (
                record.envelope.account_id,
                UUID(record.envelope.subject),
                record.envelope.stream_version or 0,
                record.event,
            )
            for record in records
            if isinstance(record.event, InstanceConfigured) and record.envelope.account_id is not None
        ],
    )


@dataclass(frozen=True, slots=True)
class Unread:
    """A raw webhook that could not be translated, with the reason: parked, replayable with a better parser. `left`:
    the same for whoever's it is."""

    record: ConsumerRecord
    reason: str
    left: Left | None = None


class Translator:
    """Raw webhooks to normalised events: `subscribe` registers it with FastStream, one batch at a time."""

    def __init__(
        self,
        directory: Directory,
        producer: Producer,
        *,
        batch_max: int,
        keep: Callable[[Sequence[Left]], Awaitable[None]] | None = None,
    ) -> None:
        """`keep`: takes what could not be translated and is somebody's."""
        self._keep = keep
        self._directory = directory
        self._producer = producer
        self._batch_max = batch_max
        self._retries = counter("pombo_consumer_retries_total", "Batches tried again.", ("group",)).labels(
            TRANSLATOR_GROUP
        )

    def subscribe(self, broker: KafkaBroker) -> None:
        """MANUAL: acknowledged only when every normalised event is; a batch holds all that was fetched, so committing
        the fetch position commits exactly this batch."""
        broker.subscriber(
            topics.WEBHOOK_RECEIVED.name,
            batch=True,
            group_id=TRANSLATOR_GROUP,
            ack_policy=AckPolicy.MANUAL,
            auto_offset_reset="earliest",
            max_records=self._batch_max,
            batch_timeout_ms=FETCH_WAIT_MS,
            fetch_max_wait_ms=FETCH_WAIT_MS,
            parser=_leave_unparsed,
            decoder=_leave_raw,
        )(self.on_webhooks)

    async def on_webhooks(self, message: KafkaMessage) -> None:
        """One batch. Nothing is fetched until the next may start, so under load fetches and batches grow."""
        records: Sequence[ConsumerRecord] = message.raw_message
        consumer: Any = message.consumer
        next_at_s = monotonic() + BATCHES_APART_S
        paused = consumer.assignment() if len(records) < self._batch_max else frozenset()
        consumer.pause(*paused)
        await self._translate_surely(records, message)
        if paused:
            await asyncio.sleep(max(0.0, next_at_s - monotonic()))
            consumer.resume(*(paused & consumer.assignment()))

    async def _translate_surely(self, records: Sequence[ConsumerRecord], message: KafkaMessage) -> None:
        """Repeats the batch until Kafka took its effect: raising would drop it (FastStream logs and goes on)."""
        while True:
            try:
                await self.translate(records)
                await message.ack()
                return
            except asyncio.CancelledError:
                raise
            except Exception as error:  # noqa: BLE001 - the edge of the loop: nothing is lost, the batch waits
                self._retries.inc()
                log.warning("translation_postponed", error=type(error).__name__, detail=str(error))
                await asyncio.sleep(RETRY_S)

    async def translate(self, records: Sequence[ConsumerRecord]) -> int:
        """Publishes the normalised events of `records`; what cannot be read is parked. Returns how many events."""
        began_s = monotonic()
        published: list[Outgoing] = []
        unread: list[Unread] = []
        for record in records:
            try:
                events, unplaced = self._read(record)
                if unplaced:  # the instance may have been created a moment before the webhook came
                    await self._directory.know_since(began_s)
                    events, unplaced = self._read(record)
            except (UnreadablePayload, UnreadableEnvelope, Undecodable, UnknownType) as error:
                unread.append(_unread(record, f"{type(error).__name__}: {error}"))
                continue
            published += events
            unread += [_unread(record, one.reason) for one in unplaced[:1]]
        await self._producer.publish(published)
        if self._keep is not None:
            await self._keep([one.left for one in unread if one.left is not None])
        for one in unread:
            await park(self._producer, one.record, group=TRANSLATOR_GROUP, reason=one.reason)
        return len(published)

    def translate_again(self, headers: Headers, value: bytes) -> tuple[list[Outgoing], str | None]:
        """What a kept webhook says now, and why it still cannot be read, if so."""
        try:
            envelope, webhook = read_kept(headers, value)
            events, unplaced = self._normalise(envelope, webhook, envelope.traceparent)
        except (UnreadablePayload, UnreadableEnvelope, Undecodable, UnknownType) as error:
            return [], f"{type(error).__name__}: {error}"
        return events, unplaced[0].reason if unplaced else None

    def _read(self, record: ConsumerRecord) -> tuple[list[Outgoing], list[Unplaced]]:
        """Raises what `read_webhook` raises, or UnreadablePayload."""
        envelope, webhook = read_webhook(record)
        if envelope.traceparent is None or not is_recorded(envelope.traceparent):  # nearly all
            return self._normalise(envelope, webhook, envelope.traceparent)
        with span("webhook translated", traceparent=envelope.traceparent) as own:
            return self._normalise(envelope, webhook, own)

    def _normalise(
        self, envelope: Envelope, webhook: WebhookReceived, traceparent: str | None
    ) -> tuple[list[Outgoing], list[Unplaced]]:
        known = self._directory.by_id(webhook.instance_id) if webhook.instance_id else None
        provider = PROVIDERS[known.provider if known else MIXED[webhook.provider]]
        seen = provider.read_webhook(body_of(webhook))
        find, find_numbers = partial(self._find, known, webhook), partial(self.find_numbers, webhook)
        reports, unplaced = read_reports(seen, find, webhook.received_at, find_numbers)
        return [_outgoing(report, envelope, traceparent) for report in reports], unplaced

    def _find(self, known: KnownInstance | None, webhook: WebhookReceived, event: WebhookEvent) -> KnownInstance | None:
        """The instance that the address named, else the number that the event names: if its signer may speak of it."""
        if known is not None:
            return known
        named = self._directory.by_phone_number_id(event.channel) if event.channel else ()
        return next((number for number in named if _may_speak(webhook, number)), None)

    def find_numbers(self, webhook: WebhookReceived, event: AccountEvent) -> Sequence[KnownInstance]:
        """All numbers of Meta's account that the event is about, and the one that it names itself."""
        found = [*(self._directory.of_business(event.account) if event.account else ())]
        if isinstance(event, LimitSeen) and event.phone:
            named = self._directory.by_phone_number(event.phone)
            found += [named] if named is not None and named not in found else []
        return [number for number in found if _may_speak(webhook, number)]


def _may_speak(webhook: WebhookReceived, number: KnownInstance) -> bool:
    """An account's own app is trusted with that account's numbers only."""
    return webhook.account_ids is None or number.account_id in webhook.account_ids


def _outgoing(report: Report, cause: Envelope, traceparent: str | None) -> Outgoing:
    return outgoing(
        report.topic,
        report.key,
        report.event,
        source=SOURCE,
        account_id=report.instance.account_id,
        time=cause.time,
        event_id=event_id(SOURCE, str(report.instance.id), report.fact),
        correlation_id=cause.correlation_id,
        causation_id=cause.id,
        traceparent=traceparent,
    )


def read_webhook(record: ConsumerRecord) -> tuple[Envelope, WebhookReceived]:
    """Raises UnreadableEnvelope, UnknownType or Undecodable."""
    return read_kept(record.headers, record.value or b"")


def read_kept(headers: Headers, value: bytes) -> tuple[Envelope, WebhookReceived]:
    """Raises as `read_webhook`."""
    envelope = read_headers(headers)
    event = decode(envelope.type, envelope.version, value)
    if not isinstance(event, WebhookReceived):
        raise UnknownType(f"{envelope.type} does not belong on this topic")
    return envelope, event


def _unread(record: ConsumerRecord, reason: str) -> Unread:
    """What cannot even be decoded is nobody's."""
    try:
        envelope, webhook = read_webhook(record)
    except (UnreadableEnvelope, Undecodable, UnknownType):
        return Unread(record, reason)
    return Unread(record, reason, left_unread(envelope, webhook, list(record.headers), record.value or b"", reason))


async def _leave_unparsed(records: tuple[ConsumerRecord, ...], parse: Parse) -> KafkaMessage:
    """FastStream copies value and headers of every record; the translator reads the records themselves."""
    message = await parse(records[:1])
    message.raw_message = records
    return message


async def _leave_raw(_message: KafkaMessage) -> bytes:
    return b""
