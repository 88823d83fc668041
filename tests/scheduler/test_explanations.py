"""Why things wait and when a campaign will end: what people are told is what the engine obeys."""

from collections.abc import AsyncIterator
from datetime import UTC, datetime, timedelta
from typing import Any
from uuid import UUID, uuid4

import pytest

from backing import MakeDatabase
from contracts import topics
from contracts.campaigns import CampaignCreated, CampaignPausing, SendingPolicy, Step
from contracts.instances import BreakerOpened, InstanceBanned, InstanceThrottled, WarmUpChanged
from contracts.operations import ExplainRequested, HoldSet, PeopleWritten, PlanPreviewRequested
from contracts.progress import LaneExplained, PlanPreviewed
from scheduler_parts import (
    ACCOUNT,
    AT_ONCE,
    Bench,
    add_instance,
    ambiguous,
    bench,
    chunks,
    definition,
    failed,
    migrate_scheduler,
    people,
    start_campaign,
    started,
)


@pytest.fixture
async def on(database_factory: MakeDatabase) -> AsyncIterator[Bench]:
    async with bench(database_factory(migrate_scheduler)) as made:
        yield made


async def explained(on: Bench, **subject: UUID) -> LaneExplained:
    request = uuid4()
    await on.tell(topics.OPERATIONS, (ACCOUNT, ExplainRequested(request_id=request, **subject)))
    answers = [event for _, event in await on.events(LaneExplained) if isinstance(event, LaneExplained)]
    assert answers[-1].request_id == request
    return answers[-1]


def reasons(answer: LaneExplained) -> list[tuple[str, str]]:
    return [(one["scope"], one["reason"]) for one in answer.reasons]


@pytest.mark.postgres
async def test_a_campaign_out_of_credit_says_so_and_when_it_will_end(on: Bench) -> None:
    instance_id = await add_instance(on, rate=10)
    campaign = await start_campaign(on, definition([instance_id]), 200)
    await on.turn()
    answer = await explained(on, campaign_id=campaign)
    assert reasons(answer) == [("instance", "credit")]
    assert answer.estimated_end is not None
    assert timedelta(seconds=10) < answer.estimated_end - datetime.now(UTC) <= timedelta(seconds=20)


@pytest.mark.postgres
async def test_everything_that_holds_a_dispatch_is_named(on: Bench) -> None:
    instance_id = await add_instance(on)
    policy = SendingPolicy(min_delay_s=3600, max_delay_s=3600)
    campaign = await start_campaign(on, definition([instance_id], policy=policy), 2)
    (out,) = await on.turn()
    await on.tell(topics.MESSAGE_SENT, failed(out, instance_id))
    await on.tell(topics.OPERATIONS, (ACCOUNT, HoldSet(scope="account", held=True, version=1)))
    await on.tell(topics.CAMPAIGNS, (campaign, CampaignPausing(run_epoch=1)))
    answer = await explained(on, dispatch_id=out.dispatch_id)
    assert reasons(answer) == [
        ("dispatch", "retry_or_return"),
        ("campaign", "campaign_not_running"),
        ("instance", "held"),
    ]
    retry: dict[str, Any] = answer.reasons[0]
    assert retry["detail"] == "provider_error"
    assert datetime.fromisoformat(retry["until"]) > datetime.now(UTC)


@pytest.mark.postgres
async def test_a_lane_in_its_delay_says_until_when(on: Bench) -> None:
    instance_id = await add_instance(on)
    await start_campaign(on, definition([instance_id], policy=SendingPolicy(min_delay_s=60, max_delay_s=60)), 5)
    (out,) = await on.turn()
    await on.tell(topics.MESSAGE_SENT, failed(out, instance_id, retryable=False))
    answer = await explained(on, instance_id=instance_id)
    assert reasons(answer) == [("instance", "delay")]
    assert timedelta(seconds=50) < datetime.fromisoformat(answer.reasons[0]["until"]) - datetime.now(UTC)


