"""Plans: chunks in any order, pages that tell what they planned, and what a crash between the two leaves."""

import random
from uuid import UUID, uuid4

import orjson
import pytest
from aiokafka.errors import KafkaConnectionError

from chassis.kafka import Encoded
from contracts import ids, topics
from contracts.campaigns import CampaignCancelled, CampaignCancelling, CampaignDeleted, Recipient, RecipientsAdded
from contracts.codec import decode
from contracts.contacts import ContactsAllocated
from contracts.envelope import read_headers, write_headers
from contracts.progress import CampaignDrained, DispatchesChanged
from contracts.topics import ALLOCATIONS, CAMPAIGN_PROGRESS, SCHEDULER
from scheduler.plan.planning import Planning
from scheduler_parts import (
    ACCOUNT,
    TWO_STEPS,
    Bench,
    add_instance,
    chunks,
    definition,
    folded,
    people,
    run_out,
    start_campaign,
    started,
)

pytestmark = pytest.mark.postgres


def another_process(on: Bench) -> Planning:
    planning = Planning(on.database, on.producer, on.scheduler.planning._definitions, on.scheduler.signals, 5000)  # type: ignore[arg-type]
    on.scheduler.worker._planning = planning
    return planning


def allocations(on: Bench) -> list[Encoded]:
    return [record for record in on.producer.told if record.topic == ALLOCATIONS.name]


async def test_chunks_may_come_in_any_order_and_twice_before_and_after_the_start(on: Bench) -> None:
    instance_id, campaign = await add_instance(on), uuid4()
    records = chunks(campaign, people(campaign, 2300))
    shuffled = records + records[:2]
    random.Random(5).shuffle(shuffled)
    await on.tell(topics.CAMPAIGN_RECIPIENTS, *shuffled[:3])
    await on.tell(topics.CAMPAIGNS, (campaign, started(definition([instance_id]), 2300)))
    missing = {records[index][1].chunk for index in range(5)} - {one.chunk for _, one in shuffled[:3]}
    assert missing
    assert await on.turn() == []
    await on.tell(topics.CAMPAIGN_RECIPIENTS, *shuffled[3:])
    queued = await run_out(on, instance_id)
    assert len({one.dispatch_id for one in queued}) == len(queued) == 2300
    assert [one.content.text for one in queued[:2]] == ["Olá Pessoa 0", "Olá Pessoa 1"]


async def test_only_the_newest_audience_of_a_draft_is_planned(on: Bench) -> None:
    instance_id, campaign = await add_instance(on), uuid4()
    first = people(campaign, 700)
    changed = [one.model_copy(update={"name": "Outra"}) for one in people(campaign, 510, first=690)]
    await on.tell(topics.CAMPAIGN_RECIPIENTS, *chunks(campaign, first))
    second = [
        (campaign, RecipientsAdded(chunk=chunk, first_chunk=2, recipients=tuple(some)))
        for chunk, some in ((2, changed[:500]), (3, changed[500:]))
    ]
    await on.tell(topics.CAMPAIGN_RECIPIENTS, second[0])
    start = started(definition([instance_id]), 510).model_copy(update={"first_chunk": 2})
    await on.tell(topics.CAMPAIGNS, (campaign, start))
    assert await on.turn() == []
    await on.tell(topics.CAMPAIGN_RECIPIENTS, second[1], second[0])
    queued = await run_out(on, instance_id)
    assert len(queued) == 510
    assert {one.content.text for one in queued} == {"Olá Outra"}


async def test_of_two_audiences_in_one_batch_the_newer_one_stays(on: Bench) -> None:
    instance_id, campaign = await add_instance(on), uuid4()
    newer = RecipientsAdded(chunk=1, first_chunk=1, recipients=tuple(people(campaign, 2, first=4)))
    await on.tell(topics.CAMPAIGN_RECIPIENTS, *chunks(campaign, people(campaign, 5)), (campaign, newer))
    await on.tell(
        topics.CAMPAIGNS, (campaign, started(definition([instance_id]), 2).model_copy(update={"first_chunk": 1}))
    )
    assert sorted(one.content.text or "" for one in await on.turn()) == ["Olá Pessoa 4", "Olá Pessoa 5"]


