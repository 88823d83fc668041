"""The whole process on real Kafka and PostgreSQL: relay out, progress in, live changes."""

import asyncio
import json
import socket
from collections.abc import AsyncIterator
from dataclasses import dataclass, replace
from typing import Any
from uuid import UUID, uuid4

import httpx
import pytest
from aiokafka import AIOKafkaConsumer

from backing import Templates
from campaign_api.app import build
from campaign_api.door.principal import Principal
from campaign_api.live.http import _stream as stream_of
from campaign_parts import Bench, Person, migrate_campaign_api, settings_for
from chassis.kafka import Producer, ensure_topics, outgoing, received
from chassis.lifecycle import utc_now
from chassis.settings import KafkaSettings
from contracts import topics
from contracts.campaigns import CampaignPaused, CampaignPausing, CampaignStarted
from contracts.changes import ViewChanged
from contracts.envelope import Event
from contracts.instances import InstanceConnected, QrCodeUpdated
from contracts.progress import GateClosed
from contracts.topics import Topic

pytestmark = [pytest.mark.postgres, pytest.mark.kafka]


@dataclass(slots=True)
class Running:
    bench: Bench
    producer: Producer
    kafka: KafkaSettings
    url: str

    async def publish(self, topic: Topic, key: object, account_id: UUID, event: Event) -> None:
        record = outgoing(topic, str(key), event, source="tests", account_id=account_id, time=utc_now())
        await self.producer.publish([record])

    async def published(self, topic: Topic, key: str, wanted: type[Event]) -> Event:
        """Waits for the first event of this type with this key."""
        consumer = AIOKafkaConsumer(topic.name, bootstrap_servers=self.kafka.bootstrap, auto_offset_reset="earliest")
        await consumer.start()
        try:
            async with asyncio.timeout(30):
                async for record in consumer:
                    read = received(record)
                    if read is not None and read.key == key and isinstance(read.event, wanted):
                        return read.event
        finally:
            await consumer.stop()
        raise AssertionError("unreachable")


@pytest.fixture(scope="module")
async def running(database_templates: Templates, kafka_bootstrap: str) -> AsyncIterator[Running]:
    database = database_templates.fresh(migrate_campaign_api)
    kafka = KafkaSettings(bootstrap=kafka_bootstrap, partitions_max=2)
    await ensure_topics(kafka, topics.ALL)
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    stopping = asyncio.Event()
    settings = settings_for(database, kafka=kafka, http_port=port, pause_wait_s=10.0, drain_s=3.0)
    application = build(settings, stopping)
    producer = Producer(kafka)
    await producer.start()
    async with asyncio.TaskGroup() as tasks:
        tasks.create_task(application.serve())
        made = Running(Bench(application, database), producer, kafka, f"http://127.0.0.1:{port}")
        async with httpx.AsyncClient(base_url=made.url) as client, asyncio.timeout(60):
            while True:
                try:
                    if (await client.get("/ready")).status_code == 200:
                        break
                except httpx.TransportError:
                    pass
                await asyncio.sleep(0.1)
        yield made
        await producer.stop()
        stopping.set()
    database_templates.drop(database)


async def person(running: Running) -> Person:
    return await running.bench.admin()


async def test_a_start_reaches_kafka_and_a_pause_comes_back_as_paused(running: Running) -> None:
    ana = await person(running)
    campaign = await ana.campaign(is_draft=False)
    started = await running.published(topics.CAMPAIGNS, campaign["id"], CampaignStarted)
    assert isinstance(started, CampaignStarted)
    assert started.recipient_count == 3

    async def sender() -> None:
        await running.published(topics.CAMPAIGNS, campaign["id"], CampaignPausing)
        await running.publish(topics.CAMPAIGN_PROGRESS, campaign["id"], ana.account_id, GateClosed(run_epoch=1))

    paused, _ = await asyncio.gather(ana.client.put(f"/api/campaigns/{campaign['id']}/pause"), sender())
    assert paused.json()["campaign"]["status"] == "paused"
    assert isinstance(await running.published(topics.CAMPAIGNS, campaign["id"], CampaignPaused), CampaignPaused)


