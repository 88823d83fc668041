"""Products, tasks, groups, canned answers, the account's settings; answers and messages of people."""

from datetime import datetime, timedelta
from typing import Any
from uuid import UUID, uuid4

import asyncpg
import pytest

from campaign_parts import Bench, Person
from chassis.lifecycle import utc_now
from contracts import ids
from contracts.contacts import ContactSaved
from contracts.conversations import AnswerWritten, ConversationAssigned, ConversationStateChanged, MessageReceived
from contracts.directory import AccountSaved, ProductSaved, UserSaved
from contracts.envelope import Envelope, Event
from contracts.ids import Address
from projection_parts import apply, enter

pytestmark = pytest.mark.postgres
ANA_PHONE = Address(phone="5511987654321")


@pytest.mark.parametrize(
    ("noun", "body", "change"),
    [
        ("products", {"name": "Curso", "price_cents": 9990}, {"price_cents": None, "details": {"cor": "azul"}}),
        ("tasks", {"title": "Ligar", "due_at": "2026-12-01T09:00:00-03:00"}, {"status": "done"}),
        ("groups", {"name": "VIPs", "tags": ["vip"]}, {"tags": ["vip", "sp"]}),
        ("canned-answers", {"shortcut": "oi", "text": "Olá!"}, {"text": "Bom dia!"}),
    ],
)
async def test_the_desk_keeps_what_it_is_given(
    ana: Person, noun: str, body: dict[str, Any], change: dict[str, Any]
) -> None:
    made = await ana.client.post(f"/api/{noun}", json=body)
    assert made.status_code == 201, made.text
    url = f"/api/{noun}/{made.json()['id']}"
    changed = await ana.client.patch(url, json=change)
    assert {name: changed.json()[name] for name in change} == change
    assert (await ana.client.get(url)).json() == changed.json()
    assert [row["id"] for row in (await ana.client.get(f"/api/{noun}")).json()] == [made.json()["id"]]
    assert (await ana.client.delete(url)).json() == {"success": True}
    assert (await ana.client.get(url)).status_code == 404


async def test_two_answers_cannot_have_one_shortcut(ana: Person) -> None:
    body = {"shortcut": "oi", "text": "Olá!"}
    assert (await ana.client.post("/api/canned-answers", json=body)).status_code == 201
    assert (await ana.client.post("/api/canned-answers", json=body)).status_code == 409


async def test_the_read_models_hear_of_accounts_people_and_products(api: Bench, ana: Person) -> None:
    await ana.client.patch("/api/account", json={"time_zone": "America/Manaus", "stop_words": ["CHEGA"]})
    product = (await ana.client.post("/api/products", json={"name": "Curso"})).json()
    await ana.client.delete(f"/api/products/{product['id']}")
    events = [event for topic, _, event in await api.outbox(ana.account_id) if topic == "directory"]
    assert [type(event) for event in events] == [AccountSaved, UserSaved, AccountSaved, ProductSaved, ProductSaved]
    assert isinstance(events[2], AccountSaved)
    assert events[2].time_zone == "America/Manaus"
    assert isinstance(events[4], ProductSaved)
    assert events[4].deleted
    assert (await ana.client.get("/api/account")).json()["stop_words"] == ["CHEGA"]


async def project(api: Bench, person: Person, *events: tuple[str, Event]) -> None:
    """What the read models would have learnt from Kafka by now."""
    connection = await asyncpg.connect(api.database.roles["projections_worker"])
    try:
        async with connection.transaction():
            await enter(connection)
            records = [
                (
                    Envelope(uuid4(), type(event).__name__, 1, "tests", key, utc_now(), person.account_id),
                    event,
                )
                for key, event in events
            ]
            await apply(connection, records)
    finally:
        await connection.close()


async def conversation(api: Bench, person: Person, instance_id: str, at: datetime) -> str:
    """A person has written to the instance."""
    chat = ids.chat_id(UUID(instance_id), ANA_PHONE)
    message = MessageReceived(
        instance_id=UUID(instance_id),
        message_id=uuid4(),
        provider_message_id=uuid4().hex,
        chat=ANA_PHONE,
        direction="in",
        origin="contact",
        type="text",
        text="Oi, tudo bem?",
        message_at=at,
        received_at=at,
    )
    await project(api, person, (str(chat), message))
    return str(chat)


