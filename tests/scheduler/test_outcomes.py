"""What the sender answers and what people decide: steps, retries, dead letters: on a real PostgreSQL."""

import random
from uuid import UUID, uuid4

import pytest

from contracts import topics
from contracts.campaigns import (
    CampaignCompleted,
    CampaignResumed,
)
from contracts.operations import DeadLettersRequeued, UnresolvedDecided
from contracts.progress import CampaignDrained, DeadLettersTaken, DispatchesChanged
from scheduler_parts import (
    ACCOUNT,
    AT_ONCE,
    TEXT,
    TWO_STEPS,
    Bench,
    add_instance,
    ambiguous,
    definition,
    failed,
    folded,
    people,
    resolved,
    returned,
    run_out,
    sent,
    settle_all,
    start_campaign,
    wait_over,
)

pytestmark = pytest.mark.postgres


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
    told = [change for _, event in await on.events(DispatchesChanged) for change in event.changes]  # type: ignore[attr-defined]
    assert (told[-1].state, told[-1].attempt, told[-1].may_duplicate) == ("accepted", 2, True)
    assert not any(change.may_duplicate for change in told if change.attempt == 1), "not before it is sent again"


async def test_one_that_is_sent_again_has_its_ended_campaign_run_on(on: Bench) -> None:
    instance_id = await add_instance(on)
    campaign = await start_campaign(on, definition([instance_id]), 1)
    (out,) = await on.turn()
    await on.tell(topics.MESSAGE_SENT, ambiguous(out, instance_id), resolved(out, instance_id, "unresolved"))
    await on.turn()
    await on.tell(topics.CAMPAIGNS, (campaign, CampaignCompleted(run_epoch=1)))
    order = UnresolvedDecided(dispatch_id=out.dispatch_id, decision="send_again", by=uuid4())
    await on.tell(topics.OPERATIONS, (ACCOUNT, order))
    assert await on.turn() == []
    taken = [event for key, event in await on.events(DeadLettersTaken)]
    assert taken == [DeadLettersTaken(run_epoch=1, count=1, by=order.by)]
    await on.tell(topics.CAMPAIGNS, (campaign, CampaignResumed(run_epoch=2)))
    (again,) = await on.turn()
    assert (again.attempt, again.run_epoch, again.may_duplicate) == (2, 2, True)


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