async def test_a_qr_code_is_shown_until_the_phone_is_connected(running: Running) -> None:
    ana = await person(running)
    answer = await ana.client.post("/api/instances", json=instance_body("aura"))
    instance_id = answer.json()["id"]
    assert (await ana.client.post("/api/instance/connect", json={"instanceName": "aura"})).json() == {
        "status": "initializing",
        "instanceId": instance_id,
        "instanceName": "aura",
    }
    qr = QrCodeUpdated(qr_code="data:image/png;base64,AAAA", at=utc_now())
    await running.publish(topics.INSTANCE_HEALTH, instance_id, ana.account_id, qr)
    status = await until_status(ana, "connecting")
    assert status["qrCode"] == "data:image/png;base64,AAAA"
    connected = InstanceConnected(phone_number="5511999990000", at=utc_now())
    await running.publish(topics.INSTANCE_HEALTH, instance_id, ana.account_id, connected)
    status = await until_status(ana, "connected")
    assert (status["qrCode"], status["phoneNumber"]) == (None, "5511999990000")


def instance_body(name: str) -> dict[str, Any]:
    return {
        "name": name,
        "provider": "evolution_web",
        "server_url": "http://gateway.example:8080",
        "instance_name": name,
        "credentials": {"apikey": "k"},
    }


async def until_status(person: Person, wanted: str) -> dict[str, Any]:
    async with asyncio.timeout(20):
        while True:
            found: dict[str, Any] = (await person.client.get("/api/instance/status?instanceName=aura")).json()
            if found["status"] == wanted:
                return found
            await asyncio.sleep(0.05)


async def test_live_changes_are_the_accounts_own_and_resumable(running: Running) -> None:
    ana, rival = await person(running), await person(running)
    token = ana.client.headers["authorization"]
    first, second, foreign = uuid4(), uuid4(), uuid4()

    async def change(account: Person, view_id: UUID) -> None:
        event = ViewChanged(view="campaign", id=view_id, summary={"sent": 1})
        await running.publish(topics.CHANGES, account.account_id, account.account_id, event)

    async with httpx.AsyncClient(base_url=running.url, headers={"authorization": token}, timeout=30) as client:
        async with client.stream("GET", "/api/events") as stream:
            assert stream.headers["content-type"].startswith("text/event-stream")
            lines = stream.aiter_lines()
            assert await anext(lines) == "retry: 2000"
            await change(rival, foreign)
            await change(ana, first)
            last_id, data = await next_event(lines)
            assert data["id"] == str(first)
        await change(ana, second)
        async with client.stream("GET", "/api/events", headers={"Last-Event-ID": last_id}) as stream:
            _, data = await next_event(stream.aiter_lines())
            assert data["id"] == str(second)


@pytest.mark.parametrize("last_id", ["0.999999999", "no id of ours", "1.5.2"])
async def test_whoever_cannot_be_told_what_was_missed_is_told_to_load_anew(running: Running, last_id: str) -> None:
    ana = await person(running)
    headers = {"authorization": ana.client.headers["authorization"], "Last-Event-ID": last_id}
    async with (
        httpx.AsyncClient(base_url=running.url, headers=headers, timeout=30) as client,
        client.stream("GET", "/api/events") as stream,
        asyncio.timeout(20),
    ):
        async for line in stream.aiter_lines():
            if line.startswith("event: "):
                assert line == "event: reload"
                return
    raise AssertionError("the stream ended")


async def test_a_stream_ends_when_its_token_would(running: Running) -> None:
    ana = await person(running)
    short = running.bench.application.parts.settings.model_copy(update={"access_token_s": 1})
    parts = replace(running.bench.application.parts, settings=short)
    principal = Principal(ana.account_id, ana.user_id, "admin", "user")
    async with asyncio.timeout(20):
        told = [part async for part in stream_of(parts, principal, None)]
    assert told[0] == b"retry: 2000\n\n"


async def next_event(lines: AsyncIterator[str]) -> tuple[str, dict[str, Any]]:
    event_id = ""
    async with asyncio.timeout(20):
        async for line in lines:
            if line.startswith("id: "):
                event_id = line[4:]
            if line.startswith("data: "):
                return event_id, json.loads(line[6:])
    raise AssertionError("the stream ended")
