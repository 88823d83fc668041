"""People who had themselves erased: on a real PostgreSQL."""

from uuid import UUID, uuid4

import pytest

from contracts import ids, topics
from contracts.contacts import ContactErased, ContactOptedOut
from contracts.operations import UnresolvedDecided
from contracts.progress import CampaignDrained
from scheduler_parts import (
    ACCOUNT,
    TWO_STEPS,
    Bench,
    add_instance,
    ambiguous,
    chunks,
    definition,
    failed,
    folded,
    people,
    resolved,
    run_out,
    sent,
    start_campaign,
    started,
)

pytestmark = pytest.mark.postgres


async def erase(on: Bench, campaign: UUID, number: int) -> None:
    person = people(campaign, number + 1)[number]
    await on.tell(topics.CONTACTS, (person.contact_id, ContactErased(recipient_key=ids.phone_key(person.phone))))


async def known(on: Bench) -> list[tuple[str, str, str, str]]:
    rows = await on.rows("SELECT recipient_key, phone, name, custom_fields FROM recipient WHERE erased")
    return [tuple(row) for row in rows]


async def test_what_waits_is_skipped_and_the_plan_forgets_who_it_was(on: Bench) -> None:
    instance_id = await add_instance(on, rate=0.2)
    campaign = await start_campaign(on, definition([instance_id], steps=TWO_STEPS), 5)
    (out,) = await on.turn()
    await erase(on, campaign, 3)
    assert await on.states(campaign) == {"released": 1, "pending": 7, "skipped": 2}
    reasons = await on.rows("SELECT DISTINCT reason FROM dispatch WHERE state = 'skipped'")
    assert [row["reason"] for row in reasons] == ["erased"]
    assert await known(on) == [("", "", "", "{}")]
    assert len(await on.rows("SELECT 1 FROM binding")) == 4
    assert [row["bound"] for row in await on.rows("SELECT bound FROM occupancy")] == [4]
    await on.tell(topics.MESSAGE_SENT, sent(out, instance_id))
    assert len(await run_out(on, instance_id)) == 7
    assert list((await folded(on, campaign)).values()).count("skipped") == 2
    assert len(await on.events(CampaignDrained)) == 1


async def test_what_is_out_keeps_its_address_until_its_outcome_and_is_not_tried_again(on: Bench) -> None:
    instance_id = await add_instance(on, rate=0.2)
    campaign = await start_campaign(on, definition([instance_id], steps=TWO_STEPS), 1)
    (out,) = await on.turn()
    await erase(on, campaign, 0)
    ((_, phone, name, _),) = await known(on)
    assert (phone, name) == (out.address.phone, "")
    await on.tell(topics.MESSAGE_SENT, failed(out, instance_id))
    assert await on.states(campaign) == {"skipped": 2}
    await on.scheduler.upkeep.remove_old()
    assert await known(on) == [("", "", "", "{}")]
    assert await on.turn() == []


async def test_an_unresolved_one_is_not_sent_again(on: Bench) -> None:
    instance_id = await add_instance(on, rate=0.2)
    campaign = await start_campaign(on, definition([instance_id]), 1)
    (out,) = await on.turn()
    await on.tell(topics.MESSAGE_SENT, ambiguous(out, instance_id), resolved(out, instance_id, "unresolved"))
    await erase(on, campaign, 0)
    order = UnresolvedDecided(dispatch_id=out.dispatch_id, decision="send_again", by=uuid4())
    await on.tell(topics.OPERATIONS, (ACCOUNT, order))
    assert await on.states(campaign) == {"skipped": 1}
    assert await on.turn() == []


async def test_who_was_erased_before_the_plan_is_not_planned(on: Bench) -> None:
    instance_id, campaign = await add_instance(on), uuid4()
    await on.tell(topics.CAMPAIGN_RECIPIENTS, *chunks(campaign, people(campaign, 3)))
    await on.tell(topics.CAMPAIGNS, (campaign, started(definition([instance_id]), 3)))
    await erase(on, campaign, 1)
    assert len(await on.turn()) == 2
    assert await on.states(campaign) == {"released": 2, "skipped": 1}


async def test_suppression_outlives_an_erasure(on: Bench) -> None:
    instance_id, campaign = await add_instance(on), uuid4()
    (person,) = people(campaign, 1)
    key = ids.phone_key(person.phone)
    await on.tell(topics.CONTACTS, (person.contact_id, ContactOptedOut(recipient_key=key, reason="manual")))
    await on.tell(topics.CONTACTS, (person.contact_id, ContactErased(recipient_key=key)))
    await start_campaign(on, definition([instance_id]), 1, campaign_id=campaign)
    assert await on.turn() == []
    assert await on.states(campaign) == {"skipped": 1}