async def test_an_answer_leaves_through_the_instance_that_received(api: Bench, ana: Person) -> None:
    instance_id = await ana.instance()
    chat = await conversation(api, ana, instance_id, utc_now())
    (listed,) = (await ana.client.get("/api/conversations")).json()
    assert (listed["id"], listed["last_message_preview"], listed["unread_count"]) == (chat, "Oi, tudo bem?", 1)
    headers = {"Idempotency-Key": "uma vez"}
    url = f"/api/conversations/{chat}/messages"
    answer = await ana.client.post(url, json={"text": "Tudo!"}, headers=headers)
    assert answer.status_code == 201, answer.text
    assert answer.json()["success"] is True
    await api.rows("DELETE FROM idempotency WHERE account_id = $1 RETURNING 1", ana.account_id)  # as after a crash
    again = await ana.client.post(url, json={"text": "Tudo!"}, headers=headers)
    assert again.json() == answer.json()
    written = [event for _, _, event in await api.outbox(ana.account_id) if isinstance(event, AnswerWritten)]
    assert [(str(event.instance_id), event.address, event.by) for event in written] == [
        (instance_id, ANA_PHONE, ana.user_id)
    ]
    assert (await ana.client.get(url)).json()[0]["text"] == "Oi, tudo bem?"


async def test_outside_the_window_of_24_hours_a_template_is_asked_for(api: Bench, ana: Person) -> None:
    instance_id = await ana.instance(
        provider="meta_cloud", instance_name=None, phone_number_id="1", credentials={"access_token": "t"}
    )
    chat = await conversation(api, ana, instance_id, utc_now() - timedelta(hours=25))
    url = f"/api/conversations/{chat}/messages"
    refused = await ana.client.post(url, json={"text": "Ainda está aí?"})
    assert refused.status_code == 409
    assert "template" in refused.json()["error"]
    template = {"content_type": "template", "template_name": "retomar", "template_language": "pt_BR"}
    assert (await ana.client.post(url, json=template)).status_code == 201


async def test_a_conversation_is_taken_and_resolved(api: Bench, ana: Person) -> None:
    operator, other = await api.colleague(ana, "operator"), await api.colleague(ana, "operator")
    chat = await conversation(api, ana, await ana.instance(), utc_now())
    url = f"/api/conversations/{chat}"
    assert (await operator.client.put(f"{url}/assignee", json={"assignee_id": str(other.user_id)})).status_code == 403
    taken = await operator.client.put(f"{url}/assignee", json={"assignee_id": str(operator.user_id)})
    assert taken.json() == {"success": True}
    await project(api, ana, (chat, ConversationAssigned(assignee=operator.user_id, by=operator.user_id)))
    assert (await other.client.get(url)).status_code == 404
    assert (await other.client.get("/api/conversations")).json() == []
    assert (await operator.client.put(f"{url}/state", json={"state": "resolved"})).status_code == 200
    await operator.client.post(f"{url}/messages", json={"text": "Mais uma coisa"})
    events = [event for topic, _, event in await api.outbox(ana.account_id) if topic == "conversations"]
    assert [event.state for event in events if isinstance(event, ConversationStateChanged)] == ["resolved", "open"]


async def test_one_message_to_a_phone_opens_the_conversation(api: Bench, ana: Person) -> None:
    instance_id = await ana.instance()
    sent = await ana.client.post("/api/messages", json={"phone_number": "11 98765-4321", "text": "Olá"})
    assert sent.status_code == 201, sent.text
    contact = (
        await ana.client.post("/api/contacts", json={"phone_number": "11987654322", "external_id": "crm-7"})
    ).json()
    assert (await ana.client.post("/api/messages", json={"external_id": "crm-7", "text": "Olá"})).status_code == 201
    assert (await ana.client.post("/api/messages", json={"contact_id": contact["id"], "text": "Oi"})).status_code == 201
    assert (await ana.client.post("/api/messages", json={"external_id": "ninguém", "text": "Oi"})).status_code == 404
    assert (await ana.client.post("/api/messages", json={"text": "Oi"})).status_code == 422
    written = [event for _, _, event in await api.outbox(ana.account_id) if isinstance(event, AnswerWritten)]
    assert [(str(event.instance_id), event.address.phone) for event in written] == [
        (instance_id, "5511987654321"),
        (instance_id, "5511987654322"),
        (instance_id, "5511987654322"),
    ]
    assert any(isinstance(event, ContactSaved) for _, _, event in await api.outbox(ana.account_id))