async def test_the_audience_of_a_deleted_draft_does_not_stay(on: Bench) -> None:
    campaign = uuid4()
    await on.tell(topics.CAMPAIGNS, (campaign, CampaignDeleted(run_epoch=0)))
    await on.turn()
    await on.tell(topics.CAMPAIGN_RECIPIENTS, *chunks(campaign, people(campaign, 3)))
    await on.turn()
    await on.turn()
    assert await on.rows("SELECT 1 FROM recipient UNION ALL SELECT 1 FROM chunk") == []


async def test_the_same_start_again_plans_nothing_twice(on: Bench) -> None:
    instance_id = await add_instance(on)
    campaign = await start_campaign(on, definition([instance_id]), 30)
    queued = await on.turn()
    on.streams[campaign] = 0
    await on.tell(topics.CAMPAIGNS, (campaign, started(definition([instance_id]), 30)))
    assert await on.turn() == []
    assert len(queued) == 30


async def test_a_plan_of_many_pages(on: Bench) -> None:
    instance_id = await add_instance(on)
    campaign = await start_campaign(on, definition([instance_id], steps=TWO_STEPS), 11_000)
    await on.turn()
    states = await on.states(campaign)
    assert sum(states.values()) == 22_000
    assert len(await folded(on, campaign)) == 22_000
    assert len(await on.allocated()) == 11_000
    assert await on.rows("SELECT 1 FROM plan") == []


async def test_an_empty_audience_drains_at_once(on: Bench) -> None:
    instance_id = await add_instance(on)
    campaign = await start_campaign(on, definition([instance_id]), 0)
    await on.turn()
    await on.turn()
    assert await on.events(CampaignDrained) == [(str(campaign), CampaignDrained(run_epoch=1, planned=0))]


async def test_a_campaign_cancelled_while_it_is_planned_has_a_complete_plan(on: Bench) -> None:
    instance_id, campaign = await add_instance(on), uuid4()
    await on.tell(topics.CAMPAIGN_RECIPIENTS, *chunks(campaign, people(campaign, 700)))
    await on.tell(
        topics.CAMPAIGNS,
        (campaign, started(definition([instance_id]), 700)),
        (campaign, CampaignCancelling(run_epoch=1)),
    )
    assert await on.turn() == []
    assert await on.states(campaign) == {"cancelled": 700}


async def test_everybody_in_a_campaign_cancelled_before_its_plan_is_told_as_cancelled(on: Bench) -> None:
    """Its gate is closed within moments: the audience may still be on its way then."""
    instance_id, campaign = await add_instance(on), uuid4()
    await on.tell(
        topics.CAMPAIGNS,
        (campaign, started(definition([instance_id]), 700)),
        (campaign, CampaignCancelling(run_epoch=1)),
        (campaign, CampaignCancelled(run_epoch=1)),
    )
    assert await on.turn() == []
    await on.tell(topics.CAMPAIGN_RECIPIENTS, *chunks(campaign, people(campaign, 700)))
    assert await on.turn() == []
    assert await on.states(campaign) == {"cancelled": 700}
    assert list((await folded(on, campaign)).values()) == ["cancelled"] * 700
    assert await on.allocated() == []


async def test_the_first_of_a_repeated_recipient_counts(on: Bench) -> None:
    instance_id, campaign = await add_instance(on), uuid4()
    (same,) = people(campaign, 1)
    twice = RecipientsAdded(chunk=0, recipients=(same, Recipient(**{**same.model_dump(), "name": "Outra"})))
    await on.tell(topics.CAMPAIGN_RECIPIENTS, (campaign, twice))
    await on.tell(topics.CAMPAIGNS, (campaign, started(definition([instance_id]), 1)))
    assert [one.content.text for one in await on.turn()] == ["Olá Pessoa 0"]


