"""The sender as a process, on real Kafka and PostgreSQL, against the provider simulator."""

import asyncio
from collections import Counter
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import Any
from uuid import UUID, uuid4

import pytest
from aiokafka import AIOKafkaConsumer

from backing import MakeDatabase
from chassis.kafka import Producer, Received, ensure_topics, outgoing, received
from chassis.settings import KafkaSettings
from contracts import topics
from contracts.campaigns import CampaignPausing
from contracts.ids import message_id
from contracts.instances import BreakerClosed, BreakerOpened, InstanceThrottled
from contracts.messages import (
    MessageAmbiguous,
    MessageFailed,
    MessageQueued,
    MessageResolved,
    MessageReturned,
    MessageSent,
)
from contracts.progress import GateClosed
from contracts.statuses import StatusReceived
from pombo import backing
from sender_parts import ACCOUNT, Senders, add_meta_number, configured, migrated, most_in_window, queued, rows, to_queue
from sender_parts import senders as running_senders
from simulated_providers import Receiver, Simulator, eventually, receiver, simulator

pytestmark = [pytest.mark.postgres, pytest.mark.kafka, pytest.mark.stack]


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


@pytest.fixture
def make_stage(database_factory: MakeDatabase, kafka_bootstrap: str, tmp_path: Path) -> Callable[..., Any]:
    @asynccontextmanager
    async def make(config: dict[str, Any] | None = None, **settings: str) -> AsyncIterator[Stage]:
        database = database_factory(migrated)
        kafka = KafkaSettings(bootstrap=kafka_bootstrap, partitions_max=3)
        await ensure_topics(kafka, topics.ALL)
        producer = Producer(kafka)
        await producer.start()
        async with (
            simulator(tmp_path, config) as played,
            receiver() as hooks,
            running_senders(database, kafka_bootstrap, tmp_path, played.url, **settings) as started,
        ):
            stage = Stage(played, hooks, started, producer, database)
            async with _listening(kafka_bootstrap, stage.told):
                yield stage
                for process in started.running:
                    await process.stop()
        await producer.stop()

    return make


async def _set_up(stage: Stage, *, token: str = "", faults: dict[str, float] | None = None, **limits: Any) -> UUID:
    instance_id, number = uuid4(), uuid4().hex[:15]
    more = ({"token": token} if token else {}) | ({} if faults is None else {"faults": faults})
    await add_meta_number(stage.simulator.http, stage.simulator.url, number, stage.hooks.url, **more)
    await stage.producer.publish([configured(instance_id, stage.simulator.url, number, **limits)])
    return instance_id


async def test_every_queued_message_is_sent_once_and_within_the_limit(make_stage: Callable[..., Any]) -> None:
    async with make_stage() as stage:
        instance_id = await _set_up(stage, messages_per_second=80, target_per_second=80)
        stage.senders.start()
        dispatches = await stage.queue(instance_id, 200)

        async def all_sent() -> bool:
            await stage.release_again()
            return len(stage.dispatches(MessageSent)) == 200

        await eventually(all_sent, deadline_s=60)

        opened = stage.simulator.lines("request_open")
        assert Counter(line["label"].rpartition(":")[0] for line in opened) == dict.fromkeys(map(str, dispatches), 1)
        arrivals = [line["mono_ns"] / 1e9 for line in opened]
        assert most_in_window(arrivals, 1.0) <= 80
        assert {event.provider_message_id for event in stage.of(MessageSent)} == {line["message_id"] for line in opened}
        assert stage.of(MessageFailed, MessageAmbiguous) == []


async def test_a_killed_sender_sends_nothing_twice_and_statuses_settle_what_was_under_way(
    make_stage: Callable[..., Any],
) -> None:
    config = {"faults": {"latency_ms": 150}}
    async with make_stage(config, RECONCILE_WAIT_S="6", TEXT_TIMEOUT_S="2", INTENT_AGE_MAX_S="1") as stage:
        instance_id = await _set_up(stage, messages_per_second=80, target_per_second=80)
        first = stage.senders.start()
        dispatches = await stage.queue(instance_id, 200)
        await eventually(lambda: len(stage.simulator.lines("request_open")) >= 80, deadline_s=60)
        first.kill()
        stage.senders.start()

        def settled() -> bool:
            return len(stage.dispatches(MessageSent) | stage.dispatches(MessageResolved)) == 200

        async def reported() -> bool:
            await stage.report(instance_id)
            await stage.release_again()
            return settled()

        await eventually(reported, deadline_s=80)

        opened = stage.simulator.lines("request_open")
        left = Counter(line["label"].rpartition(":")[0] for line in opened)
        assert set(left.values()) == {1}
        assert most_in_window([line["mono_ns"] / 1e9 for line in opened], 1.0) <= 80
        ambiguous = stage.dispatches(MessageAmbiguous)
        unresolved = {
            one.envelope.subject for one in stage.told
            if isinstance(one.event, MessageResolved) and one.event.outcome == "unresolved"
        }  # fmt: skip
        # Committed to, but killed before their departure: nothing proves anything, so a person may decide.
        assert unresolved == set(map(str, dispatches)) - set(left)
        assert ambiguous >= unresolved
        found = await rows(
            stage.database.admin_dsn,
            "SELECT state, count(*)::int AS n FROM attempt WHERE instance_id = $1 GROUP BY 1",
            instance_id,
        )
        states = {row["state"]: row["n"] for row in found}
        assert states == Counter({"accepted": 200 - len(unresolved), "unresolved": len(unresolved)}) - Counter()


