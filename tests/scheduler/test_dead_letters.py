"""Dead letters: looked at before, tried again by filter, cleared; on a real PostgreSQL."""

from typing import get_args
from uuid import UUID, uuid4

import pytest

from contracts import topics
from contracts.campaigns import (
    CampaignCancelled,
    CampaignCancelling,
    CampaignCompleted,
    CampaignPaused,
    CampaignResumed,
)
from contracts.messages import MessageQueued
from contracts.operations import DeadLettersCleared, DeadLettersPreviewRequested, DeadLettersRequeued
from contracts.progress import CampaignDrained, DeadLettersPreviewed, DeadLettersTaken, DispatchesChanged
from scheduler.dispatch.automaton import CampaignStatus, Dispatch, dead_letter_fate, requeue
from scheduler_parts import (
    ACCOUNT,
    AT_ONCE,
    TWO_STEPS,
    Bench,
    add_instance,
    definition,
    failed,
    run_out,
    sent,
    settle_all,
    start_campaign,
)

pytestmark = pytest.mark.postgres
NO_RETRIES = AT_ONCE.model_copy(update={"max_retries": 0})
REASONS = ("server_error", "server_error", "media_host_down", "not_on_whatsapp")


async def dead(on: Bench, people: int = len(REASONS)) -> tuple[UUID, UUID, list[MessageQueued]]:
    """A campaign of which the first four failed: three for reasons that can pass. The rest was sent."""
    instance_id = await add_instance(on)
    campaign = await start_campaign(on, definition([instance_id], policy=NO_RETRIES), people, first=on_people())
    out = await on.turn()
    await on.tell(
        topics.MESSAGE_SENT,
        *(
            failed(one, instance_id, reason, retryable=reason != "not_on_whatsapp")
            for one, reason in zip(out, REASONS, strict=False)
        ),
        *(sent(one, instance_id) for one in out[len(REASONS) :]),
    )
    return instance_id, campaign, out[: len(REASONS)]


_people = iter(range(10_000, 10_000_000, 1000))


def on_people() -> int:
    """Nobody is in two campaigns of this file."""
    return next(_people)


async def preview(on: Bench, account_id: UUID = ACCOUNT, **asked: object) -> DeadLettersPreviewed:
    request = DeadLettersPreviewRequested(request_id=uuid4(), **asked)
    await on.tell(topics.OPERATIONS, (account_id, request), account_id=account_id)
    found = [event for _, event in await on.events(DeadLettersPreviewed) if isinstance(event, DeadLettersPreviewed)]
    return next(event for event in found if event.request_id == request.request_id)


async def taken(on: Bench) -> list[tuple[str, int]]:
    told = await on.events(DeadLettersTaken)
    return [(key, event.count) for key, event in told if isinstance(event, DeadLettersTaken)]


async def test_a_preview_tells_what_would_be_tried_again_and_changes_nothing(on: Bench) -> None:
    instance_id, campaign, _ = await dead(on)
    found = await preview(on, campaign_id=campaign)
    groups = {(group.reason, group.fate): group.count for group in found.groups}
    assert groups == {
        ("server_error", "released"): 2,
        ("media_host_down", "released"): 1,
        ("not_on_whatsapp", "final"): 1,
    }
    assert found.again == 3
    assert {(group.campaign_id, group.instance_id) for group in found.groups} == {(campaign, instance_id)}
    assert await on.states(campaign) == {"failed": 4}
    assert (await preview(on, campaign_id=campaign, reason="media_host_down")).again == 1
    assert (await preview(on, instance_id=uuid4())).again == 0


async def test_another_account_sees_and_moves_nothing(on: Bench) -> None:
    _, campaign, _ = await dead(on)
    stranger = UUID(int=99)
    assert (await preview(on, stranger, campaign_id=campaign)).groups == ()
    order = DeadLettersRequeued(campaign_id=campaign)
    await on.tell(topics.OPERATIONS, (stranger, order), account_id=stranger)
    assert await on.states(campaign) == {"failed": 4}


async def test_what_the_preview_promises_is_what_a_requeue_does(on: Bench) -> None:
    instance_id, campaign, letters = await dead(on)
    chosen = tuple(one.dispatch_id for one in letters[1:])
    assert (await preview(on, dispatch_ids=chosen)).again == 2
    await on.tell(topics.OPERATIONS, (ACCOUNT, DeadLettersRequeued(dispatch_ids=chosen)))
    again = await on.turn()
    assert {one.dispatch_id for one in again} == set(chosen[:2])
    await settle_all(on, instance_id, again)
    assert await on.states(campaign) == {"failed": 2, "accepted": 2}


