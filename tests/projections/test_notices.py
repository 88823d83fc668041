"""Live screens are told what changed: few notices however many events, with figures and without personal data."""

import asyncio
import random
from uuid import UUID, uuid4

import pytest
from aiokafka import AIOKafkaConsumer

from backing import MakeDatabase
from chassis.kafka import Producer, ensure_topics
from contracts import campaigns, ids
from contracts import topics as all_topics
from contracts.changes import ViewChanged
from contracts.codec import decode
from contracts.envelope import read_headers
from projection_histories import PHONES, History
from projection_parts import migrate_projections, projections_settings, publish, serving

pytestmark = [pytest.mark.postgres, pytest.mark.kafka]


def write_campaign(history: History, account: UUID, campaign: UUID, chunks: int) -> None:
    definition = campaigns.Definition(name="March", steps=(campaigns.Step(kind="text", content="oi"),))
    history.tell(account, campaign, campaigns.CampaignCreated(run_epoch=0, definition=definition), streamed=True)
    for chunk in range(chunks):
        one = campaigns.Recipient(
            recipient_id=ids.recipient_id(campaign, str(chunk)), contact_id=uuid4(), external_id=str(chunk),
            phone=PHONES[0],
        )  # fmt: skip
        history.tell(account, campaign, campaigns.RecipientsAdded(chunk=chunk, recipients=(one,)))


async def test_a_campaign_is_told_seldom_and_at_last_with_its_final_figures(
    database_factory: MakeDatabase, kafka_bootstrap: str
) -> None:
    settings = projections_settings(database_factory(migrate_projections), kafka_bootstrap)
    await ensure_topics(settings.kafka, all_topics.ALL)
    listener = AIOKafkaConsumer("changes", bootstrap_servers=kafka_bootstrap, auto_offset_reset="latest")
    await listener.start()
    await listener.seek_to_end()
    producer = Producer(settings.kafka)
    account, campaign = uuid4(), uuid4()
    history = History(random.Random(1))
    write_campaign(history, account, campaign, chunks=300)
    told: list[ViewChanged] = []
    try:
        async with serving(settings), asyncio.timeout(60):
            await publish(producer, history.records)
            while not told or told[-1].summary["total_contacts"] < 300:
                record = await listener.getone()
                envelope = read_headers(record.headers)
                if envelope.account_id != account:
                    continue
                assert PHONES[0].encode() not in record.value
                assert record.key == str(account).encode()
                event = decode(envelope.type, envelope.version, record.value)
                assert isinstance(event, ViewChanged)
                told.append(event)
    finally:
        await listener.stop()
        await producer.stop()
    assert {(notice.view, notice.id) for notice in told} == {("campaign", campaign)}
    assert told[-1].summary["pending_count"] == 300
    assert told[-1].summary["status"] == "draft"
    assert len(told) <= 30