async def test_after_gate_closed_nothing_of_the_campaign_leaves(make_stage: Callable[..., Any]) -> None:
    async with make_stage({"faults": {"latency_ms": 50}}) as stage:
        instance_id = await _set_up(stage, messages_per_second=40, target_per_second=40)
        stage.senders.start()
        campaign = uuid4()
        await stage.queue(instance_id, 200, campaign_id=campaign)
        await eventually(lambda: len(stage.simulator.lines("request_open")) >= 20, deadline_s=60)
        asked = outgoing(
            topics.CAMPAIGNS, str(campaign), CampaignPausing(run_epoch=1), source="campaign-api",
            account_id=ACCOUNT, time=datetime.now(UTC), stream_version=5,
        )  # fmt: skip
        await stage.producer.publish([asked])
        await eventually(lambda: stage.of(GateClosed), deadline_s=15)
        sent_at_close = len(stage.simulator.lines("request_open"))

        await eventually(
            lambda: len(stage.dispatches(MessageSent) | stage.dispatches(MessageReturned)) == 200, deadline_s=60
        )

        assert len(stage.simulator.lines("request_open")) == sent_at_close
        assert {event.reason for event in stage.of(MessageReturned)} <= {"paused", "expired"}
        assert stage.of(GateClosed) == [GateClosed(run_epoch=1)]


async def test_refused_credentials_stop_the_instance_and_keep_its_messages(make_stage: Callable[..., Any]) -> None:
    async with make_stage() as stage:
        instance_id = await _set_up(stage, token="another")
        stage.senders.start()
        await stage.queue(instance_id, 60)

        def told() -> bool:
            return bool(stage.of(BreakerOpened)) and len(stage.dispatches(MessageFailed, MessageReturned)) == 60

        await eventually(told, deadline_s=60)

        assert {(event.reason, event.until) for event in stage.of(BreakerOpened)} == {("credentials", None)}
        failed = stage.of(MessageFailed)
        assert {(event.reason, event.retryable, event.counts) for event in failed} == {("credentials", True, False)}
        assert len(failed) < 60, "what had not left was kept"
        assert "instance_stopped" in {event.reason for event in stage.of(MessageReturned)}

        # A person entered other credentials: whoever waits for the instance must hear that it may go on.
        await stage.producer.publish([configured(instance_id, stage.simulator.url, "entered anew")])
        await eventually(lambda: bool(stage.of(BreakerClosed)), deadline_s=60)


async def test_a_throttled_number_rests_and_its_retries_do_not_count(make_stage: Callable[..., Any]) -> None:
    async with make_stage({"faults": {"throttled_share": 1.0}}) as stage:
        instance_id = await _set_up(stage, messages_per_second=20, target_per_second=20)
        healthy = await _set_up(stage, messages_per_second=20, target_per_second=20, faults={"throttled_share": 0.0})
        stage.senders.start()
        throttled = {str(key) for key in await stage.queue(instance_id, 40)}
        fine = {str(key) for key in await stage.queue(healthy, 40)}

        async def told() -> bool:
            await stage.release_again()
            answered = stage.dispatches(MessageFailed, MessageReturned)
            return fine <= stage.dispatches(MessageSent) and throttled <= answered and bool(stage.of(InstanceThrottled))

        await eventually(told, deadline_s=60)

        failed = stage.of(MessageFailed)
        assert {(event.reason, event.counts) for event in failed} == {("number_rate", False)}
        assert all(event.not_before is not None for event in failed)
        assert len(failed) < 40, "the lane rests instead of hammering"
        assert {event.reason for event in stage.of(MessageReturned)} <= {"throttled", "expired"}
