"""Pause, resume, cancel, retries, steps, opt-outs, crashes: on a real PostgreSQL."""

import asyncio
import random
from collections.abc import AsyncIterator
from datetime import UTC, datetime, timedelta
from uuid import UUID, uuid4

import pytest
from aiokafka.errors import KafkaConnectionError

from backing import MakeDatabase
from contracts import ids, topics
from contracts.campaigns import (
    CampaignCancelling,
    CampaignCompleted,
    CampaignPaused,
    CampaignPausing,
    CampaignResumed,
    CampaignScheduled,
    Recipient,
    RecipientsAdded,
    SendingPolicy,
    Step,
)
from contracts.contacts import ContactOptedOut
from contracts.instances import InstanceBanned
from contracts.messages import MessageQueued
from contracts.operations import DeadLettersRequeued, HoldSet, UnresolvedDecided
from contracts.progress import CampaignBlocked, CampaignDrained, CampaignDue, DispatchesChanged
from scheduler.settings import PacingSettings
from scheduler_parts import (
    ACCOUNT,
    AT_ONCE,
    TEXT,
    Bench,
    add_instance,
    ambiguous,
    bench,
    chunks,
    definition,
    failed,
    migrate_scheduler,
    people,
    resolved,
    returned,
    sent,
    start_campaign,
    started,
)

pytestmark = pytest.mark.postgres
TWO_STEPS = (TEXT, Step(kind="text", content="segunda"))
QUICK = PacingSettings(unpublished_s=0.01, stuck_s=0.01, blocked_grace_s=0)


@pytest.fixture
async def on(database_factory: MakeDatabase) -> AsyncIterator[Bench]:
    async with bench(database_factory(migrate_scheduler), QUICK) as made:
        yield made


async def settle_all(on: Bench, instance_id: UUID, queued: list[MessageQueued]) -> None:
    await on.tell(topics.MESSAGE_SENT, *(sent(one, instance_id) for one in queued))


async def run_out(on: Bench, instance_id: UUID) -> list[MessageQueued]:
    everything: list[MessageQueued] = []
    while queued := await on.turn():
        everything.extend(queued)
        await settle_all(on, instance_id, queued)
    return everything


async def folded(on: Bench, campaign: UUID) -> dict[UUID, str]:
    """The states as a reader of DispatchesChanged sees them: the highest version of each."""
    newest: dict[UUID, tuple[int, str]] = {}
    for key, event in await on.events(DispatchesChanged):
        if key == str(campaign) and isinstance(event, DispatchesChanged):
            for change in event.changes:
                newest[change.dispatch_id] = max(
                    newest.get(change.dispatch_id, (0, "")), (change.version, change.state)
                )
    return {dispatch: state for dispatch, (_, state) in newest.items()}


async def wait_over(on: Bench) -> None:
    """Lets every wait of a dispatch end now."""
    await on.execute("UPDATE dispatch SET due_at = now() WHERE waits = 'time'")


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


async def test_the_same_start_again_plans_nothing_twice(on: Bench) -> None:
    instance_id = await add_instance(on)
    campaign = await start_campaign(on, definition([instance_id]), 30)
    queued = await on.turn()
    on.streams[campaign] = 0
    await on.tell(topics.CAMPAIGNS, (campaign, started(definition([instance_id]), 30)))
    assert await on.turn() == []
    assert len(queued) == 30


async def test_a_plan_of_a_hundred_thousand_dispatches(on: Bench) -> None:
    instance_id = await add_instance(on)
    campaign = await start_campaign(on, definition([instance_id], steps=TWO_STEPS), 50_000)
    await on.turn()
    states = await on.states(campaign)
    assert sum(states.values()) == 100_000
    assert len(await folded(on, campaign)) == 100_000


async def test_an_empty_audience_drains_at_once(on: Bench) -> None:
    instance_id = await add_instance(on)
    campaign = await start_campaign(on, definition([instance_id]), 0)
    await on.turn()
    await on.turn()
    assert await on.events(CampaignDrained) == [(str(campaign), CampaignDrained(run_epoch=1, planned=0))]


