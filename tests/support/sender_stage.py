"""The sender's processes on a stage: Kafka and PostgreSQL, the provider simulator, and who plays its neighbours."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import Any
from uuid import UUID, uuid4

from aiokafka import AIOKafkaConsumer

from chassis.kafka import Producer, Received, ensure_topics, outgoing, received
from chassis.settings import KafkaSettings
from contracts import topics
from contracts.ids import message_id
from contracts.messages import MessageQueued, MessageReturned
from contracts.statuses import StatusReceived
from pombo import backing
from sender_parts import ACCOUNT, Senders, add_meta_number, configured, queued, to_queue
from sender_parts import senders as running_senders
from simulated_providers import Receiver, Simulator, receiver, simulator


@dataclass(slots=True)
class Stage:
    """Everything around one sender."""

    simulator: Simulator
    hooks: Receiver
    senders: Senders
    producer: Producer
    database: backing.Database
    told: list[Received] = field(default_factory=list)
    reported: int = 0
    mine: set[str] = field(default_factory=set)  # keys of this test: Kafka outlives it
    asked: dict[str, tuple[UUID, MessageQueued]] = field(default_factory=dict)
    released_again: set[tuple[str, int]] = field(default_factory=set)

    def of(self, *kinds: type) -> list[Any]:
        return [one.event for one in self.told if isinstance(one.event, kinds) and one.envelope.subject in self.mine]

    def dispatches(self, *kinds: type) -> set[str]:
        return {one.envelope.subject for one in self.told if isinstance(one.event, kinds)} & self.mine

    async def queue(self, instance_id: UUID, count: int, **fields: Any) -> list[UUID]:
        campaign = fields.pop("campaign_id", None) or uuid4()
        messages = [queued(number, campaign_id=campaign, **fields) for number in range(count)]
        self.asked |= {str(message.dispatch_id): (instance_id, message) for message in messages}
        self.mine |= {*self.asked, str(campaign), str(instance_id)}
        await self.producer.publish([to_queue(instance_id, message) for message in messages])
        return [message.dispatch_id for message in messages]

    async def release_again(self) -> None:
        """Plays the scheduler: what a busy machine made too late to leave is released once more."""
        again = []
        for one in list(self.told):
            key, event = one.envelope.subject, one.event
            if isinstance(event, MessageReturned) and event.reason == "expired" and key in self.asked:
                instance_id, message = self.asked[key]
                if (key, event.release) not in self.released_again:
                    self.released_again.add((key, event.release))
                    again.append(to_queue(instance_id, message.model_copy(update={"release": event.release + 1})))
        await self.producer.publish(again)

    async def report(self, instance_id: UUID) -> None:
        """Plays webhook-ingest: the simulator's statuses become StatusReceived."""
        hooks, self.reported = self.hooks.received[self.reported :], len(self.hooks.received)
        records = []
        for status in (s for hook in hooks for s in _statuses(hook.body)):
            event = StatusReceived(
                instance_id=instance_id,
                provider_message_id=status["id"],
                status=status["status"],
                at=datetime.now(UTC),
                client_ref=status.get("biz_opaque_callback_data"),
            )
            key = str(message_id(instance_id, status["id"]))
            records.append(
                outgoing(topics.STATUS_RECEIVED, key, event, source="tests", account_id=ACCOUNT, time=datetime.now(UTC))
            )
        await self.producer.publish(records)


def _statuses(body: Any) -> list[dict[str, Any]]:
    return [
        status
        for entry in body.get("entry", ())
        for change in entry["changes"]
        for status in change["value"].get("statuses", ())
    ]


@asynccontextmanager
async def _listening(bootstrap: str, told: list[Received]) -> AsyncIterator[None]:
    """Keeps what is said on message-sent, campaign-progress and instance-health from now on."""
    names = (topics.MESSAGE_SENT.name, topics.CAMPAIGN_PROGRESS.name, topics.INSTANCE_HEALTH.name)
    consumer = AIOKafkaConsumer(*names, bootstrap_servers=bootstrap, enable_auto_commit=False)
    await consumer.start()
    await consumer.seek_to_end()
    for part in consumer.assignment():
        await consumer.position(part)

    async def read() -> None:
        async for record in consumer:
            if (one := received(record)) is not None:
                told.append(one)

    async with asyncio.TaskGroup() as tasks:
        reading = tasks.create_task(read())
        yield
        reading.cancel()
    await consumer.stop()


@asynccontextmanager
async def staged(
    database: backing.Database, bootstrap: str, folder: Path, config: dict[str, Any] | None, **settings: str
) -> AsyncIterator[Stage]:
    """`config` is the simulator's; `settings` are every sender's."""
    kafka = KafkaSettings(bootstrap=bootstrap, partitions_max=3)
    await ensure_topics(kafka, topics.ALL)
    producer = Producer(kafka)
    await producer.start()
    async with (
        simulator(folder, config) as played,
        receiver() as hooks,
        running_senders(database, bootstrap, folder, played.url, **settings) as started,
    ):
        stage = Stage(played, hooks, started, producer, database)
        async with _listening(bootstrap, stage.told):
            yield stage
            for process in started.running:
                await process.stop()
    await producer.stop()


async def add_number(
    stage: Stage,
    *,
    token: str = "",
    faults: dict[str, float] | None = None,
    enforced: dict[str, Any] | None = None,
    **limits: Any,
) -> UUID:
    """`enforced`: the provider's own limits where they differ from ours."""
    instance_id, number = uuid4(), uuid4().hex[:15]
    more = ({"token": token} if token else {}) | ({} if faults is None else {"faults": faults})
    more |= {} if enforced is None else {"limits": enforced}
    await add_meta_number(stage.simulator.http, stage.simulator.url, number, stage.hooks.url, **more)
    await stage.producer.publish([configured(instance_id, stage.simulator.url, number, **limits)])
    return instance_id
