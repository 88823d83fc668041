"""Rebuilding while running: the same tables to the byte, and the live consumers go on in the new generation."""

import asyncio
import secrets

import asyncpg
import pytest

from backing import MakeDatabase
from chassis.kafka import Producer, ensure_topics
from chassis.telemetry import REGISTRY
from contracts import topics
from contracts.statuses import StatusReceived
from projection_histories import Record, draw_history
from projection_parts import migrate_projections, projections_settings, publish, serving, wait_until
from projections.consumers import COMPONENTS, TIMELINE
from projections.generation.log import LogIsShorter
from projections.generation.rebuild import compare, rebuild

pytestmark = [pytest.mark.postgres, pytest.mark.kafka]


async def test_rebuilt_equals_live_while_live_goes_on(database_factory: MakeDatabase, kafka_bootstrap: str) -> None:
    database = database_factory(migrate_projections)
    settings = projections_settings(database, kafka_bootstrap)
    await ensure_topics(settings.kafka, topics.ALL)
    producer = Producer(settings.kafka)
    reader = await asyncpg.connect(database.roles["projections_worker"], server_settings={"search_path": "projections"})
    published = 0

    async def publish_for_ever() -> None:
        nonlocal published
        await publish(producer, draw_history(1, events_min=600))  # enough for a row in every table
        while True:
            history = draw_history(secrets.randbits(32))
            await publish(producer, history)
            published += len(history)
            await asyncio.sleep(0.5)

    async def applied() -> int:
        groups = [component.group for component in COMPONENTS]
        count: int = await reader.fetchval(
            "SELECT coalesce(sum(next_offset), 0)::bigint FROM consumer_offset WHERE consumer_group = ANY($1)", groups
        )
        return count

    async def applied_more_than(count: int) -> bool:
        return await applied() > count

    try:
        async with serving(settings):
            writing = asyncio.get_running_loop().create_task(publish_for_ever())
            await wait_until(lambda: applied_more_than(500), seconds=60)
            first = await rebuild(settings)
            assert await reader.fetchval("SELECT current FROM generation") == first.generation == "projections_g2"
            assert first.events > 0

            await wait_until(lambda: applied_more_than(published))
            second = await rebuild(settings)
            assert second.generation == "projections_g1"
            assert second.standstill_s < 5

            compared = await compare(settings)
            assert compared.differing == []
            assert min(digest.rows for digest in compared.live.values()) > 0
            writing.cancel()
    finally:
        await reader.close()
        await producer.stop()


async def test_what_cannot_be_written_is_left_out_as_the_live_service_parked_it(
    database_factory: MakeDatabase, kafka_bootstrap: str
) -> None:
    database = database_factory(migrate_projections)
    settings = projections_settings(database, kafka_bootstrap)
    await ensure_topics(settings.kafka, topics.ALL)
    producer = Producer(settings.kafka)

    def count_parked() -> float:
        labels = {"group": TIMELINE.group, "topic": topics.STATUS_RECEIVED.name}
        return REGISTRY.get_sample_value("pombo_records_parked_total", labels) or 0

    before = count_parked()

    async def is_parked() -> bool:
        return count_parked() > before

    try:
        await publish(producer, [_spoil(record) for record in draw_history(2, events_min=300)])
        async with serving(settings):
            await wait_until(is_parked, seconds=60)
        compared = await compare(settings)
    finally:
        await producer.stop()

    assert compared.differing == []
    assert compared.live["message"].rows > 0


async def test_a_log_that_is_shorter_than_what_was_read_is_told_and_not_waited_for(
    database_factory: MakeDatabase, kafka_bootstrap: str
) -> None:
    database = database_factory(migrate_projections)
    settings = projections_settings(database, kafka_bootstrap)
    await ensure_topics(settings.kafka, topics.ALL)
    writer = await asyncpg.connect(database.roles["projections_worker"], server_settings={"search_path": "projections"})
    try:
        await writer.execute(
            "INSERT INTO consumer_offset (consumer_group, topic, partition, next_offset) VALUES ($1, $2, 0, 10^12)",
            TIMELINE.group,
            topics.STATUS_RECEIVED.name,
        )
    finally:
        await writer.close()

    with pytest.raises(LogIsShorter, match=topics.STATUS_RECEIVED.name):
        await rebuild(settings)


def _spoil(record: Record) -> Record:
    """PostgreSQL has no text with a zero in it."""
    envelope, event = record
    if isinstance(event, StatusReceived) and event.status == "failed":
        return envelope, event.model_copy(update={"detail": "\0"})
    return record
