"""Answers typed by people, and whom a contact is bound to: on a real PostgreSQL."""

import asyncio
from collections.abc import AsyncIterator
from datetime import UTC, datetime
from uuid import UUID, uuid4

import pytest

from backing import MakeDatabase
from chassis.database import driver
from contracts import ids, topics
from contracts.contacts import ContactOptedOut
from contracts.conversations import AnswerContent, AnswerWritten, MessageReceived
from contracts.ids import Address
from contracts.operations import HoldSet
from contracts.progress import DispatchesChanged
from scheduler.plan import pools
from scheduler.settings import PacingSettings
from scheduler_parts import (
    ACCOUNT,
    Bench,
    add_instance,
    bench,
    definition,
    failed,
    migrate_scheduler,
    people,
    returned,
    sent,
    start_campaign,
)

pytestmark = pytest.mark.postgres
CHAT = Address(phone="5511987654321")


@pytest.fixture
async def on(database_factory: MakeDatabase) -> AsyncIterator[Bench]:
    async with bench(database_factory(migrate_scheduler), PacingSettings(unpublished_s=0.01, stuck_s=0.01)) as made:
        yield made


def answer(instance_id: UUID, text: str = "Claro! {{nome}}") -> AnswerWritten:
    return AnswerWritten(
        instance_id=instance_id,
        contact_id=ids.contact_id(ACCOUNT, ids.recipient_key(CHAT)),
        address=CHAT,
        content=AnswerContent(text=text),
        by=uuid4(),
        reply_to="wamid.1",
    )


def inbound(instance_id: UUID, phone: str, *, direction: str = "in") -> tuple[UUID, MessageReceived]:
    chat = Address(phone=phone)
    now = datetime.now(UTC)
    return ids.chat_id(instance_id, chat), MessageReceived(
        instance_id=instance_id, message_id=uuid4(), provider_message_id="x", chat=chat, direction=direction,
        origin="contact", type="text", text="oi", message_at=now, received_at=now,
    )  # fmt: skip


async def wait_over(on: Bench) -> None:
    await on.execute("UPDATE dispatch SET due_at = now() WHERE waits = 'time'")


async def test_an_answer_leaves_at_once_whatever_holds_the_campaigns(on: Bench) -> None:
    instance_id = await add_instance(on, rate=1)
    key = ids.recipient_key(CHAT)
    await on.tell(topics.CONTACTS, (uuid4(), ContactOptedOut(recipient_key=key, reason="manual")))
    await start_campaign(on, definition([instance_id]), 50)
    assert len(await on.turn()) == 5
    conversation = ids.chat_id(instance_id, CHAT)
    await on.tell(topics.CONVERSATIONS, (conversation, answer(instance_id)))
    (queued,) = await on.turn()
    assert (queued.priority, queued.campaign_id, queued.recipient_id, queued.reply_to) == (
        "person",
        None,
        None,
        "wamid.1",
    )
    assert (queued.content.text, queued.address) == ("Claro! {{nome}}", CHAT)
    assert await on.turn() == []
    await on.tell(topics.MESSAGE_SENT, sent(queued, instance_id))
    changes = [
        (change.state, change.version)
        for key, event in await on.events(DispatchesChanged)
        if key == str(conversation) and isinstance(event, DispatchesChanged)
        for change in event.changes
    ]
    assert changes == [("released", 1), ("accepted", 2)]
    (lane,) = await on.rows("SELECT in_flight FROM lane")
    assert lane["in_flight"] == 5


async def test_an_answer_that_fails_or_comes_back_is_tried_again(on: Bench) -> None:
    instance_id = await add_instance(on)
    await on.tell(topics.CONVERSATIONS, (uuid4(), answer(instance_id)))
    (first,) = await on.turn()
    await on.tell(topics.MESSAGE_SENT, failed(first, instance_id))
    assert await on.turn() == []
    await wait_over(on)
    (second,) = await on.turn()
    assert (second.attempt, second.release) == (2, 1)
    await on.tell(topics.MESSAGE_SENT, returned(second, instance_id, "held"))
    await wait_over(on)
    (third,) = await on.turn()
    assert (third.attempt, third.release) == (2, 2)


