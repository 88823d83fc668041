"""Durable before 200: Kafka, else the spool in PostgreSQL, else the provider is asked to come again."""

import asyncio
from dataclasses import dataclass
from datetime import datetime
from typing import Literal
from uuid import UUID, uuid4

from chassis.database import Database
from chassis.kafka import Encoded, Outgoing, Producer
from chassis.lifecycle import pause
from chassis.telemetry import counter, log
from contracts import topics
from contracts.codec import encode
from contracts.envelope import Envelope, write_headers
from contracts.webhooks import WebhookReceived
from webhook_ingest.store import Spooled, forget_spooled, spool, take_spooled

SOURCE = "webhook-ingest"
SPOOL_BATCH = 500
Kept = Literal["kafka", "spool", "nowhere"]


@dataclass(frozen=True, slots=True)
class IntakeSettings:
    publish_wait_s: float
    spool_poll_s: float


class Intake:
    """`accept` says where the webhook is safe now. While Kafka is away, webhooks go to the spool at once."""

    def __init__(self, producer: Producer, database: Database, settings: IntakeSettings) -> None:
        self._producer = producer
        self._database = database
        self._settings = settings
        self._kafka_away = False

    async def accept(
        self, webhook: WebhookReceived, account_id: UUID | None, traceparent: str | None, correlation_id: str
    ) -> Kept:
        envelope = Envelope(
            id=uuid4(),
            type="WebhookReceived",
            version=WebhookReceived.VERSION,
            source=SOURCE,
            subject="",
            time=webhook.received_at,
            account_id=account_id,
            correlation_id=correlation_id,
            traceparent=traceparent,
        )
        if not self._kafka_away and await self._publish(Outgoing(topics.WEBHOOK_RECEIVED, None, webhook, envelope)):
            return "kafka"
        return await self._spool(envelope, encode(webhook), webhook.received_at)

    async def _publish(self, record: Outgoing) -> bool:
        try:
            # A timed-out record may still arrive: the translator's ids are derived, so twice does no harm.
            await asyncio.wait_for(self._producer.publish([record]), self._settings.publish_wait_s)
        except Exception as error:  # noqa: BLE001 - whatever Kafka's client says, the webhook must be kept elsewhere
            log.warning("kafka_away", error=type(error).__name__)
            self._kafka_away = True
            return False
        return True

    async def _spool(self, envelope: Envelope, value: bytes, received_at: datetime) -> Kept:
        try:
            async with self._database.transaction() as connection:
                await spool(connection, Spooled(envelope.id, write_headers(envelope), value), received_at)
        except Exception as error:  # noqa: BLE001 - both are away: the provider must come again
            log.error("webhook_kept_nowhere", error=type(error).__name__)
            return "nowhere"
        counter("pombo_webhooks_spooled_total", "Webhooks kept in PostgreSQL while Kafka was away.").inc()
        return "spool"

    async def drain(self, stopping: asyncio.Event) -> None:
        """Publishes what is spooled, oldest first, as soon as Kafka takes it; runs until `stopping`.

        Looks every `spool_poll_s`, told or not: another replica that has ended may have left rows.
        """
        while not stopping.is_set():
            drained = 0
            try:
                drained = await self._drain_once()
                self._kafka_away = False
            except Exception as error:  # noqa: BLE001 - the edge of the loop: tried again after a pause
                log.warning("spool_not_drained", error=type(error).__name__)
            if drained < SPOOL_BATCH:
                await pause(stopping, self._settings.spool_poll_s)

    async def _drain_once(self) -> int:
        async with self._database.transaction() as connection:
            waiting = await take_spooled(connection, SPOOL_BATCH)
        if not waiting:
            return 0
        topic = topics.WEBHOOK_RECEIVED.name
        await self._producer.publish_encoded([Encoded(topic, None, one.value, one.headers) for one in waiting])
        async with self._database.transaction() as connection:
            await forget_spooled(connection, [webhook.id for webhook in waiting])
        return len(waiting)