async def test_no_more_than_the_credit_is_out(on: Bench) -> None:
    instance_id = await add_instance(on, rate=10)
    await start_campaign(on, definition([instance_id]), 200)
    first = await on.turn()
    assert len(first) == 50
    assert await on.turn() == []
    await settle_all(on, instance_id, first[:20])
    assert len(await on.turn()) == 20


async def test_with_delays_one_leaves_and_the_next_waits_for_its_outcome_and_the_delay(on: Bench) -> None:
    instance_id = await add_instance(on)
    await start_campaign(on, definition([instance_id], policy=SendingPolicy(min_delay_s=3600, max_delay_s=3700)), 5)
    first = await on.turn()
    assert len(first) == 1
    await settle_all(on, instance_id, first)
    assert await on.turn() == []
    await on.execute("UPDATE lane SET last_outcome_at = last_outcome_at - interval '3701 seconds', due_at = now()")
    assert len(await on.turn()) == 1


async def test_a_crash_between_commit_and_publish_loses_nothing(on: Bench) -> None:
    instance_id = await add_instance(on)
    campaign = await start_campaign(on, definition([instance_id]), 40)
    on.producer.failing = KafkaConnectionError()
    assert await on.turn() == []
    assert await on.states(campaign) == {"released": 40}
    await asyncio.sleep(0.02)
    again = await on.sweep()
    assert len(again) == 40
    assert {(one.attempt, one.release) for one in again} == {(1, 1)}


async def test_what_is_released_without_an_outcome_is_published_again_unchanged(on: Bench) -> None:
    instance_id = await add_instance(on)
    await start_campaign(on, definition([instance_id]), 10)
    first = await on.turn()
    await asyncio.sleep(0.02)
    again = await on.sweep()
    assert sorted(again, key=str) == sorted(first, key=str)
    await settle_all(on, instance_id, first)
    await settle_all(on, instance_id, again)
    await asyncio.sleep(0.02)
    assert await on.sweep() == []
    lanes = await on.rows("SELECT in_flight FROM lane")
    assert [row["in_flight"] for row in lanes] == [0]


async def test_a_paused_campaign_releases_nothing_and_goes_on_with_the_next_run(on: Bench) -> None:
    instance_id = await add_instance(on, rate=10)
    campaign = await start_campaign(on, definition([instance_id]), 120)
    out = await on.turn()
    await on.tell(topics.CAMPAIGNS, (campaign, CampaignPausing(run_epoch=1)))
    await on.tell(topics.MESSAGE_SENT, *(returned(one, instance_id, "paused") for one in out))
    await on.tell(topics.CAMPAIGNS, (campaign, CampaignPaused(run_epoch=1)))
    assert await on.turn() == []
    assert await on.states(campaign) == {"pending": 120}
    await on.tell(topics.CAMPAIGNS, (campaign, CampaignResumed(run_epoch=2)))
    again = await on.turn()
    assert {one.run_epoch for one in again} == {2}
    assert {one.dispatch_id for one in again} == {one.dispatch_id for one in out}
    assert {(one.attempt, one.release) for one in again} == {(1, 2)}
    await settle_all(on, instance_id, again)
    await run_out(on, instance_id)
    assert await on.states(campaign) == {"accepted": 120}


async def test_a_cancelled_campaign_ends_everything_that_is_not_out(on: Bench) -> None:
    instance_id = await add_instance(on, rate=10)
    campaign = await start_campaign(on, definition([instance_id], steps=TWO_STEPS), 3000)
    out = await on.turn()
    await on.tell(topics.CAMPAIGNS, (campaign, CampaignCancelling(run_epoch=1)))
    assert await on.turn() == []
    assert await on.states(campaign) == {"cancelled": 5950, "released": 50}
    await on.tell(topics.MESSAGE_SENT, *(returned(one, instance_id, "cancelled") for one in out[10:]))
    await settle_all(on, instance_id, out[:10])
    assert await on.states(campaign) == {"cancelled": 5990, "accepted": 10}
    assert list((await folded(on, campaign)).values()).count("cancelled") == 5990


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


