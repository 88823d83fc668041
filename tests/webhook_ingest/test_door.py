"""The door and the translator on a real Kafka and a real PostgreSQL."""

import asyncio
import base64
import hmac
import os
import signal
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from datetime import UTC, datetime
from hashlib import sha256
from typing import Any
from uuid import UUID, uuid4

import aiohttp
import orjson
import pytest
from aiokafka import AIOKafkaConsumer

from backing import MakeDatabase
from chassis.database import Database as Schema
from chassis.database import driver, migrate
from chassis.kafka import Producer, ensure_topics, outgoing
from chassis.secrets import SecretBox
from chassis.settings import KafkaSettings, PostgresSettings, SecretsSettings
from chassis.telemetry import REGISTRY
from contracts import topics
from contracts.instances import InstanceConfigured
from pombo.backing import Database, KafkaServer
from pombo.backing.kafka import LocalKafka
from webhook_ingest.app import serve, translate
from webhook_ingest.settings import Settings

pytestmark = [pytest.mark.postgres, pytest.mark.kafka]

DEADLINE_S = 90  # generous: the machine may be busy with other tests
ACCOUNT = UUID(int=1)
KEYS = f"k1:{base64.b64encode(bytes(32)).decode()}"
NOW = datetime(2026, 3, 1, 12, tzinfo=UTC)


def migrate_ingest(database: Database) -> None:
    migrate(database.roles["webhook_ingest_owner"], "webhook_ingest", "webhook_ingest")


def settings_for(database: Database, bootstrap: str, port: int, **more: Any) -> Settings:
    return Settings.model_validate(
        {
            "kafka": {"bootstrap": bootstrap, "partitions_max": 2},
            "postgres": {"dsn": database.roles["webhook_ingest_worker"]},
            "secrets": {"keys": KEYS},
            "http_port": port,
            "app_secrets": "installation-secret",
            "verify_token": "hello",
            "publish_wait_s": 2,
            "spool_poll_s": 0.1,
            **more,
        }
    )


@asynccontextmanager
async def running(settings: Settings) -> AsyncIterator[str]:
    stopping = asyncio.Event()
    address = f"http://127.0.0.1:{settings.http_port}"
    async with asyncio.TaskGroup() as tasks:
        tasks.create_task(serve(settings, stopping))
        tasks.create_task(translate(settings, stopping))
        try:
            await until_answered(address)
            yield address
        finally:
            stopping.set()


async def until_answered(address: str) -> None:
    async with asyncio.timeout(DEADLINE_S), aiohttp.ClientSession() as client:
        while True:
            try:
                async with client.get(address + "/nothing"):
                    return
            except aiohttp.ClientConnectionError:
                await asyncio.sleep(0.05)


async def read_records(bootstrap: str, topic: str, wanted: Any) -> list[Any]:
    """Records of `topic` from the beginning until `wanted(records)` holds, at most DEADLINE_S."""
    consumer = AIOKafkaConsumer(topic, bootstrap_servers=bootstrap, auto_offset_reset="earliest")
    await consumer.start()
    found: list[Any] = []
    try:
        async with asyncio.timeout(DEADLINE_S):
            while not wanted(found):
                for batch in (await consumer.getmany(timeout_ms=200)).values():
                    found += batch
        return found
    finally:
        await consumer.stop()


def of(instance: UUID) -> Any:
    return lambda record: orjson.loads(record.value).get("instance_id") == str(instance)


async def configure_instance(bootstrap: str, instance: UUID, **fields: Any) -> None:
    settings = KafkaSettings(bootstrap=bootstrap, partitions_max=2)
    await ensure_topics(settings, topics.ALL)
    box = SecretBox(SecretsSettings.model_validate({"keys": KEYS}))
    event = InstanceConfigured(
        name="Aura",
        server_url="http://gateway.example",
        webhook_key_hashes=(sha256(b"key-1").hexdigest(),),
        credentials={
            name: box.seal(value, account_id=ACCOUNT, instance_id=instance, field=name)
            for name, value in fields.pop("credentials", {}).items()
        },
        **fields,
    )
    producer = Producer(settings)
    await producer.start()
    record = outgoing(
        topics.INSTANCES, str(instance), event, source="campaign-api", account_id=ACCOUNT, time=NOW, stream_version=1
    )
    await producer.publish([record])
    await producer.stop()


