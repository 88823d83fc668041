"""Why things wait and when a campaign will end: what people are told is what the engine obeys."""

from collections.abc import AsyncIterator
from datetime import UTC, datetime, timedelta
from typing import Any
from uuid import UUID, uuid4

import pytest

from backing import MakeDatabase
from contracts import topics
from contracts.campaigns import CampaignCreated, CampaignPausing, SendingPolicy
from contracts.operations import ExplainRequested, HoldSet, PlanPreviewRequested
from contracts.progress import LaneExplained, PlanPreviewed
from scheduler_parts import (
    ACCOUNT,
    Bench,
    add_instance,
    bench,
    chunks,
    definition,
    failed,
    migrate_scheduler,
    people,
    start_campaign,
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