async def test_steps_go_depth_first_and_each_after_the_one_before_was_accepted(on: Bench) -> None:
    instance_id = await add_instance(on, rate=0.2)
    campaign = await start_campaign(on, definition([instance_id], steps=TWO_STEPS), 3)
    order = [(one.recipient_id, one.step) for one in await run_out(on, instance_id)]
    persons = [one.recipient_id for one in people(campaign, 3)]
    assert order == [(person, step) for person in persons for step in (0, 1)]


async def test_an_ambiguous_step_blocks_the_next_and_an_unresolved_one_skips_it(on: Bench) -> None:
    instance_id = await add_instance(on)
    campaign = await start_campaign(on, definition([instance_id], steps=TWO_STEPS), 2)
    first, second = await on.turn()
    await on.tell(topics.MESSAGE_SENT, ambiguous(first, instance_id), ambiguous(second, instance_id))
    assert await on.turn() == []
    await on.tell(
        topics.MESSAGE_SENT, resolved(first, instance_id, "accepted"), resolved(second, instance_id, "unresolved")
    )
    (follower,) = await on.turn()
    assert (follower.recipient_id, follower.step) == (first.recipient_id, 1)
    assert await on.states(campaign) == {"accepted": 1, "released": 1, "unresolved": 1, "skipped": 1}


async def test_a_failed_step_skips_the_later_ones(on: Bench) -> None:
    instance_id = await add_instance(on)
    campaign = await start_campaign(on, definition([instance_id], steps=(*TWO_STEPS, TEXT)), 1)
    (first,) = await on.turn()
    await on.tell(topics.MESSAGE_SENT, failed(first, instance_id, retryable=False))
    assert await on.states(campaign) == {"failed": 1, "skipped": 2}
    await on.turn()
    assert await on.events(CampaignDrained) == [(str(campaign), CampaignDrained(run_epoch=1, planned=3))]


async def test_failures_are_retried_then_dead_and_a_resume_tries_them_again(on: Bench) -> None:
    instance_id = await add_instance(on)
    campaign = await start_campaign(on, definition([instance_id], steps=TWO_STEPS), 1)
    attempts = []
    for _ in range(4):
        (queued,) = await on.turn()
        attempts.append(queued.attempt)
        await on.tell(topics.MESSAGE_SENT, failed(queued, instance_id))
        await wait_over(on)
    assert attempts == [1, 2, 3, 4]
    assert await on.states(campaign) == {"failed": 1, "skipped": 1}
    await on.turn()
    await on.tell(
        topics.CAMPAIGNS,
        (campaign, CampaignCompleted(run_epoch=1)),
        (campaign, CampaignResumed(run_epoch=2, retry="failed")),
    )
    again = await run_out(on, instance_id)
    assert [(one.attempt, one.run_epoch, one.step) for one in again] == [(5, 2, 0), (1, 2, 1)]
    await on.turn()
    drained = await on.events(CampaignDrained)
    assert [event.run_epoch for _, event in drained if isinstance(event, CampaignDrained)] == [1, 2]


async def test_a_run_with_nothing_left_is_drained_again_right_after_its_resume(on: Bench) -> None:
    instance_id = await add_instance(on)
    campaign = await start_campaign(on, definition([instance_id]), 4)
    (first, *_) = out = await on.turn()
    await on.tell(topics.CAMPAIGNS, (campaign, CampaignPausing(run_epoch=1)))
    await settle_all(on, instance_id, out)
    await on.tell(topics.CAMPAIGNS, (campaign, CampaignPaused(run_epoch=1)))
    await on.turn()
    assert await on.events(CampaignDrained) == []
    await on.tell(topics.CAMPAIGNS, (campaign, CampaignResumed(run_epoch=2)))
    await on.turn()
    assert await on.events(CampaignDrained) == [(str(campaign), CampaignDrained(run_epoch=2, planned=4))]
    assert first.run_epoch == 1