@pytest.mark.postgres
async def test_a_campaign_outside_its_days_and_over_its_limit_says_until_when(on: Bench) -> None:
    instance_id = await add_instance(on)
    today = datetime.now(UTC).weekday()
    other_days = tuple(day for day in range(7) if day != today)
    policy = AT_ONCE.model_copy(update={"weekdays": other_days, "daily_limit": 3, "time_zone": "UTC"})
    campaign = await start_campaign(on, definition([instance_id], policy=policy), 5)
    await on.turn()
    midnight = (datetime.now(UTC) + timedelta(days=1)).replace(hour=0, minute=0, second=0, microsecond=0)
    await on.execute("UPDATE release_day SET used = 3 WHERE campaign_id = $1", campaign)
    answer = await explained(on, campaign_id=campaign)
    assert reasons(answer) == [("campaign", "outside_weekdays"), ("campaign", "daily_limit")]
    assert [datetime.fromisoformat(one["until"]) for one in answer.reasons] == [midnight, midnight]
    assert answer.reasons[1]["limit"] == 3
    assert answer.waiting == 5
    assert answer.estimated_end is not None
    assert timedelta(days=1) <= answer.estimated_end - midnight <= timedelta(days=1, minutes=1)


@pytest.mark.postgres
async def test_who_holds_and_what_state_is_told(on: Bench) -> None:
    instance_id = await add_instance(on)
    template = Step(kind="template", template_name="natal", template_language="pt_BR")
    campaign = await start_campaign(on, definition([instance_id], steps=[template]), 2)
    await on.turn()
    await on.tell(topics.OPERATIONS, (ACCOUNT, HoldSet(scope="template", key="natal", held=True, version=1)))
    await on.tell(topics.OPERATIONS, (ACCOUNT, HoldSet(scope="instance", key=str(instance_id), held=True, version=1)))
    answer = await explained(on, campaign_id=campaign)
    assert [(one["scope"], one["reason"], one["detail"]) for one in answer.reasons][:2] == [
        ("campaign", "held", "template: natal"),
        ("instance", "held", "instance"),
    ]
    assert answer.estimated_end is None
    await on.tell(topics.CAMPAIGNS, (campaign, CampaignPausing(run_epoch=1)))
    assert (await explained(on, campaign_id=campaign)).reasons[0]["detail"] == "pausing"


@pytest.mark.postgres
async def test_a_slower_number_slows_and_does_not_hold(on: Bench) -> None:
    instance_id = await add_instance(on, rate=80)
    throttled = InstanceThrottled(messages_per_second=20, code="130429", at=datetime.now(UTC))
    await on.tell(topics.INSTANCE_HEALTH, (instance_id, throttled))
    answer = await explained(on, instance_id=instance_id)
    (slowed,) = answer.reasons
    assert (slowed["reason"], slowed["slows"], slowed["count"], slowed["limit"]) == ("throttled", True, 20, 80)


@pytest.mark.postgres
async def test_a_breaker_that_a_person_closes_has_no_time(on: Bench) -> None:
    instance_id = await add_instance(on)
    opened = BreakerOpened(reason="credentials", until=None, at=datetime.now(UTC))
    campaign = await start_campaign(on, definition([instance_id]), 2)
    await on.turn()
    await on.tell(topics.INSTANCE_HEALTH, (instance_id, opened))
    answer = await explained(on, campaign_id=campaign)
    (blocked,) = answer.reasons
    assert (blocked["reason"], blocked["until"], blocked["detail"]) == (
        "instance_blocked", None, "breaker: credentials",
    )  # fmt: skip
    assert answer.estimated_end is None


@pytest.mark.postgres
async def test_answers_that_stay_away_are_told_with_their_number(on: Bench) -> None:
    instance_id = await add_instance(on, rate=10)
    campaign = await start_campaign(on, definition([instance_id]), 200)
    await on.turn()
    await on.execute("UPDATE dispatch SET released_at = now() - interval '1 minute' WHERE state = 'released'")
    answer = await explained(on, campaign_id=campaign)
    assert reasons(answer) == [("instance", "credit"), ("instance", "outcomes_late")]
    assert {one["count"] for one in answer.reasons} == {50}


@pytest.mark.postgres
async def test_a_waiting_dispatch_tells_how_many_go_before_it_and_when_it_goes(on: Bench) -> None:
    instance_id = await add_instance(on, rate=10)
    campaign = await start_campaign(on, definition([instance_id]), 200)
    out = await on.turn()
    last = await on.rows(
        "SELECT dispatch_id FROM dispatch WHERE campaign_id = $1 ORDER BY place DESC LIMIT 1", campaign
    )
    answer = await explained(on, dispatch_id=last[0]["dispatch_id"])
    assert answer.reasons[0]["reason"] == "its_turn"
    assert answer.reasons[0]["count"] == 149
    assert answer.estimated_end is not None
    assert timedelta(seconds=12) < answer.estimated_end - datetime.now(UTC) < timedelta(seconds=18)
    assert reasons(await explained(on, dispatch_id=out[0].dispatch_id)) == [("dispatch", "with_sender")]
    await on.tell(topics.MESSAGE_SENT, ambiguous(out[0], instance_id))
    assert reasons(await explained(on, dispatch_id=out[0].dispatch_id)) == [("dispatch", "ambiguous")]