def free_port() -> int:
    import socket

    with socket.socket() as listening:
        listening.bind(("127.0.0.1", 0))
        port: int = listening.getsockname()[1]
        return port


def meta_status(number: str, wamid: str, status: str = "delivered") -> dict[str, Any]:
    value = {
        "messaging_product": "whatsapp",
        "metadata": {"display_phone_number": "5511", "phone_number_id": number},
        "statuses": [{"id": wamid, "status": status, "timestamp": "1790000000", "recipient_id": "553199990001"}],
    }
    entry = {"id": "waba", "changes": [{"field": "messages", "value": value}]}
    return {"object": "whatsapp_business_account", "entry": [entry]}


def signed(secret: str, body: bytes) -> dict[str, str]:
    return {"X-Hub-Signature-256": "sha256=" + hmac.new(secret.encode(), body, sha256).hexdigest()}


async def test_a_signed_meta_status_answered_with_200_reaches_status_received(
    kafka_server: KafkaServer, database_factory: MakeDatabase
) -> None:
    bootstrap, instance, number = kafka_server.bootstrap, uuid4(), str(uuid4().int)
    await configure_instance(
        bootstrap, instance, provider="meta_cloud", phone_number_id=number, credentials={"app_secret": "own-secret"}
    )
    settings = settings_for(database_factory(migrate_ingest), bootstrap, free_port())
    body = orjson.dumps(meta_status(number, "wamid.A"))
    async with running(settings) as address, aiohttp.ClientSession() as client:
        url = address + "/api/webhook/meta"
        async with asyncio.timeout(DEADLINE_S):  # the instance must have been read first
            while (await client.post(url, data=body, headers=signed("own-secret", body))).status != 200:
                await asyncio.sleep(0.1)
        assert (await client.post(url, data=body, headers=signed("wrong", body))).status == 401
        assert (await client.post(url, data=body)).status == 401
        huge = orjson.dumps(meta_status(number, "wamid." + "A" * 2_200_000))  # of the door's size, not of Kafka's
        assert (await client.post(url, data=huge, headers=signed("own-secret", huge))).status == 413
        records = await read_records(bootstrap, topics.STATUS_RECEIVED.name, lambda all: any(map(of(instance), all)))
    status = orjson.loads(next(filter(of(instance), records)).value)
    assert (status["provider_message_id"], status["status"]) == ("wamid.A", "delivered")


async def test_evolution_knows_an_unknown_instance_from_a_wrong_key(
    kafka_server: KafkaServer, database_factory: MakeDatabase
) -> None:
    bootstrap, instance, name = kafka_server.bootstrap, uuid4(), f"loja-{uuid4().hex}"
    await configure_instance(bootstrap, instance, provider="evolution_web", gateway_instance=name)
    settings = settings_for(database_factory(migrate_ingest), bootstrap, free_port())
    key = {"apikey": "key-1"}
    inbound = {
        "event": "messages.upsert",
        "instance": name,
        "data": {
            "key": {"id": "3A", "remoteJid": "553199990001@s.whatsapp.net", "fromMe": False},
            "message": {"conversation": "SAIR"},
            "messageType": "conversation",
            "messageTimestamp": 1790000001,
            "pushName": "Ana",
        },
        "apikey": "the-gateways-own-secret",
    }
    async with running(settings) as address, aiohttp.ClientSession() as client:
        url = f"{address}/api/webhook/evolution/{instance}"
        assert (
            await client.post(f"{address}/api/webhook/evolution/{uuid4()}", json=inbound, headers=key)
        ).status == 503
        async with asyncio.timeout(DEADLINE_S):
            while (await client.post(url, json=inbound, headers=key)).status != 200:
                await asyncio.sleep(0.1)
        assert (await client.post(url, json=inbound, headers={"apikey": "no"})).status == 401
        assert (await client.post(f"{address}/api/webhook", json=inbound, headers=key)).status == 200
        assert (await client.post(f"{address}/api/webhook", data=b"{", headers=key)).status == 400
        received = await read_records(bootstrap, topics.MESSAGE_RECEIVED.name, lambda all: any(map(of(instance), all)))
        raw = await read_records(bootstrap, topics.WEBHOOK_RECEIVED.name, lambda all: any(map(of(instance), all)))
    message = orjson.loads(next(filter(of(instance), received)).value)
    assert (message["text"], message["profile_name"], message["chat"]["phone"]) == ("SAIR", "Ana", "553199990001")
    assert all(b"the-gateways-own-secret" not in record.value and b"key-1" not in record.value for record in raw)