async def test_people_who_opted_out_are_skipped_planned_or_not(on: Bench) -> None:
    instance_id = await add_instance(on, rate=0.2)
    campaign = uuid4()
    early, late, *_ = people(campaign, 6)
    gone = [
        (one.contact_id, ContactOptedOut(recipient_key=ids.phone_key(one.phone), reason="manual"))
        for one in (early, late)
    ]
    await on.tell(topics.CONTACTS, gone[0])
    await start_campaign(on, definition([instance_id], steps=TWO_STEPS), 6, campaign_id=campaign)
    (out,) = await on.turn()
    assert out.recipient_id == late.recipient_id
    await on.tell(topics.CONTACTS, gone[1])
    assert await on.states(campaign) == {"pending": 8, "released": 1, "skipped": 3}
    await on.tell(topics.MESSAGE_SENT, failed(out, instance_id, "opted_out", retryable=False))
    rows = await on.rows("SELECT DISTINCT reason FROM dispatch WHERE state = 'skipped'")
    assert [row["reason"] for row in rows] == ["opted_out"]
    queued = await run_out(on, instance_id)
    assert len(queued) == 8


async def test_a_plan_that_is_not_sent_by_its_validity_expires(on: Bench) -> None:
    instance_id = await add_instance(on, rate=1)
    policy = AT_ONCE.model_copy(update={"valid_until": datetime.now(UTC) + timedelta(seconds=1.0)})
    campaign = await start_campaign(on, definition([instance_id], steps=TWO_STEPS, policy=policy), 20)
    out = await on.turn()
    assert all(one.send_before <= policy.valid_until for one in out if policy.valid_until)
    await asyncio.sleep(1.0)
    await on.sweep()
    await on.turn()
    states = await on.states(campaign)
    assert states == {"released": len(out), "expired": 20 - len(out), "skipped": 20}
    await on.tell(topics.MESSAGE_SENT, *(returned(one, instance_id, "expired") for one in out))
    assert await on.states(campaign) == {"expired": 20, "skipped": 20}


async def test_the_daily_limit_holds_over_all_lanes_and_a_return_gives_it_back(on: Bench) -> None:
    pool = [await add_instance(on), await add_instance(on)]
    policy = AT_ONCE.model_copy(update={"daily_limit": 30})
    await start_campaign(on, definition(pool, policy=policy), 100)
    out = await on.turn()
    assert len(out) == 30
    assert await on.turn() == []
    rows = await on.rows("SELECT instance_id FROM dispatch WHERE dispatch_id = $1", out[0].dispatch_id)
    await on.tell(topics.MESSAGE_SENT, returned(out[0], rows[0]["instance_id"], "shutting_down"))
    assert len(await on.turn()) == 1


async def test_a_full_window_blocks_the_whole_lane_until_it_opens(on: Bench) -> None:
    instance_id = await add_instance(on, rate=2)
    await start_campaign(on, definition([instance_id]), 100)
    out = await on.turn()
    later = datetime.now(UTC) + timedelta(hours=3)
    await on.tell(topics.MESSAGE_SENT, *(returned(one, instance_id, "quota", not_before=later) for one in out))
    assert await on.turn() == []
    (lane,) = await on.rows("SELECT blocked_until, blocked_by, due_at, in_flight FROM lane")
    assert (lane["blocked_until"], lane["blocked_by"], lane["in_flight"]) == (later, "quota", 0)


async def test_a_hold_stops_releases_until_it_is_lifted(on: Bench) -> None:
    instance_id = await add_instance(on)
    await on.tell(topics.OPERATIONS, (ACCOUNT, HoldSet(scope="account", held=True, version=1)))
    await start_campaign(on, definition([instance_id]), 5)
    assert await on.turn() == []
    await on.tell(topics.OPERATIONS, (ACCOUNT, HoldSet(scope="account", held=False, version=2)))
    await on.tell(topics.OPERATIONS, (ACCOUNT, HoldSet(scope="account", held=True, version=1)))
    assert len(await on.turn()) == 5


