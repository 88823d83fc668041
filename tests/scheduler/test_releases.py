"""What leaves a lane and when: credit, delays, limits, holds, turns, crashes: on a real PostgreSQL."""

import asyncio
import random
from datetime import UTC, datetime, timedelta

import pytest
from aiokafka.errors import KafkaConnectionError

from contracts import topics
from contracts.campaigns import (
    SendingPolicy,
)
from contracts.instances import WarmUpChanged, WarmUpPlan
from contracts.operations import HoldSet
from scheduler_parts import (
    ACCOUNT,
    AT_ONCE,
    Bench,
    add_instance,
    definition,
    folded,
    instance,
    returned,
    settle_all,
    start_campaign,
)

pytestmark = pytest.mark.postgres


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
    await on.scheduler.worker.plan()
    on.producer.failing = KafkaConnectionError()
    assert await on.turn() == []
    assert await on.states(campaign) == {"released": 40}
    await asyncio.sleep(0.02)
    again = await on.sweep()
    assert len(again) == 40
    assert {(one.attempt, one.release) for one in again} == {(1, 1)}
    assert list((await folded(on, campaign)).values()) == ["released"] * 40


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


async def test_a_number_with_a_plan_waits_for_no_word_of_the_sender_to_keep_its_first_day(on: Bench) -> None:
    """Released before the sender tells the first day, messages would leave as soon as it has begun."""
    plan, instance_id = WarmUpPlan(first_day=3, full_per_day=10), await add_instance(on)
    await start_campaign(on, definition([instance_id]), 30)
    await on.tell(topics.INSTANCES, (instance_id, instance(warm_up=plan)))
    assert len(await on.turn()) == 3
    ((began,),) = await on.rows("SELECT warm_begins_at FROM lane")
    day = WarmUpChanged(day=1, allowance=3, begins_at=began, ends_at=began + timedelta(days=1), at=began)
    await on.tell(topics.INSTANCE_HEALTH, (instance_id, day))
    assert await on.turn() == []
    over = began + timedelta(days=9)
    await on.tell(
        topics.INSTANCE_HEALTH,
        (instance_id, WarmUpChanged(day=9, allowance=None, begins_at=over, ends_at=over, at=over)),
    )
    await on.tell(topics.INSTANCES, (instance_id, instance(warm_up=plan)))
    assert len(await on.turn()) == 27


async def test_a_number_that_is_warmed_up_releases_its_day_and_no_more(on: Bench) -> None:
    instance_id = await add_instance(on)
    await start_campaign(on, definition([instance_id]), 100)
    began = datetime.now(UTC) - timedelta(hours=1)
    day = WarmUpChanged(day=1, allowance=20, begins_at=began, ends_at=began + timedelta(days=1), at=began)
    await on.tell(topics.INSTANCE_HEALTH, (instance_id, day))
    out = await on.turn()
    assert len(out) == 20
    await settle_all(on, instance_id, out[:10])
    assert await on.turn() == []
    # What came back unsent may go again; a bad sign takes from what is left.
    await on.tell(topics.MESSAGE_SENT, *(returned(one, instance_id, "shutting_down") for one in out[10:14]))
    await on.tell(topics.INSTANCE_HEALTH, (instance_id, day.model_copy(update={"allowance": 17, "slowed_by": "x"})))
    assert len(await on.turn()) == 1
    explained = await on.rows("SELECT warm_used, warm_allowance FROM lane")
    assert [dict(row) for row in explained] == [{"warm_used": 17, "warm_allowance": 17}]

    # Seven are still out: they may leave in the second day, and are none of it once they came back.
    second = day.model_copy(update={"day": 2, "allowance": 30, "begins_at": day.ends_at})
    await on.tell(topics.INSTANCE_HEALTH, (instance_id, second))
    assert len(await on.turn()) == 23
    await on.tell(topics.MESSAGE_SENT, *(returned(one, instance_id, "shutting_down") for one in out[14:]))
    assert len(await on.turn()) == 6
    warm = day.model_copy(update={"day": 3, "allowance": None})
    await on.tell(topics.INSTANCE_HEALTH, (instance_id, warm))
    assert len(await on.turn()) == 100 - 10 - 1 - 23 - 6