async def test_metas_handshake_and_limits(kafka_server: KafkaServer, database_factory: MakeDatabase) -> None:
    await ensure_topics(KafkaSettings(bootstrap=kafka_server.bootstrap, partitions_max=2), topics.ALL)
    settings = settings_for(database_factory(migrate_ingest), kafka_server.bootstrap, free_port(), body_max_bytes=1000)
    async with running(settings) as address, aiohttp.ClientSession() as client:
        ask = {"hub.mode": "subscribe", "hub.verify_token": "hello", "hub.challenge": "42"}
        answer = await client.get(address + "/api/webhook/meta", params=ask)
        assert (answer.status, await answer.text()) == (200, "42")
        refused = await client.get(address + "/api/webhook/meta", params=ask | {"hub.verify_token": "x"})
        assert refused.status == 403
        assert (await client.post(address + "/api/webhook/meta", data=os.urandom(2000))).status == 413
        assert (await client.put(address + "/api/webhook/meta")).status == 405


async def test_what_cannot_be_read_is_parked_and_the_translator_goes_on(
    kafka_server: KafkaServer, database_factory: MakeDatabase
) -> None:
    bootstrap, instance, number = kafka_server.bootstrap, uuid4(), str(uuid4().int)
    await configure_instance(
        bootstrap, instance, provider="meta_cloud", phone_number_id=number, credentials={"app_secret": "parking"}
    )
    settings = settings_for(database_factory(migrate_ingest), bootstrap, free_port())
    marker = uuid4().hex
    async with running(settings) as address, aiohttp.ClientSession() as client:
        for payload in (
            f'{{"object": "{marker}'.encode(),  # broken JSON
            orjson.dumps(meta_status("999-nobody", marker)),  # a number that no instance has
            orjson.dumps(meta_status(number, f"wamid.{marker}")),
        ):
            headers = signed("parking", payload)  # 200 only once the number is known
            async with asyncio.timeout(DEADLINE_S):
                while (await client.post(address + "/api/webhook/meta", data=payload, headers=headers)).status != 200:
                    await asyncio.sleep(0.1)
        ours = lambda record: marker.encode() in record.value  # noqa: E731
        parked = await read_records(bootstrap, topics.PARKED.name, lambda all: len(list(filter(ours, all))) >= 2)
        await read_records(bootstrap, topics.STATUS_RECEIVED.name, lambda all: any(filter(ours, all)))
    reasons = [dict(record.headers)["parked_reason"].decode() for record in filter(ours, parked)]
    assert any("not_json" in reason for reason in reasons)
    assert any("999-nobody" in reason for reason in reasons)