@pytest.mark.postgres
async def test_other_campaigns_of_the_number_lengthen_the_end(on: Bench) -> None:
    instance_id = await add_instance(on, rate=10)
    small = await start_campaign(on, definition([instance_id]), 100)
    await start_campaign(on, definition([instance_id]), 2000, first=1000)
    await on.turn()
    answer = await explained(on, campaign_id=small)
    assert answer.estimated_end is not None
    assert timedelta(seconds=15) < answer.estimated_end - datetime.now(UTC) < timedelta(seconds=21)
    whole = await explained(on, instance_id=instance_id)
    assert whole.waiting == 2100
    assert whole.estimated_end is not None
    assert timedelta(seconds=200) < whole.estimated_end - datetime.now(UTC) < timedelta(seconds=211)


@pytest.mark.postgres
async def test_a_lost_number_counts_as_what_the_others_of_the_pool_will_send(on: Bench) -> None:
    one, two = await add_instance(on, rate=10), await add_instance(on, rate=10)
    campaign = await start_campaign(on, definition([one, two]), 400)
    await on.turn()
    await on.tell(topics.INSTANCE_HEALTH, (two, InstanceBanned(reason="banned", at=datetime.now(UTC))))
    answer = await explained(on, campaign_id=campaign)
    stopped = next(each for each in answer.reasons if each["reason"] == "instance_stopped")
    assert (stopped["detail"], stopped["moves"]) == ("banned", True)
    assert answer.estimated_end is not None
    assert timedelta(seconds=35) < answer.estimated_end - datetime.now(UTC) < timedelta(seconds=42)


@pytest.mark.postgres
async def test_a_limit_of_a_day_is_shared_by_all_numbers_of_the_campaign(on: Bench) -> None:
    """Two numbers, 40 people, 10 a day: what one of them has left goes over four days, not over two."""
    pool = [await add_instance(on, rate=10) for _ in range(2)]
    policy = AT_ONCE.model_copy(update={"daily_limit": 10, "time_zone": "UTC"})
    await start_campaign(on, definition(pool, policy=policy), 40)
    await on.turn()
    answer = await explained(on, instance_id=pool[0])
    assert answer.estimated_end is not None
    assert timedelta(days=2) < answer.estimated_end - datetime.now(UTC) <= timedelta(days=4)


@pytest.mark.postgres
async def test_a_campaign_that_the_scheduler_has_not_heard_of_is_said_to_be_unknown(on: Bench) -> None:
    assert reasons(await explained(on, campaign_id=uuid4())) == [("campaign", "unknown")]


@pytest.mark.postgres
async def test_the_24_hour_limit_that_the_asker_knows_is_in_the_end(on: Bench) -> None:
    instance_id = await add_instance(on, rate=10)
    campaign = await start_campaign(on, definition([instance_id]), 100)
    await on.turn()
    written = (PeopleWritten(instance_id=instance_id, limit=250, used=200),)
    request = ExplainRequested(request_id=uuid4(), campaign_id=campaign, people_written=written)
    await on.tell(topics.OPERATIONS, (ACCOUNT, request))
    ((_, answer),) = await on.events(LaneExplained)
    assert isinstance(answer, LaneExplained)
    assert answer.estimated_end is not None
    assert timedelta(hours=23) < answer.estimated_end - datetime.now(UTC) < timedelta(hours=25)


@pytest.mark.postgres
async def test_a_number_that_is_warmed_up_sends_its_days_allowance_and_no_more(on: Bench) -> None:
    instance_id, now = await add_instance(on, rate=80), datetime.now(UTC)
    campaign = await start_campaign(on, definition([instance_id]), 90)
    day = WarmUpChanged(day=1, allowance=20, begins_at=now, ends_at=now + timedelta(days=1), at=now)
    await on.tell(topics.INSTANCE_HEALTH, (instance_id, day))
    assert len(await on.turn()) == 20
    answer = await explained(on, campaign_id=campaign)
    (warm,) = (one for one in answer.reasons if one["reason"] == "warm_up")
    assert (warm["count"], warm["limit"], datetime.fromisoformat(warm["until"])) == (20, 20, day.ends_at)
    assert answer.estimated_end is not None
    assert timedelta(days=4) <= answer.estimated_end - now < timedelta(days=5, minutes=1)