async def test_a_run_without_a_usable_instance_is_reported_once(on: Bench) -> None:
    instance_id = await add_instance(on)
    campaign = await start_campaign(on, definition([instance_id]), 5)
    await on.tell(topics.INSTANCE_HEALTH, (instance_id, InstanceBanned(reason="spam", at=datetime.now(UTC))))
    assert await on.turn() == []
    for _ in range(4):
        await on.sweep()
    blocked = await on.events(CampaignBlocked)
    assert blocked == [(str(campaign), CampaignBlocked(run_epoch=1, reason="no_usable_instance", detail="banned"))]


async def test_a_scheduled_campaign_is_reported_due_once(on: Bench) -> None:
    campaign, due = uuid4(), datetime.now(UTC) - timedelta(seconds=1)
    later = due + timedelta(hours=1)
    await on.tell(topics.CAMPAIGNS, (campaign, CampaignScheduled(run_epoch=0, scheduled_at=later)))
    await on.sweep()
    assert await on.events(CampaignDue) == []
    await on.tell(topics.CAMPAIGNS, (campaign, CampaignScheduled(run_epoch=0, scheduled_at=due)))
    await on.sweep()
    await on.sweep()
    assert await on.events(CampaignDue) == [(str(campaign), CampaignDue(scheduled_at=due))]


async def test_small_and_giant_campaigns_of_one_lane_take_turns(on: Bench) -> None:
    instance_id = await add_instance(on, rate=20)
    giant = await start_campaign(on, definition([instance_id]), 20_000)
    out = await on.turn()
    small = await start_campaign(on, definition([instance_id]), 200, first=500_000)
    for _ in range(5):
        await settle_all(on, instance_id, out)
        out = await on.turn()
    await settle_all(on, instance_id, out)
    assert (await on.states(small)) == {"accepted": 200}
    assert (await on.states(giant))["accepted"] <= 400


async def test_dead_letters_are_requeued_by_filter(on: Bench) -> None:
    instance_id = await add_instance(on)
    campaign = await start_campaign(
        on, definition([instance_id], policy=AT_ONCE.model_copy(update={"max_retries": 0})), 4
    )
    out = await on.turn()
    await on.tell(
        topics.MESSAGE_SENT,
        failed(out[0], instance_id, "server_error"),
        failed(out[1], instance_id, "media_host_down"),
        failed(out[2], instance_id, "server_error", retryable=False),
        sent(out[3], instance_id),
    )
    await on.turn()
    await on.tell(topics.OPERATIONS, (ACCOUNT, DeadLettersRequeued(campaign_id=campaign, reason="server_error")))
    (again,) = await on.turn()
    assert (again.dispatch_id, again.attempt) == (out[0].dispatch_id, 2)


@pytest.mark.parametrize(
    ("decision", "states", "next_step"),
    [("was_sent", {"accepted": 1, "skipped": 1}, False), ("give_up", {"failed": 1, "skipped": 1}, False)],
)
async def test_a_person_decides_on_an_unresolved_dispatch(
    on: Bench, decision: str, states: dict[str, int], next_step: bool
) -> None:
    instance_id = await add_instance(on)
    campaign = await start_campaign(on, definition([instance_id], steps=TWO_STEPS), 1)
    (out,) = await on.turn()
    await on.tell(topics.MESSAGE_SENT, ambiguous(out, instance_id), resolved(out, instance_id, "unresolved"))
    order = UnresolvedDecided(dispatch_id=out.dispatch_id, decision=decision, by=uuid4())
    await on.tell(topics.OPERATIONS, (ACCOUNT, order))
    assert await on.states(campaign) == states
    assert bool(await on.turn()) == next_step