async def test_while_kafka_is_away_webhooks_are_spooled_and_drained_later(
    kafka_server: KafkaServer, database_factory: MakeDatabase
) -> None:
    bootstrap, instance, number = kafka_server.bootstrap, uuid4(), str(uuid4().int)
    await configure_instance(bootstrap, instance, provider="meta_cloud", phone_number_id=number)
    fresh = database_factory(migrate_ingest)
    settings = settings_for(fresh, bootstrap, free_port(), publish_wait_s=0.2)
    body = orjson.dumps(meta_status(number, f"wamid.{uuid4().hex}"))
    spooled = Schema.connect(
        PostgresSettings.model_validate({"dsn": fresh.roles["webhook_ingest_worker"]}),
        schema="webhook_ingest",
        application_name="test",
    )
    async with running(settings) as address, aiohttp.ClientSession() as client:
        url, headers = address + "/api/webhook/meta", signed("installation-secret", body)
        assert (await client.post(url, data=body, headers=headers)).status == 200
        kafka_server.kill()
        try:
            for _ in range(3):
                assert (await client.post(url, data=body, headers=headers)).status == 200
            async with spooled.transaction() as connection:
                assert await (await driver(connection)).fetchval("SELECT count(*) FROM spool") == 3
        finally:
            await asyncio.to_thread(kafka_server.start)
        async with asyncio.timeout(DEADLINE_S):
            while True:
                async with spooled.transaction() as connection:
                    if await (await driver(connection)).fetchval("SELECT count(*) FROM spool") == 0:
                        break
                await asyncio.sleep(0.2)
        same = lambda record: orjson.loads(record.value).get("body") == body.decode()  # noqa: E731
        raw = await read_records(bootstrap, topics.WEBHOOK_RECEIVED.name, lambda all: len(list(filter(same, all))) >= 4)
    await spooled.close()
    assert len(list(filter(same, raw))) >= 4


async def test_a_door_that_starts_while_kafka_is_away_fills_the_spool(
    kafka_server: KafkaServer, database_factory: MakeDatabase
) -> None:
    bootstrap, instance, number = kafka_server.bootstrap, uuid4(), str(uuid4().int)
    await configure_instance(bootstrap, instance, provider="meta_cloud", phone_number_id=number)
    fresh = database_factory(migrate_ingest)
    settings = settings_for(fresh, bootstrap, free_port(), publish_wait_s=0.2)
    body = orjson.dumps(meta_status(number, message := f"wamid.{uuid4().hex}"))
    kafka_server.kill()
    async with running(settings) as address, aiohttp.ClientSession() as client:
        url, headers = address + "/api/webhook/meta", signed("installation-secret", body)
        try:
            assert (await client.post(url, data=body, headers=headers)).status == 200
        finally:
            await asyncio.to_thread(kafka_server.start)
        told = await read_records(bootstrap, topics.STATUS_RECEIVED.name, lambda all: any(map(of(instance), all)))
    # Perhaps more than once: the drain does not know what became of a record when the broker came back in its middle.
    assert {orjson.loads(record.value)["provider_message_id"] for record in filter(of(instance), told)} == {message}


async def test_webhooks_of_one_moment_go_to_the_spool_together_and_a_late_acknowledgement_ends_it(
    kafka_server: KafkaServer, database_factory: MakeDatabase
) -> None:
    """A broker that stands still and goes on. The spool is never looked at here: only the acknowledgement tells."""
    assert isinstance(kafka_server, LocalKafka), "a container's process cannot be stopped from here"
    bootstrap, instance, number = kafka_server.bootstrap, uuid4(), str(uuid4().int)
    await configure_instance(bootstrap, instance, provider="meta_cloud", phone_number_id=number)
    fresh = database_factory(migrate_ingest)
    settings = settings_for(fresh, bootstrap, free_port(), publish_wait_s=0.5, spool_poll_s=3600)
    body = orjson.dumps(meta_status(number, f"wamid.{uuid4().hex}"))

    def kept(where: str) -> float:
        labels = {"provider": "meta", "kept": where}
        return REGISTRY.get_sample_value("pombo_webhooks_received_total", labels) or 0

    async with running(settings) as address, aiohttp.ClientSession() as client:

        async def post() -> int:
            url = address + "/api/webhook/meta"
            return (await client.post(url, data=body, headers=signed("installation-secret", body))).status

        assert await post() == 200
        assert kafka_server.pid is not None
        os.kill(kafka_server.pid, signal.SIGSTOP)
        try:
            before = kept("spool")
            assert await asyncio.gather(*[post() for _ in range(40)]) == [200] * 40
            assert kept("spool") == before + 40
        finally:
            os.kill(kafka_server.pid, signal.SIGCONT)
        before = kept("kafka")
        async with asyncio.timeout(DEADLINE_S):
            while kept("kafka") == before:
                assert await post() == 200
                await asyncio.sleep(0.05)
