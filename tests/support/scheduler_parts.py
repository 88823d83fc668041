"""The scheduler on a real PostgreSQL without Kafka: events go to its handlers, what it publishes is kept."""

import asyncio
from collections.abc import AsyncIterator, Iterable, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any
from uuid import UUID, uuid4

from pydantic import SecretStr

from chassis.database import Database, driver, migrate
from chassis.kafka import Encoded, Received, outgoing
from chassis.settings import KafkaSettings, PostgresSettings
from contracts import ids, topics
from contracts.campaigns import (
    CampaignStarted,
    Definition,
    Recipient,
    RecipientsAdded,
    SendingPolicy,
    Step,
)
from contracts.codec import decode
from contracts.contacts import ContactAllocated, ContactsAllocated
from contracts.envelope import Event, read_headers, read_type
from contracts.ids import Address
from contracts.instances import InstanceConfigured, Limits
from contracts.messages import (
    Content,
    MessageAmbiguous,
    MessageFailed,
    MessageQueued,
    MessageResolved,
    MessageReturned,
    MessageSent,
)
from contracts.progress import DispatchesChanged
from contracts.topics import EVENT_TYPES, Topic
from pombo import backing
from scheduler.app import SCHEMA, Scheduler
from scheduler.settings import BatchSettings, PacingSettings, Settings

ACCOUNT = UUID("00000000-0000-4000-8000-0000000000aa")
NOON = datetime(2026, 3, 2, 12, tzinfo=UTC)
AT_ONCE = SendingPolicy(min_delay_s=0, max_delay_s=0, pause_after_messages=None, retry_delay_s=0.01)
TEXT = Step(kind="text", content="Olá {{nome|amigo}}")
TWO_STEPS = (TEXT, Step(kind="text", content="segunda"))


def migrate_scheduler(prepared: backing.Database) -> None:
    migrate(prepared.roles["scheduler_owner"], "scheduler", SCHEMA)


class KeptProducer:
    """Keeps what is published instead of sending it; `failing` makes the next publish fail once."""

    def __init__(self) -> None:
        self.published: list[MessageQueued] = []
        self.told: list[Encoded] = []
        self.failing: Exception | None = None

    async def publish_encoded(self, records: Sequence[Encoded]) -> None:
        if records and self.failing is not None:
            error, self.failing = self.failing, None
            raise error
        for record in records:
            if record.topic == topics.MESSAGE_QUEUED.name:
                event = decode(read_type(dict(record.headers)), 1, record.value)
                assert isinstance(event, MessageQueued)
                self.published.append(event)
            else:
                self.told.append(record)

    async def stop(self) -> None:
        return

    def take(self) -> list[MessageQueued]:
        taken, self.published = self.published, []
        return taken


