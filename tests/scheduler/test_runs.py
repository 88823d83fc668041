"""Runs of campaigns: pause, resume, cancel, validity, schedule, drained, blocked, removed: on a real PostgreSQL."""

import asyncio
from datetime import UTC, datetime, timedelta
from typing import Any
from uuid import uuid4

import pytest

from contracts import topics
from contracts.campaigns import (
    CampaignCancelling,
    CampaignCompleted,
    CampaignPaused,
    CampaignPausing,
    CampaignResumed,
    CampaignScheduled,
)
from contracts.instances import BreakerOpened, InstanceBanned
from contracts.progress import CampaignBlocked, CampaignDrained, CampaignDue
from scheduler_parts import (
    AT_ONCE,
    TWO_STEPS,
    Bench,
    add_instance,
    definition,
    folded,
    returned,
    run_out,
    settle_all,
    start_campaign,
)

pytestmark = pytest.mark.postgres


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


async def test_a_run_without_a_usable_instance_is_reported_once(on: Bench) -> None:
    instance_id = await add_instance(on)
    campaign = await start_campaign(on, definition([instance_id]), 5)
    await on.tell(topics.INSTANCE_HEALTH, (instance_id, InstanceBanned(reason="spam", at=datetime.now(UTC))))
    assert await on.turn() == []
    for _ in range(4):
        await on.sweep()
    blocked = await on.events(CampaignBlocked)
    assert blocked == [(str(campaign), CampaignBlocked(run_epoch=1, reason="no_usable_instance", detail="banned"))]


@pytest.mark.parametrize(
    ("told", "reason", "detail"),
    [
        (["credentials", "permission"], "credentials_refused", "credentials, permission"),
        (["credentials", "payment"], "no_usable_instance", "credentials, payment"),
        (["credentials", "connecting"], None, ""),  # a person is at it
        (["credentials", None], None, ""),  # the other number goes on
    ],
)
async def test_a_run_whose_numbers_a_provider_refuses_until_a_person_acts_is_reported(
    on: Bench, told: list[str | None], reason: Any, detail: str
) -> None:
    pool = [await add_instance(on) for _ in told]
    campaign = await start_campaign(on, definition(pool), 5)
    now = datetime.now(UTC)
    for instance_id, why in zip(pool, told, strict=True):
        if why is not None:
            await on.tell(topics.INSTANCE_HEALTH, (instance_id, BreakerOpened(reason=why, until=None, at=now)))
    for _ in range(4):
        await on.sweep()
    blocked = await on.events(CampaignBlocked)
    expected = [] if reason is None else [CampaignBlocked(run_epoch=1, reason=reason, detail=detail)]
    assert blocked == [(str(campaign), one) for one in expected]


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
