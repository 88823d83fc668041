"""What a stopped number has not sent moves to the others of the pool: on a real PostgreSQL."""

from datetime import UTC, datetime, timedelta
from uuid import UUID, uuid4

import pytest

from contracts import ids, topics
from contracts.campaigns import CampaignPaused, CampaignPausing, CampaignResumed
from contracts.contacts import ContactMoved
from contracts.instances import (
    BreakerClosed,
    BreakerOpened,
    InstanceBanned,
    InstanceConnected,
    InstanceDisconnected,
    InstanceLimitsChanged,
)
from contracts.messages import MessageQueued
from scheduler_parts import (
    AT_ONCE,
    NOON,
    TWO_STEPS,
    Bench,
    add_instance,
    ambiguous,
    definition,
    failed,
    folded,
    instance,
    sent,
    start_campaign,
    wait_over,
)

pytestmark = pytest.mark.postgres
NOW = datetime.now(UTC)


async def ban(on: Bench, instance_id: UUID) -> None:
    await on.tell(topics.INSTANCE_HEALTH, (instance_id, InstanceBanned(reason="spam", at=NOW)))


async def where(on: Bench, campaign: UUID) -> dict[UUID, UUID]:
    rows = await on.rows("SELECT dispatch_id, instance_id FROM dispatch WHERE campaign_id = $1", campaign)
    return {row["dispatch_id"]: row["instance_id"] for row in rows}


async def answer_all(on: Bench, campaign: UUID, queued: list[MessageQueued]) -> None:
    places = await where(on, campaign)
    await on.tell(topics.MESSAGE_SENT, *(sent(one, places[one.dispatch_id]) for one in queued))


async def occupied(on: Bench) -> dict[UUID, int]:
    return {row["instance_id"]: row["bound"] for row in await on.rows("SELECT instance_id, bound FROM occupancy")}


async def test_what_a_banned_number_has_not_sent_leaves_through_the_others(on: Bench) -> None:
    banned, other = await add_instance(on, rate=2), await add_instance(on, rate=2)
    campaign = await start_campaign(on, definition([banned, other]), 60)
    out = await on.turn()
    before = await where(on, campaign)
    released = {one.dispatch_id for one in out}
    await ban(on, banned)
    everything = list(out)
    await on.scheduler.worker.plan()
    await answer_all(on, campaign, out)
    while queued := await on.turn():
        places = await where(on, campaign)
        assert {places[one.dispatch_id] for one in queued} == {other}
        everything += queued
        await answer_all(on, campaign, queued)
    after = await where(on, campaign)
    assert {one for one, place in after.items() if place == banned} == {
        one for one in released if before[one] == banned
    }
    assert len({(one.dispatch_id, one.attempt) for one in everything}) == len(everything) == 60
    assert await on.states(campaign) == {"accepted": 60}
    assert set((await folded(on, campaign)).values()) == {"accepted"}


async def test_a_disabled_account_is_as_good_as_a_ban_until_it_is_reinstated(on: Bench) -> None:
    disabled, other = await add_instance(on, rate=2), await add_instance(on, rate=2)
    campaign = await start_campaign(on, definition([disabled, other]), 60)
    out = await on.turn()
    opened = BreakerOpened(reason="account_disabled", until=None, at=NOW)
    await on.tell(topics.INSTANCE_HEALTH, (disabled, opened))
    await on.scheduler.worker.plan()
    await answer_all(on, campaign, out)
    waiting = "SELECT count(*) AS n FROM dispatch WHERE instance_id = $1 AND state = 'pending'"
    (left,) = await on.rows(waiting, disabled)
    assert left["n"] == 0, "what it had not sent is the other number's"
    await on.tell(topics.INSTANCE_HEALTH, (disabled, BreakerClosed(at=NOW)))
    (row,) = await on.rows("SELECT health, stopped_at FROM instance WHERE instance_id = $1", disabled)
    assert (row["health"], row["stopped_at"]) == (None, None)


async def test_bindings_follow_and_are_told(on: Bench) -> None:
    banned, other = await add_instance(on, rate=0.2), await add_instance(on, rate=0.2)
    campaign = await start_campaign(on, definition([banned, other]), 40)
    await on.turn()
    first = await occupied(on)
    await ban(on, banned)
    await on.turn()
    moved = [event for _, event in await on.events(ContactMoved)]
    assert moved
    assert len(moved) == first[banned] - 1, "all but the one that is out"
    bound = await on.rows("SELECT recipient_key, instance_id FROM binding")
    assert await occupied(on) == {banned: 1, other: 39}
    at_other = {row["recipient_key"] for row in bound if row["instance_id"] == other}
    for event in moved:
        assert isinstance(event, ContactMoved)
        assert (event.from_instance_id, event.instance_id) == (banned, other)
        assert event.recipient_key in at_other
    again = await start_campaign(on, definition([banned, other]), 40)
    await on.turn()
    assert len(await on.allocated()) == 40, "nobody is bound anew"
    assert len([place for place in (await where(on, again)).values() if place == other]) == 40
    assert campaign != again


