"""One person under several names: suppression and binding hold for all of them. On a real PostgreSQL."""

import itertools
from datetime import UTC, datetime
from uuid import UUID, uuid4

import pytest

from contracts import ids, topics
from contracts.contacts import ContactAliasLearned, ContactOptedIn, ContactOptedOut
from contracts.conversations import MessageReceived
from contracts.ids import Address
from scheduler_parts import Bench, add_instance, definition, people, start_campaign

pytestmark = pytest.mark.postgres
LID = "1122334455@lid"
BSUID = "BR.42"


def learned(contact: UUID, **names: str) -> tuple[UUID, ContactAliasLearned]:
    return contact, ContactAliasLearned(address=Address(**names), source="message")


def wrote(instance_id: UUID, **names: str) -> tuple[UUID, MessageReceived]:
    chat, now = Address(**names), datetime.now(UTC)
    return ids.chat_id(instance_id, chat), MessageReceived(
        instance_id=instance_id, message_id=uuid4(), provider_message_id="x", chat=chat, direction="in",
        origin="contact", type="text", text="oi", message_at=now, received_at=now,
    )  # fmt: skip


async def suppressed(on: Bench) -> set[str]:
    return {row["recipient_key"] for row in await on.rows("SELECT recipient_key FROM opt_out")}


async def test_names_join_in_whatever_order_they_are_learnt(on: Bench) -> None:
    (person,) = people(uuid4(), 1)
    contact, key = person.contact_id, ids.phone_key(person.phone)
    events = [
        learned(contact, phone=person.phone, lid=LID),
        learned(contact, lid=LID, bsuid=BSUID),
        (contact, ContactOptedOut(recipient_key=BSUID, reason="stop_word")),
    ]
    for order in itertools.permutations(events):
        await on.execute("DELETE FROM alias")
        await on.execute("DELETE FROM opt_out")
        for event in order:
            await on.tell(topics.CONTACTS, event)
        assert await suppressed(on) == {key, LID, BSUID}
    await on.tell(topics.CONTACTS, (contact, ContactOptedIn(recipient_key=LID)))
    assert await suppressed(on) == set()


async def test_who_opted_out_under_another_name_is_skipped(on: Bench) -> None:
    instance_id, campaign = await add_instance(on, rate=0.2), uuid4()
    *_, person = people(campaign, 5)
    contact = person.contact_id
    await start_campaign(on, definition([instance_id]), 5, campaign_id=campaign)
    assert len(await on.turn()) == 1
    await on.tell(topics.CONTACTS, (contact, ContactOptedOut(recipient_key=LID, reason="stop_word")))
    assert await on.states(campaign) == {"released": 1, "pending": 4}
    await on.tell(topics.CONTACTS, learned(contact, phone=person.phone, lid=LID))
    assert await on.states(campaign) == {"released": 1, "pending": 3, "skipped": 1}


async def test_who_wrote_under_another_name_stays_with_that_number_and_counts_once(on: Bench) -> None:
    pool = [await add_instance(on) for _ in range(6)]
    campaign = uuid4()
    (person,) = people(campaign, 1)
    await on.tell(topics.MESSAGE_RECEIVED, wrote(pool[3], lid=LID))
    await on.tell(topics.CONTACTS, learned(person.contact_id, phone=person.phone, lid=LID))
    await start_campaign(on, definition(pool), 1, campaign_id=campaign)
    await on.turn()
    (row,) = await on.rows("SELECT instance_id FROM dispatch")
    assert row["instance_id"] == pool[3]
    assert sum(row["bound"] for row in await on.rows("SELECT bound FROM occupancy")) == 1


async def test_a_message_that_shows_two_names_binds_one_person(on: Bench) -> None:
    first, second = await add_instance(on), await add_instance(on)
    await on.tell(topics.MESSAGE_RECEIVED, wrote(first, phone="5511987654321", lid=LID))
    await on.tell(topics.MESSAGE_RECEIVED, wrote(second, lid=LID))
    bound = await on.rows("SELECT recipient_key, instance_id, counted FROM binding ORDER BY counted")
    assert [(row["instance_id"], row["counted"]) for row in bound] == [(first, False), (first, True)]
    assert {row["instance_id"]: row["bound"] for row in await on.rows("SELECT * FROM occupancy")} == {first: 1}