async def test_what_a_page_tells_is_what_the_contracts_would_write(on: Bench) -> None:
    instance_id = await add_instance(on)
    campaign = await start_campaign(on, definition([instance_id], steps=TWO_STEPS), 300)
    await on.scheduler.worker.plan()
    told = on.producer.told
    assert {record.topic for record in told} == {CAMPAIGN_PROGRESS.name, ALLOCATIONS.name}
    for record in told:
        envelope = read_headers(record.headers)
        event = decode(envelope.type, envelope.version, record.value)
        # Byte for byte, but for what is the contract's default.
        assert orjson.dumps(event.model_dump(mode="json", exclude_defaults=True)) == record.value
        assert sorted(write_headers(envelope)) == sorted(record.headers)
        assert record.key == envelope.subject.encode()
        assert (envelope.account_id, envelope.source) == (ACCOUNT, SCHEDULER)
        if isinstance(event, DispatchesChanged):
            assert (record.topic, envelope.subject) == (CAMPAIGN_PROGRESS.name, str(campaign))
            assert len(event.changes) <= 500
        else:
            assert isinstance(event, ContactsAllocated)
            assert (record.topic, envelope.subject) == (ALLOCATIONS.name, str(instance_id))
            assert all(one.contact_id == ids.contact_id(ACCOUNT, one.recipient_key) for one in event.contacts)
            assert len(event.contacts) <= 500
    assert len({read_headers(record.headers).id for record in told}) == len(told)


@pytest.mark.parametrize("restarted", [False, True])
async def test_a_page_that_was_committed_and_not_told_is_told_before_the_next(on: Bench, restarted: bool) -> None:
    """Kafka away, or the process killed between commit and publication."""
    instance_id = await add_instance(on)
    campaign = await start_campaign(on, definition([instance_id]), 1200)
    on.producer.failing = KafkaConnectionError()
    with pytest.raises(KafkaConnectionError):
        await on.scheduler.worker.plan()
    assert await on.states(campaign) == {"pending": 500}
    assert on.producer.told == []
    if restarted:
        another_process(on)
        await on.scheduler.worker.plan()
        assert on.producer.told == [], "the other process may still be telling it"
        await on.execute("UPDATE plan SET due_at = now()")
    queued = await run_out(on, instance_id)
    assert len(queued) == 1200
    assert set((await folded(on, campaign)).values()) == {"accepted"}
    assert len(await folded(on, campaign)) == 1200
    assert len(set(await on.allocated())) == len(await on.allocated()) == 1200


async def test_a_page_told_twice_says_the_same(on: Bench) -> None:
    """Killed between publication and the next page: allocations are the same to the byte, changes are as of now."""
    instance_id = await add_instance(on)
    await start_campaign(on, definition([instance_id]), 40)
    planning = on.scheduler.planning
    await planning.discover()
    assert await planning.plan_page()
    first, on.producer.told = on.producer.told, []
    again = another_process(on)
    assert not await again.plan_page()
    await on.execute("UPDATE plan SET due_at = now()")
    assert await again.plan_page()
    assert allocations(on) == [record for record in first if record.topic == ALLOCATIONS.name]
    assert [decode("DispatchesChanged", 1, r.value) for r in on.producer.told if r.topic == CAMPAIGN_PROGRESS.name]
    while await again.plan_page():
        continue
    assert await on.rows("SELECT 1 FROM plan") == []


async def test_contacts_bound_before_are_not_allocated_again(on: Bench) -> None:
    pool = [await add_instance(on), await add_instance(on)]
    await start_campaign(on, definition(pool), 60)
    await on.turn()
    rows = await on.rows("SELECT recipient_key, instance_id FROM binding")
    bound: dict[str, UUID] = {row["recipient_key"]: row["instance_id"] for row in rows}
    second = await start_campaign(on, definition(pool), 80)
    await on.turn()
    assert len(await on.allocated()) == 80
    rows = await on.rows(
        "SELECT recipient_key, instance_id FROM dispatch JOIN recipient USING (recipient_id) "
        "WHERE dispatch.campaign_id = $1",
        second,
    )
    assert {row["recipient_key"]: row["instance_id"] for row in rows if row["recipient_key"] in bound} == bound