async def test_a_campaign_that_has_ended_is_asked_to_run_again_and_sends_only_what_was_chosen(on: Bench) -> None:
    instance_id, campaign, letters = await dead(on, people=6)
    await on.turn()
    assert await on.events(CampaignDrained)
    await on.tell(topics.CAMPAIGNS, (campaign, CampaignCompleted(run_epoch=1)))
    assert (await preview(on, dispatch_ids=(letters[2].dispatch_id,))).groups[0].fate == "campaign_reopened"
    order = DeadLettersRequeued(dispatch_ids=(letters[2].dispatch_id,), by=uuid4())
    await on.tell(topics.OPERATIONS, (ACCOUNT, order))
    assert await on.turn() == []
    assert await taken(on) == [(str(campaign), 1)]
    await on.tell(topics.CAMPAIGNS, (campaign, CampaignResumed(run_epoch=2)))
    again = await run_out(on, instance_id)
    assert [(one.dispatch_id, one.run_epoch) for one in again] == [(letters[2].dispatch_id, 2)]
    await on.turn()
    drained = [event.run_epoch for _, event in await on.events(CampaignDrained) if isinstance(event, CampaignDrained)]
    assert drained == [1, 2]


async def test_ordered_twice_it_is_taken_once(on: Bench) -> None:
    _, campaign, _ = await dead(on)
    order = DeadLettersRequeued(campaign_id=campaign)
    await on.tell(topics.OPERATIONS, (ACCOUNT, order), (ACCOUNT, order))
    assert len(await on.turn()) == 3
    assert await taken(on) == [(str(campaign), 3)]


async def test_in_a_cancelled_campaign_nothing_is_tried_again(on: Bench) -> None:
    _, campaign, _ = await dead(on)
    await on.tell(
        topics.CAMPAIGNS,
        (campaign, CampaignCancelling(run_epoch=1)),
        (campaign, CampaignCancelled(run_epoch=1)),
    )
    found = await preview(on, campaign_id=campaign)
    assert (found.again, {group.fate for group in found.groups}) == (0, {"cancelled", "final"})
    await on.tell(topics.OPERATIONS, (ACCOUNT, DeadLettersRequeued(campaign_id=campaign)))
    assert await on.states(campaign) == {"failed": 4}
    assert await taken(on) == []


async def test_clearing_takes_what_was_named_and_nothing_else(on: Bench) -> None:
    _, campaign, letters = await dead(on)
    await on.tell(topics.OPERATIONS, (ACCOUNT, DeadLettersCleared(dispatch_ids=(letters[0].dispatch_id,))))
    assert (await preview(on, campaign_id=campaign)).again == 2
    await on.tell(topics.OPERATIONS, (ACCOUNT, DeadLettersCleared(campaign_id=campaign, reason="server_error")))
    found = await preview(on, campaign_id=campaign)
    assert {(group.reason, group.fate) for group in found.groups} == {
        ("media_host_down", "released"),
        ("not_on_whatsapp", "final"),
    }
    await on.tell(topics.OPERATIONS, (ACCOUNT, DeadLettersCleared(campaign_id=campaign, reason="not_on_whatsapp")))
    assert {group.reason for group in (await preview(on, campaign_id=campaign)).groups} == {"media_host_down"}
    given_up = [
        (change.dispatch_id, change.state, change.reason)
        for _, event in await on.events(DispatchesChanged)
        if isinstance(event, DispatchesChanged)
        for change in event.changes
        if change.given_up
    ]
    assert given_up == [
        (letter.dispatch_id, "failed", reason)
        for letter, reason in zip((*letters[:2], letters[3]), (*REASONS[:2], REASONS[3]), strict=True)
    ], "each is told once, and stays failed for its reason"


async def test_later_steps_wait_again_behind_a_requeued_one(on: Bench) -> None:
    instance_id = await add_instance(on)
    plan = definition([instance_id], steps=TWO_STEPS, policy=NO_RETRIES)
    campaign = await start_campaign(on, plan, 1, first=on_people())
    (first,) = await on.turn()
    await on.tell(topics.MESSAGE_SENT, failed(first, instance_id))
    await on.tell(topics.CAMPAIGNS, (campaign, CampaignPaused(run_epoch=1)))
    assert [group.fate for group in (await preview(on, campaign_id=campaign)).groups] == ["after_resume"]
    await on.tell(topics.OPERATIONS, (ACCOUNT, DeadLettersRequeued(campaign_id=campaign)))
    assert await on.states(campaign) == {"pending": 2}
    assert await on.turn() == []
    await on.tell(topics.CAMPAIGNS, (campaign, CampaignResumed(run_epoch=2)))
    assert [one.step for one in await run_out(on, instance_id)] == [0, 1]


@pytest.mark.parametrize("status", get_args(CampaignStatus))
def test_the_fate_of_a_dead_letter_agrees_with_the_automaton(status: CampaignStatus) -> None:
    assert dead_letter_fate(status, retryable=False) == "final"
    final = Dispatch(state="failed", retryable=False)
    assert requeue(final) is final
    assert dead_letter_fate(status, retryable=True) != "final"
    assert requeue(Dispatch(state="failed", retryable=True)).state == "pending"
