"""The whole service on a real Kafka and PostgreSQL, with a sender that accepts everything."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from uuid import UUID, uuid4

import pytest
from aiokafka import AIOKafkaConsumer

from backing import MakeDatabase
from chassis.kafka import Encoded, Outgoing, Producer, ensure_topics, outgoing, received
from chassis.settings import KafkaSettings
from contracts import topics
from contracts.envelope import Event, write_headers
from contracts.messages import MessageQueued
from contracts.progress import CampaignDrained
from contracts.topics import Topic
from scheduler.app import Scheduler
from scheduler_parts import (
    ACCOUNT,
    NOON,
    chunks,
    definition,
    instance,
    migrate_scheduler,
    people,
    sent,
    settings,
    started,
)

pytestmark = [pytest.mark.postgres, pytest.mark.kafka]
DEADLINE_S = 60


def record(topic: Topic, key: UUID, event: Event) -> Outgoing:
    return outgoing(topic, str(key), event, source="tests", account_id=ACCOUNT, time=NOON)


@asynccontextmanager
async def reading(bootstrap: str, topic: Topic) -> AsyncIterator[AIOKafkaConsumer]:
    """From the end: other tests of the session use the same topics."""
    consumer = AIOKafkaConsumer(topic.name, bootstrap_servers=bootstrap, auto_offset_reset="latest")
    await consumer.start()
    await consumer.seek_to_end()
    try:
        yield consumer
    finally:
        await consumer.stop()


async def accept_everything(consumer: AIOKafkaConsumer, producer: Producer, campaign: UUID, seen: set[UUID]) -> None:
    while True:
        for batch in (await consumer.getmany(timeout_ms=20)).values():
            answers: list[Outgoing] = []
            for raw in batch:
                one = received(raw)
                if one is None or not isinstance(one.event, MessageQueued) or one.event.campaign_id != campaign:
                    continue
                seen.add(one.event.dispatch_id)
                dispatch_id, event = sent(one.event, UUID(one.key))
                answers.append(record(topics.MESSAGE_SENT, dispatch_id, event))
            await producer.publish(answers)


async def reason(consumer: AIOKafkaConsumer, campaign: UUID) -> str:
    async for raw in consumer:
        headers = dict(raw.headers)
        if raw.key == str(campaign).encode() and headers["parked_group"] == b"scheduler-campaigns":
            return str(headers["parked_reason"].decode())
    raise AssertionError("the topic ended")


async def drained(consumer: AIOKafkaConsumer, campaign: UUID) -> CampaignDrained:
    async for raw in consumer:
        one = received(raw)
        if one is not None and isinstance(one.event, CampaignDrained) and one.key == str(campaign):
            return one.event
    raise AssertionError("the topic ended")


async def test_a_campaign_runs_to_its_end_through_kafka_and_what_cannot_be_read_is_parked(
    database_factory: MakeDatabase, kafka_bootstrap: str
) -> None:
    kafka = KafkaSettings(bootstrap=kafka_bootstrap, partitions_max=3)
    await ensure_topics(kafka, topics.ALL)
    scheduler = Scheduler(settings(database_factory(migrate_scheduler), kafka_bootstrap))
    campaign, instance_id, stopping = uuid4(), uuid4(), asyncio.Event()
    producer, seen = Producer(kafka), set[UUID]()
    async with (
        reading(kafka_bootstrap, topics.MESSAGE_QUEUED) as queued,
        reading(kafka_bootstrap, topics.CAMPAIGN_PROGRESS) as progress,
        reading(kafka_bootstrap, topics.PARKED) as parked,
        asyncio.timeout(DEADLINE_S),
        asyncio.TaskGroup() as tasks,
    ):
        serving = tasks.create_task(scheduler.serve(stopping))
        sender = tasks.create_task(accept_everything(queued, producer, campaign, seen))
        await producer.publish(
            [
                record(topics.INSTANCES, instance_id, instance(rate=1000)),
                *(
                    record(topics.CAMPAIGN_RECIPIENTS, key, event)
                    for key, event in chunks(campaign, people(campaign, 2000))
                ),
            ]
        )
        for number in range(3):
            spoilt = record(topics.CAMPAIGNS, campaign, started(definition([instance_id]), number))
            headers = write_headers(spoilt.envelope)
            value = b'{"run_epoch": "one"}'
            await producer.publish_encoded([Encoded(topics.CAMPAIGNS.name, str(campaign).encode(), value, headers)])
        while not scheduler.readiness.all_ready or not scheduler.readiness.report():
            await asyncio.sleep(0.02)
        await producer.publish([record(topics.CAMPAIGNS, campaign, started(definition([instance_id]), 2000))])
        assert await drained(progress, campaign) == CampaignDrained(run_epoch=1, planned=2000)
        reasons = [await reason(parked, campaign) for _ in range(3)]
        assert all(each.startswith("Undecodable") for each in reasons)
        sender.cancel()
        stopping.set()
        await serving
    assert len(seen) == 2000
    await producer.stop()