async def test_an_answer_that_was_not_published_is_found_by_the_sweep(on: Bench) -> None:
    instance_id = await add_instance(on)
    await on.tell(topics.CONVERSATIONS, (uuid4(), answer(instance_id)))
    await asyncio.sleep(0.02)
    assert len(await on.sweep()) == 1


async def test_an_account_on_hold_still_plans_its_answers_for_the_sender_to_return(on: Bench) -> None:
    instance_id = await add_instance(on)
    await on.tell(topics.OPERATIONS, (ACCOUNT, HoldSet(scope="account", held=True, version=1)))
    await on.tell(topics.CONVERSATIONS, (uuid4(), answer(instance_id)))
    assert len(await on.turn()) == 1


async def test_a_pool_binds_each_new_contact_to_an_instance_with_room(on: Bench) -> None:
    pool = [await add_instance(on, max_users=30), await add_instance(on, max_users=30)]
    await start_campaign(on, definition(pool), 100)
    await on.turn()
    bound = await on.rows("SELECT instance_id, count(*) AS people FROM binding GROUP BY 1")
    assert {row["instance_id"]: row["people"] for row in bound} == dict.fromkeys(pool, 30)
    occupied = await on.rows("SELECT bound FROM occupancy")
    assert [row["bound"] for row in occupied] == [30, 30]
    assert len(await on.allocated()) == 60
    used = await on.rows("SELECT DISTINCT instance_id FROM dispatch")
    assert {row["instance_id"] for row in used} == set(pool)


async def test_the_room_of_a_pool_is_what_others_have_left_of_it(on: Bench) -> None:
    """Others bind between the reading of the pool and the locking of its counts."""
    instance_id = await add_instance(on, max_users=25)
    async with on.database.transaction() as connection:
        raw = await driver(connection)
        read = await pools.load(raw, ACCOUNT, definition([instance_id]))
        await on.tell(topics.MESSAGE_RECEIVED, *(inbound(instance_id, one.phone) for one in people(uuid4(), 10)))
        locked = await pools.with_room(raw, ACCOUNT, read)
        again = await pools.with_room(raw, ACCOUNT, locked)
    assert [one.room for one in (*read, *locked, *again)] == [25, 15, 15]


async def test_a_bound_contact_stays_with_its_instance_inside_the_pool_only(on: Bench) -> None:
    home, other = await add_instance(on), await add_instance(on)
    campaign, elsewhere = uuid4(), uuid4()
    await on.tell(topics.MESSAGE_RECEIVED, *(inbound(home, one.phone) for one in people(campaign, 40)))
    await start_campaign(on, definition([home, other]), 40, campaign_id=campaign)
    await start_campaign(on, definition([other]), 40, campaign_id=elsewhere)
    await on.turn()
    rows = await on.rows("SELECT DISTINCT campaign_id, instance_id FROM dispatch")
    assert {(row["campaign_id"], row["instance_id"]) for row in rows} == {(campaign, home), (elsewhere, other)}


async def test_who_writes_is_bound_within_the_maximum_and_with_either_form_of_a_brazilian_number(on: Bench) -> None:
    instance_id = await add_instance(on, max_users=2)
    numbers = ["5511987654321", "551187654321", "5521912345678", "5531912345678"]
    await on.tell(topics.MESSAGE_RECEIVED, *(inbound(instance_id, number) for number in numbers))
    await on.tell(topics.MESSAGE_RECEIVED, inbound(instance_id, "5541912345678", direction="out"))
    rows = await on.rows("SELECT recipient_key FROM binding")
    assert {row["recipient_key"] for row in rows} == {"551187654321", "552112345678"}


async def test_two_campaigns_planned_at_once_never_bind_more_than_the_maximum(on: Bench) -> None:
    pool = [await add_instance(on, max_users=25), await add_instance(on, max_users=25)]
    await start_campaign(on, definition(pool), 60)
    await start_campaign(on, definition(pool), 60, first=30)
    await on.scheduler.planning.discover()
    async with asyncio.TaskGroup() as tasks:
        for _ in range(4):
            tasks.create_task(on.scheduler.planning.plan_page())
    occupied = await on.rows("SELECT bound FROM occupancy")
    assert [row["bound"] for row in occupied] == [25, 25]
    rows = await on.rows("SELECT count(*) FROM binding")
    assert rows[0]["count"] == 50
