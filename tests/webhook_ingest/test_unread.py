"""Webhooks that could not be translated, on a real PostgreSQL: kept for whoever's they are, tried again, cleared."""

from collections.abc import AsyncIterator, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any
from uuid import UUID, uuid4

import pytest
from aiokafka import ConsumerRecord
from pydantic import SecretStr

from backing import MakeDatabase
from chassis.database import Database, driver, migrate
from chassis.kafka import Outgoing, Received
from chassis.settings import PostgresSettings
from contracts.envelope import Envelope
from contracts.instances import InstanceConfigured, UnreadWebhookSettled, WebhookLeftUnread
from contracts.operations import UnreadWebhooksCleared, UnreadWebhooksReplayed
from contracts.statuses import StatusReceived
from pombo import backing
from providers.protocol import WebhookKeys
from webhook_ingest.admission import Admitted, KnownInstance
from webhook_ingest.consumers import Translator, read_kept
from webhook_ingest.directory import Directory
from webhook_ingest.raw import raw_webhook
from webhook_ingest.store import save_instances
from webhook_ingest.unread import Orders, Unread, left_unread

pytestmark = pytest.mark.postgres
NOW = datetime(2026, 3, 1, 12, tzinfo=UTC)
OURS, THEIRS = UUID(int=1), UUID(int=2)
NUMBER = KnownInstance(UUID(int=7), OURS, "evolution_web", "loja", None, None, WebhookKeys())
STRANGER = KnownInstance(UUID(int=8), THEIRS, "evolution_web", "outra", None, None, WebhookKeys())
READABLE = (
    b'{"event":"messages.update","instance":"loja","data":{"keyId":"K1","remoteJid":"5531999990001@s.whatsapp.net",'
    b'"fromMe":true,"status":"DELIVERY_ACK"}}'
)


class KeptProducer:
    def __init__(self) -> None:
        self.published: list[Outgoing] = []

    async def publish(self, records: Sequence[Outgoing]) -> None:
        self.published += records


@dataclass
class Stage:
    database: Database
    producer: KeptProducer = field(default_factory=KeptProducer)

    def __post_init__(self) -> None:
        directory = Directory(self.database, object())  # type: ignore[arg-type]
        directory.learn([NUMBER, STRANGER])
        self.unread = Unread(self.database, self.producer, lambda: NOW)  # type: ignore[arg-type]
        translator = Translator(directory, self.producer, batch_max=10)  # type: ignore[arg-type]
        self.orders = Orders(self.producer, translator.translate_again, lambda: NOW)  # type: ignore[arg-type]

    async def leave(self, number: KnownInstance, body: bytes, reason: str = "not_json") -> UUID:
        raw = raw_webhook(uuid4(), "evolution", Admitted(number), {}, body, traceparent=None, received_at=NOW)
        envelope, webhook = read_kept(raw.headers, raw.value)
        left = left_unread(envelope, webhook, raw.headers, raw.value, reason)
        assert left is not None
        await self.unread.keep([left])
        await self.unread.keep([left])  # the batch was repeated
        return raw.id

    async def order(self, order: Any, account_id: UUID = OURS) -> list[Any]:
        """What was published for it."""
        before = len(self.producer.published)
        envelope = Envelope(uuid4(), type(order).__name__, 1, "tests", str(account_id), NOW, account_id)
        async with self.database.transaction() as connection:
            await self.orders.handle(connection, [Received("operations", 0, 0, None, 0, envelope, order)])
        return [record.event for record in self.producer.published[before:]]

    async def kept(self) -> set[UUID]:
        async with self.database.transaction() as connection:
            return {row["id"] for row in await (await driver(connection)).fetch("SELECT id FROM unread")}


def migrate_ingest(database: backing.Database) -> None:
    migrate(database.roles["webhook_ingest_owner"], "webhook_ingest", "webhook_ingest")