@dataclass(slots=True)
class Bench:
    """A scheduler whose worker is turned by hand."""

    scheduler: Scheduler
    producer: KeptProducer
    offset: int = 0
    streams: dict[UUID, int] = field(default_factory=dict)

    @property
    def database(self) -> Database:
        return self.scheduler.database

    async def tell(self, topic: Topic, *records: tuple[UUID, Event], account_id: UUID = ACCOUNT) -> None:
        """One batch to the consumer of this topic, then its `after`."""
        consumer = next(c for c in self.scheduler.consumers.table if topic in c.subscription.topics)
        batch = [self._received(topic, key, event, account_id) for key, event in records]
        async with self.database.transaction() as connection:
            await consumer.handle(connection, batch)
        await consumer.stage.tell()

    def _received(self, topic: Topic, key: UUID, event: Event, account_id: UUID) -> Received:
        self.offset += 1
        version = None
        if topic is topics.CAMPAIGNS:
            version = self.streams[key] = self.streams.get(key, 0) + 1
        record = outgoing(
            topic, str(key), event, source="tests", account_id=account_id, time=NOON, stream_version=version
        )
        return Received(topic.name, 0, self.offset, str(key), 0, record.envelope, event)

    async def turn(self) -> list[MessageQueued]:
        """Plans, releases and publishes what is due; what was published."""
        worker = self.scheduler.worker
        await worker.plan()
        ticked = asyncio.Event()
        async with asyncio.TaskGroup() as tasks:
            tasks.create_task(worker.publish_releases(ticked))
            try:
                await worker.tick()
            finally:
                ticked.set()
        return self.producer.take()

    async def sweep(self) -> list[MessageQueued]:
        await self.scheduler.worker.sweep()
        return self.producer.take()

    async def rows(self, sql: str, *arguments: object) -> list[Any]:
        async with self.database.transaction() as connection:
            return list(await (await driver(connection)).fetch(sql, *arguments))

    async def execute(self, sql: str, *arguments: object) -> None:
        async with self.database.transaction() as connection:
            await (await driver(connection)).execute(sql, *arguments)

    async def states(self, campaign_id: UUID) -> dict[str, int]:
        rows = await self.rows("SELECT state, count(*) FROM dispatch WHERE campaign_id = $1 GROUP BY 1", campaign_id)
        return {row["state"]: row["count"] for row in rows}

    async def events(self, *types: type[Event]) -> list[tuple[str, Event]]:
        """What plans and releases told and what is in the outbox of these types, with its key, in order."""
        found: list[tuple[str, Event]] = []
        for record in self.producer.told:
            envelope = read_headers(record.headers)
            if issubclass(EVENT_TYPES[envelope.type], types):
                found.append((envelope.subject, decode(envelope.type, 1, record.value)))
        for row in await self.rows("SELECT key, headers, value FROM outbox ORDER BY position"):
            event = decode(row["headers"]["ce_type"], 1, row["value"])
            if isinstance(event, types):
                found.append((row["key"], event))
        return found

    async def allocated(self) -> list[str]:
        """The keys of the contacts that were told to be bound, as often as they were."""
        keys: list[str] = []
        for _, event in await self.events(ContactAllocated, ContactsAllocated):
            if isinstance(event, ContactsAllocated):
                keys += [one.recipient_key for one in event.contacts]
            elif isinstance(event, ContactAllocated):
                keys.append(event.recipient_key)
        return keys


@asynccontextmanager
async def bench(
    prepared: backing.Database, pacing: PacingSettings | None = None, batch: BatchSettings | None = None
) -> AsyncIterator[Bench]:
    scheduler = Scheduler(settings(prepared, "127.0.0.1:1", pacing, batch))
    producer = KeptProducer()
    scheduler.publication._producer = scheduler.planning._producer = producer  # type: ignore[assignment]
    try:
        yield Bench(scheduler, producer)
    finally:
        await scheduler.database.close()


def settings(
    prepared: backing.Database,
    bootstrap: str,
    pacing: PacingSettings | None = None,
    batch: BatchSettings | None = None,
) -> Settings:
    return Settings(
        kafka=KafkaSettings(bootstrap=bootstrap, partitions_max=3),
        postgres=PostgresSettings(dsn=SecretStr(prepared.roles["scheduler_worker"])),
        pacing=pacing or PacingSettings(),
        batch=batch or BatchSettings(),
    )


def instance(
    *, rate: float = 80, max_users: int = 1_000_000, status: str = "active", **more: Any
) -> InstanceConfigured:
    return InstanceConfigured(
        name="Aura #1",
        provider="meta_cloud",
        server_url="http://localhost",
        limits=Limits(messages_per_second=rate, target_per_second=rate),
        max_users=max_users,
        status=status,
        **more,
    )


def definition(pool: Iterable[UUID], *, steps: Iterable[Step] = (TEXT,), policy: SendingPolicy = AT_ONCE) -> Definition:
    return Definition(name="Natal", pool=tuple(pool), steps=tuple(steps), policy=policy)


def people(campaign_id: UUID, count: int, *, first: int = 0) -> list[Recipient]:
    made: list[Recipient] = []
    for number in range(first, first + count):
        phone = f"5511{900000000 + number}"
        key = ids.phone_key(phone)
        made.append(
            Recipient(
                recipient_id=ids.recipient_id(campaign_id, key),
                contact_id=ids.contact_id(ACCOUNT, key),
                external_id=str(number),
                phone=phone,
                name=f"Pessoa {number}",
            )
        )
    return made


def chunks(campaign_id: UUID, recipients: Sequence[Recipient]) -> list[tuple[UUID, RecipientsAdded]]:
    return [
        (campaign_id, RecipientsAdded(chunk=index, recipients=tuple(recipients[start : start + 500])))
        for index, start in enumerate(range(0, len(recipients), 500))
    ]