async def test_a_person_may_accept_a_possible_duplicate(on: Bench) -> None:
    instance_id = await add_instance(on)
    campaign = await start_campaign(on, definition([instance_id]), 1)
    (out,) = await on.turn()
    await on.tell(topics.MESSAGE_SENT, ambiguous(out, instance_id), resolved(out, instance_id, "unresolved"))
    order = UnresolvedDecided(dispatch_id=out.dispatch_id, decision="send_again", by=uuid4())
    await on.tell(topics.OPERATIONS, (ACCOUNT, order))
    (again,) = await on.turn()
    assert (again.attempt, again.may_duplicate) == (2, True)
    await settle_all(on, instance_id, [again])
    assert await on.states(campaign) == {"accepted": 1}


async def test_outcomes_in_any_order_and_repeated_keep_the_counts_exact(on: Bench) -> None:
    chance = random.Random(11)
    instance_id = await add_instance(on)
    campaign = await start_campaign(on, definition([instance_id]), 300)
    history: list[tuple[UUID, object]] = []
    for _ in range(60):
        await wait_over(on)
        out = await on.turn()
        if not out and not history:
            break
        answers = [
            chance.choice(
                [
                    sent(one, instance_id),
                    failed(one, instance_id, counts=False),
                    returned(one, instance_id, "shutting_down"),
                ]
            )
            for one in out
        ]
        history = (history + answers)[-400:] if out else []
        batch = answers + chance.sample(history, min(len(history), 100))
        chance.shuffle(batch)
        await on.tell(topics.MESSAGE_SENT, *batch)  # type: ignore[arg-type]
    assert await on.states(campaign) == {"accepted": 300}
    (lane,) = await on.rows("SELECT in_flight FROM lane")
    assert lane["in_flight"] == 0
    assert set((await folded(on, campaign)).values()) == {"accepted"}


async def test_a_recipient_of_another_campaign_is_not_touched(on: Bench) -> None:
    instance_id, campaign = await add_instance(on), uuid4()
    (same,) = people(campaign, 1)
    twice = RecipientsAdded(chunk=0, recipients=(same, Recipient(**{**same.model_dump(), "name": "Outra"})))
    await on.tell(topics.CAMPAIGN_RECIPIENTS, (campaign, twice))
    await on.tell(topics.CAMPAIGNS, (campaign, started(definition([instance_id]), 1)))
    assert [one.content.text for one in await on.turn()] == ["Olá Pessoa 0"]


async def test_what_ended_long_ago_is_removed_and_a_late_outcome_says_nothing(on: Bench) -> None:
    instance_id = await add_instance(on)
    campaign = await start_campaign(on, definition([instance_id], steps=TWO_STEPS), 3)
    everything = await run_out(on, instance_id)
    await on.tell(topics.CAMPAIGNS, (campaign, CampaignCompleted(run_epoch=1)))
    await on.execute("UPDATE campaign SET status_at = now() - interval '8 days'")
    await on.scheduler.upkeep.remove_old()
    await on.turn()
    assert await on.states(campaign) == {}
    assert await on.rows("SELECT 1 FROM recipient") == []
    await settle_all(on, instance_id, everything)


async def test_a_wrong_count_of_what_is_out_is_put_right(on: Bench) -> None:
    instance_id = await add_instance(on, rate=2)
    await start_campaign(on, definition([instance_id]), 30)
    assert len(await on.turn()) == 10
    assert await on.scheduler.upkeep.recount_credit() == 0
    await on.execute("UPDATE lane SET in_flight = 13")
    assert await on.scheduler.upkeep.recount_credit() == 1
    (lane,) = await on.rows("SELECT in_flight FROM lane")
    assert lane["in_flight"] == 10


async def test_two_replicas_never_release_the_same(on: Bench) -> None:
    for _ in range(6):
        await start_campaign(on, definition([await add_instance(on, rate=20)]), 100, first=1000 * random.randrange(900))
    await on.scheduler.worker.plan()
    async with asyncio.TaskGroup() as tasks:
        rounds = [tasks.create_task(on.scheduler.releasing.release_due()) for _ in range(6)]
    released = [row["dispatch_id"] for each in rounds for row in each.result().rows]
    assert len(released) == len(set(released))
    assert {row["release"] for row in await on.rows("SELECT release FROM dispatch WHERE state = 'released'")} == {1}