@pytest.fixture
async def stage(database_factory: MakeDatabase) -> AsyncIterator[Stage]:
    dsn = SecretStr(database_factory(migrate_ingest).roles["webhook_ingest_worker"])
    database = Database.connect(PostgresSettings(dsn=dsn), schema="webhook_ingest", application_name="tests")
    yield Stage(database)
    await database.close()


async def test_it_is_kept_and_told_to_whoevers_number_it_is(stage: Stage) -> None:
    webhook_id = await stage.leave(NUMBER, b'{"broken')
    assert await stage.kept() == {webhook_id}
    told = stage.producer.published
    assert len({record.envelope.id for record in told}) == 1, "a repetition is the same event"
    assert (told[0].envelope.account_id, told[0].key) == (OURS, str(NUMBER.id))
    assert told[0].event == WebhookLeftUnread(webhook_id=webhook_id, reason="not_json", received_at=NOW, at=NOW)


async def test_a_webhook_that_can_be_read_now_is_translated_and_the_other_stays(stage: Stage) -> None:
    readable = await stage.leave(NUMBER, READABLE)
    broken = await stage.leave(NUMBER, b'{"broken')
    events = await stage.order(UnreadWebhooksReplayed())
    assert [event.status for event in events if isinstance(event, StatusReceived)] == ["delivered"]
    settled = [event for event in events if isinstance(event, UnreadWebhookSettled)]
    assert settled == [UnreadWebhookSettled(webhook_id=readable, outcome="translated", at=NOW)]
    assert await stage.kept() == {broken}


async def test_an_order_takes_what_it_names_and_nothing_of_another_account(stage: Stage) -> None:
    ours = [await stage.leave(NUMBER, b"[", reason) for reason in ("not_json", "not_json", "no_event")]
    theirs = await stage.leave(STRANGER, READABLE)
    assert await stage.order(UnreadWebhooksReplayed(webhook_ids=(theirs,))) == []
    assert await stage.order(UnreadWebhooksCleared(instance_id=STRANGER.id)) == []
    await stage.order(UnreadWebhooksCleared(webhook_ids=(ours[0],)))
    assert await stage.kept() == {*ours[1:], theirs}
    events = await stage.order(UnreadWebhooksCleared(reason="not_json"))
    assert events == [UnreadWebhookSettled(webhook_id=ours[1], outcome="cleared", at=NOW)]
    await stage.order(UnreadWebhooksCleared())
    assert await stage.kept() == {theirs}
    assert len(await stage.order(UnreadWebhooksReplayed(), THEIRS)) == 2


async def test_a_number_made_a_moment_before_its_webhook_is_known_to_the_translator(stage: Stage) -> None:
    """The door knew it already; the translator, another process, looked last just before."""
    directory = Directory(stage.database, object())  # type: ignore[arg-type]
    await directory.refresh()
    made = InstanceConfigured(
        name="Loja", provider="evolution_web", server_url="http://gateway.example", gateway_instance="loja"
    )
    async with stage.database.transaction() as connection:
        await save_instances(connection, [(OURS, NUMBER.id, 1, made)])
    raw = raw_webhook(uuid4(), "evolution", Admitted(NUMBER), {}, READABLE, traceparent=None, received_at=NOW)
    record = ConsumerRecord(
        "webhook-received", 0, 0, 0, 0, None, raw.value, None, 0, 0, tuple(raw.headers)
    )  # fmt: skip
    translator = Translator(directory, stage.producer, batch_max=10, keep=stage.unread.keep)  # type: ignore[arg-type]
    assert await translator.translate([record]) == 1
    assert await stage.kept() == set()


def test_what_names_no_number_is_nobodys() -> None:
    raw = raw_webhook(uuid4(), "meta", Admitted(None), {}, b"{}", traceparent=None, received_at=NOW)
    envelope, webhook = read_kept(raw.headers, raw.value)
    assert left_unread(envelope, webhook, raw.headers, raw.value, "no_entries") is None