@pytest.mark.postgres
async def test_a_campaign_that_is_still_being_planned_says_how_far(on: Bench) -> None:
    campaign = uuid4()
    await on.tell(topics.CAMPAIGNS, (campaign, started(definition([await add_instance(on)]), 1200)))
    await on.tell(topics.CAMPAIGN_RECIPIENTS, *chunks(campaign, people(campaign, 1200))[:2])
    (arriving,) = (await explained(on, campaign_id=campaign)).reasons
    assert (arriving["reason"], arriving["count"], arriving["limit"]) == ("recipients_arriving", 2, 3)
    await on.tell(topics.CAMPAIGN_RECIPIENTS, chunks(campaign, people(campaign, 1200))[2])
    (planning,) = (await explained(on, campaign_id=campaign)).reasons
    assert (planning["reason"], planning["count"], planning["limit"]) == ("planning", 0, 1200)


@pytest.mark.postgres
async def test_another_account_learns_nothing(on: Bench) -> None:
    instance_id = await add_instance(on)
    await start_campaign(on, definition([instance_id]), 2)
    (out, _) = await on.turn()
    request = ExplainRequested(request_id=uuid4(), dispatch_id=out.dispatch_id)
    await on.tell(topics.OPERATIONS, (uuid4(), request), account_id=uuid4())
    ((_, answer),) = await on.events(LaneExplained)
    assert isinstance(answer, LaneExplained)
    assert reasons(answer) == [("dispatch", "unknown")]


@pytest.mark.postgres
async def test_a_preview_sends_nothing_and_tells_instances_problems_and_end(on: Bench) -> None:
    good, banned, campaign = await add_instance(on, rate=10), await add_instance(on, status="banned"), uuid4()
    await on.tell(topics.CAMPAIGNS, (campaign, CampaignCreated(run_epoch=0, definition=definition([good, banned]))))
    await on.tell(topics.CAMPAIGN_RECIPIENTS, *chunks(campaign, people(campaign, 600)))
    await on.tell(topics.OPERATIONS, (ACCOUNT, PlanPreviewRequested(request_id=uuid4(), campaign_id=campaign)))
    ((_, preview),) = await on.events(PlanPreviewed)
    assert isinstance(preview, PlanPreviewed)
    assert preview.by_instance == {str(good): 600}
    assert preview.problems == (f"instance_banned: {banned}",)
    assert preview.estimated_end is not None
    assert await on.turn() == []


@pytest.mark.postgres
async def test_a_preview_counts_what_runs_in_the_same_lanes(on: Bench) -> None:
    instance_id = await add_instance(on, rate=10)
    await start_campaign(on, definition([instance_id]), 1000)
    await on.turn()
    request = PlanPreviewRequested(
        request_id=uuid4(), campaign_id=uuid4(), definition=definition([instance_id]), recipient_count=200
    )
    await on.tell(topics.OPERATIONS, (ACCOUNT, request))
    ((_, preview),) = await on.events(PlanPreviewed)
    assert isinstance(preview, PlanPreviewed)
    assert preview.estimated_end is not None
    assert timedelta(seconds=35) < preview.estimated_end - datetime.now(UTC) < timedelta(seconds=41)


@pytest.mark.postgres
async def test_a_campaign_that_nobody_started_is_previewed_from_what_the_request_tells(on: Bench) -> None:
    one, two = await add_instance(on, rate=10), await add_instance(on, rate=10)
    request = PlanPreviewRequested(
        request_id=uuid4(), campaign_id=uuid4(), definition=definition([one, two]), recipient_count=1001
    )
    await on.tell(topics.OPERATIONS, (ACCOUNT, request))
    ((_, preview),) = await on.events(PlanPreviewed)
    assert isinstance(preview, PlanPreviewed)
    assert sorted(preview.by_instance.values()) == [500, 501]
    assert preview.problems == ()
    assert preview.estimated_end is not None
    assert await on.turn() == []
