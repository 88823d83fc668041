"""Durable before 200: Kafka, else the spool in PostgreSQL, else the provider is asked to come again.

Webhooks that come within FLUSH_EVERY_S share one publish, and in need one INSERT: what a publish costs beyond its
records is as much as some thirty of them.
"""

import asyncio
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal, NamedTuple

from chassis.database import Database
from chassis.kafka import Encoded, Producer
from chassis.lifecycle import pause
from chassis.telemetry import counter, log
from contracts import topics
from webhook_ingest.store import Spooled, forget_spooled, spool, take_spooled

FLUSH_EVERY_S = 0.02
SPOOL_BATCH = 500
Kept = Literal["kafka", "spool", "nowhere"]


@dataclass(frozen=True, slots=True)
class IntakeSettings:
    publish_wait_s: float
    spool_poll_s: float


class _Waiting(NamedTuple):
    """One webhook, and the request that may be answered once it is kept. Done already: the request was cancelled,
    or another way was faster."""

    webhook: Spooled
    kept: "asyncio.Future[Kept]"


class _Line:
    """What waits for one of the two ways; taken all at once."""

    def __init__(self) -> None:
        self._waiting: list[_Waiting] = []
        self._any = asyncio.Event()

    def add(self, waiting: _Waiting) -> None:
        self._waiting.append(waiting)
        self._any.set()

    def empty(self) -> list[_Waiting]:
        taken, self._waiting = self._waiting, []
        self._any.clear()
        return taken

    async def take(self) -> list[_Waiting]:
        """At least one."""
        await self._any.wait()
        return self.empty()


class Intake:
    """`accept` says where the webhook is safe now, while `work` runs.

    Kafka is away from the first publish that fails or is not acknowledged in `publish_wait_s`; from then on webhooks
    go to the spool at once. It is back with any acknowledgement, be it a late one or the drain's.
    """

    def __init__(self, producer: Producer, database: Database, settings: IntakeSettings) -> None:
        self._producer = producer
        self._database = database
        self._settings = settings
        self._kafka_away = False
        self._for_kafka = _Line()
        self._for_spool = _Line()

    def accept(self, webhook: Spooled) -> "asyncio.Future[Kept]":
        kept: asyncio.Future[Kept] = asyncio.get_running_loop().create_future()
        (self._for_spool if self._kafka_away else self._for_kafka).add(_Waiting(webhook, kept))
        return kept

    async def work(self) -> None:
        """Until cancelled. End it after the door: who waits then is never answered."""
        async with asyncio.TaskGroup() as tasks:
            tasks.create_task(self._keep_publishing(tasks), name="publish webhooks")
            tasks.create_task(self._keep_spooling(), name="spool webhooks")

    async def _keep_publishing(self, tasks: asyncio.TaskGroup) -> None:
        """Does not wait for one publish before the next: a slow acknowledgement holds up only what it is for."""
        while True:
            batch = await self._for_kafka.take()
            tasks.create_task(self._publish(batch), name="publish")
            await asyncio.sleep(FLUSH_EVERY_S)

    async def _publish(self, batch: Sequence[_Waiting]) -> None:
        """Goes on after the time limit: the webhooks may then be in Kafka twice, which derived ids make harmless."""
        limit = asyncio.get_running_loop().call_later(
            self._settings.publish_wait_s, self._turn_to_spool, batch, "not_acknowledged_in_time"
        )
        try:
            await self._producer.publish_encoded([_as_record(one.webhook) for one in batch])
        except Exception as error:  # noqa: BLE001 - whatever Kafka's client says, the webhooks must be kept elsewhere
            self._turn_to_spool(batch, type(error).__name__)
        else:
            self._kafka_away = False
            _tell(batch, "kafka")
        finally:
            limit.cancel()

    def _turn_to_spool(self, batch: Sequence[_Waiting], reason: str) -> None:
        waiting = [one for one in (*batch, *self._for_kafka.empty()) if not one.kept.done()]
        if not waiting:  # long in the spool: no news of Kafka
            return
        log.warning("kafka_away", error=reason, count=len(waiting))
        self._kafka_away = True
        for one in waiting:
            self._for_spool.add(one)

    async def _keep_spooling(self) -> None:
        while True:
            waiting = await self._for_spool.take()
            open_ones = [one for one in waiting if not one.kept.done()]
            for start in range(0, len(open_ones), SPOOL_BATCH):
                await self._spool(open_ones[start : start + SPOOL_BATCH])

    async def _spool(self, batch: Sequence[_Waiting]) -> None:
        try:
            async with self._database.transaction() as connection:
                await spool(connection, [one.webhook for one in batch])
        except Exception as error:  # noqa: BLE001 - both are away: the providers must come again
            log.error("webhooks_kept_nowhere", error=type(error).__name__, count=len(batch))
            _tell(batch, "nowhere")
            return
        counter("pombo_webhooks_spooled_total", "Webhooks kept in PostgreSQL while Kafka was away.").inc(len(batch))
        _tell(batch, "spool")

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
        await self._producer.publish_encoded([_as_record(webhook) for webhook in waiting])
        async with self._database.transaction() as connection:
            await forget_spooled(connection, [webhook.id for webhook in waiting])
        return len(waiting)


def _as_record(webhook: Spooled) -> Encoded:
    return Encoded(topics.WEBHOOK_RECEIVED.name, None, webhook.value, webhook.headers)


def _tell(batch: Sequence[_Waiting], kept: Kept) -> None:
    for one in batch:
        if not one.kept.done():
            one.kept.set_result(kept)