async def test_what_a_gateway_tells_late_changes_nothing(on: Bench) -> None:
    number = await add_instance(on)
    health = "SELECT health, detected_rate FROM instance"
    told = [
        (InstanceConnected(at=NOON), InstanceLimitsChanged(messages_per_second=80, at=NOON)),
        (
            InstanceDisconnected(reason="logged out", at=NOON - timedelta(minutes=5)),
            InstanceLimitsChanged(messages_per_second=20, at=NOON - timedelta(minutes=5)),
        ),
    ]
    for events in told:
        for event in events:
            await on.tell(topics.INSTANCE_HEALTH, (number, event))
        assert [tuple(row) for row in await on.rows(health)] == [("connected", 80)]


async def test_a_disconnected_number_keeps_its_own_for_a_while(on: Bench) -> None:
    away, other = await add_instance(on, rate=0.2), await add_instance(on, rate=0.2)
    campaign = await start_campaign(on, definition([away, other]), 30)
    await on.turn()
    before = await where(on, campaign)
    gone = (away, InstanceDisconnected(reason="logged out", at=NOW))
    await on.tell(topics.INSTANCE_HEALTH, gone)
    await on.turn()
    assert await where(on, campaign) == before
    await on.tell(topics.INSTANCE_HEALTH, (away, InstanceConnected(at=NOW)))
    await on.tell(topics.INSTANCE_HEALTH, gone)
    earlier = "UPDATE instance SET stopped_at = stopped_at - $1::interval WHERE stopped_at IS NOT NULL"
    await on.execute(earlier, timedelta(seconds=290))
    await on.turn()
    assert await where(on, campaign) == before
    await on.tell(topics.INSTANCE_HEALTH, gone)
    await on.execute(earlier, timedelta(seconds=11))
    await on.turn()
    assert list((await where(on, campaign)).values()).count(away) == 1


async def test_who_was_begun_goes_on_through_the_first_number(on: Bench) -> None:
    banned, other = await add_instance(on, rate=0.6), await add_instance(on, rate=0.2)
    await on.execute("UPDATE instance SET is_active = false WHERE instance_id = $1", other)
    campaign = await start_campaign(on, definition([banned, other], steps=TWO_STEPS), 10)
    accepted, lost, third = await on.turn()
    await on.execute("UPDATE instance SET is_active = true WHERE instance_id = $1", other)
    await on.tell(topics.MESSAGE_SENT, sent(accepted, banned), ambiguous(lost, banned))
    await ban(on, banned)
    await on.turn()
    begun = {ids.dispatch_id(one.recipient_id, step) for one in (accepted, lost, third) for step in (0, 1)}  # type: ignore[arg-type]
    assert {one for one, place in (await where(on, campaign)).items() if place == banned} == begun


async def test_a_retry_moves_with_its_attempt_and_its_wait(on: Bench) -> None:
    banned = await add_instance(on, rate=0.2)
    policy = AT_ONCE.model_copy(update={"retry_delay_s": 3600})
    campaign = await start_campaign(on, definition([], policy=policy), 1)
    (first,) = await on.turn()
    await on.tell(topics.MESSAGE_SENT, failed(first, banned))
    other = await add_instance(on, rate=0.2)
    await ban(on, banned)
    assert await on.turn() == []
    assert set((await where(on, campaign)).values()) == {other}
    await wait_over(on)
    (again,) = await on.turn()
    assert (again.dispatch_id, again.attempt) == (first.dispatch_id, 2)


async def test_without_room_dispatches_move_and_bindings_stay(on: Bench) -> None:
    banned, full = await add_instance(on, rate=0.2), uuid4()
    await on.execute("UPDATE instance SET max_users = 100")
    await on.tell(topics.INSTANCES, (full, instance(rate=0.2, max_users=3)))
    campaign = await start_campaign(on, definition([banned, full]), 30)
    await on.turn()
    await ban(on, banned)
    await on.turn()
    assert list((await where(on, campaign)).values()).count(full) == 29
    assert (await occupied(on))[full] == 3
    assert sum((await occupied(on)).values()) == 30


async def test_nothing_moves_while_no_other_number_can_send(on: Bench) -> None:
    banned, other = await add_instance(on, rate=0.2), await add_instance(on, rate=0.2)
    campaign = await start_campaign(on, definition([banned, other]), 20)
    await on.turn()
    before = await where(on, campaign)
    await ban(on, other)
    await ban(on, banned)
    await on.turn()
    assert await where(on, campaign) == before
    assert await on.events(ContactMoved) == []


async def test_a_paused_campaign_moves_when_it_goes_on(on: Bench) -> None:
    banned, other = await add_instance(on, rate=0.2), await add_instance(on, rate=0.2)
    campaign = await start_campaign(on, definition([banned, other]), 20)
    await on.turn()
    await on.tell(topics.CAMPAIGNS, (campaign, CampaignPausing(run_epoch=1)), (campaign, CampaignPaused(run_epoch=1)))
    before = await where(on, campaign)
    await ban(on, banned)
    await on.turn()
    assert await where(on, campaign) == before
    await on.tell(topics.CAMPAIGNS, (campaign, CampaignResumed(run_epoch=2)))
    await on.turn()
    assert list((await where(on, campaign)).values()).count(banned) == 1