def started(of: Definition, recipients: int, *, run_epoch: int = 1) -> CampaignStarted:
    return CampaignStarted(
        run_epoch=run_epoch, definition=of, chunk_count=-(-recipients // 500), recipient_count=recipients
    )


async def start_campaign(
    on: Bench, of: Definition, count: int, *, first: int = 0, campaign_id: UUID | None = None
) -> UUID:
    """Recipients and start; the plan is made by the next turn."""
    campaign = campaign_id or uuid4()
    await on.tell(topics.CAMPAIGN_RECIPIENTS, *chunks(campaign, people(campaign, count, first=first)))
    await on.tell(topics.CAMPAIGNS, (campaign, started(of, count)))
    return campaign


async def add_instance(on: Bench, **options: Any) -> UUID:
    instance_id = uuid4()
    await on.tell(topics.INSTANCES, (instance_id, instance(**options)))
    return instance_id


def _repeated(queued: MessageQueued, instance_id: UUID) -> dict[str, Any]:
    return {
        "instance_id": instance_id,
        "attempt": queued.attempt,
        "release": queued.release,
        "campaign_id": queued.campaign_id,
        "run_epoch": queued.run_epoch,
        "recipient_id": queued.recipient_id,
        "step": queued.step,
    }


def sent(queued: MessageQueued, instance_id: UUID) -> tuple[UUID, MessageSent]:
    provider_id = f"wamid.{queued.dispatch_id}.{queued.attempt}"
    return queued.dispatch_id, MessageSent(
        **_repeated(queued, instance_id),
        provider_message_id=provider_id,
        message_id=ids.message_id(instance_id, provider_id),
        contact_id=queued.contact_id,
        chat_id=ids.chat_id(instance_id, queued.address),
        address=Address(phone=queued.address.phone),
        content=Content(kind="text", text=queued.content.text),
        sent_at=NOON,
    )


def failed(queued: MessageQueued, instance_id: UUID, reason: str = "provider_error", **more: Any) -> tuple[UUID, Event]:
    options = {"retryable": True, **more}
    return queued.dispatch_id, MessageFailed(**_repeated(queued, instance_id), reason=reason, **options)


def returned(queued: MessageQueued, instance_id: UUID, reason: str, **more: Any) -> tuple[UUID, Event]:
    event = MessageReturned(**_repeated(queued, instance_id), reason=reason, **more)
    return queued.dispatch_id, event


def ambiguous(queued: MessageQueued, instance_id: UUID) -> tuple[UUID, Event]:
    return queued.dispatch_id, MessageAmbiguous(**_repeated(queued, instance_id), reason="timeout")


def resolved(queued: MessageQueued, instance_id: UUID, outcome: str) -> tuple[UUID, Event]:
    event = MessageResolved(**_repeated(queued, instance_id), outcome=outcome, evidence="none")
    return queued.dispatch_id, event


async def settle_all(on: Bench, instance_id: UUID, queued: list[MessageQueued]) -> None:
    await on.tell(topics.MESSAGE_SENT, *(sent(one, instance_id) for one in queued))


async def run_out(on: Bench, instance_id: UUID) -> list[MessageQueued]:
    everything: list[MessageQueued] = []
    while queued := await on.turn():
        everything.extend(queued)
        await settle_all(on, instance_id, queued)
    return everything


async def folded(on: Bench, campaign: UUID) -> dict[UUID, str]:
    """The states as a reader of DispatchesChanged sees them: the highest version of each."""
    newest: dict[UUID, tuple[int, str]] = {}
    for key, event in await on.events(DispatchesChanged):
        if key == str(campaign) and isinstance(event, DispatchesChanged):
            for change in event.changes:
                newest[change.dispatch_id] = max(
                    newest.get(change.dispatch_id, (0, "")), (change.version, change.state)
                )
    return {dispatch: state for dispatch, (_, state) in newest.items()}


async def wait_over(on: Bench) -> None:
    """Lets every wait of a dispatch end now."""
    await on.execute("UPDATE dispatch SET due_at = now() WHERE waits = 'time'")
