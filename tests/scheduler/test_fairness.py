"""Turns among campaigns and accounts."""

from uuid import UUID, uuid4

import pytest
from hypothesis import given
from hypothesis import strategies as st

from backing import MakeDatabase
from contracts import topics
from contracts.campaigns import CampaignCancelling
from scheduler.lane.fairness import Contender, divide
from scheduler.settings import BatchSettings
from scheduler_parts import add_instance, bench, definition, migrate_scheduler, start_campaign

ONE, TWO, THREE = (UUID(int=number) for number in (1, 2, 3))
ACME, OTHER = UUID(int=101), UUID(int=102)


def test_slots_are_divided_equally_whatever_the_size_of_the_campaigns() -> None:
    turns = divide(10, [Contender(ONE, ACME), Contender(TWO, ACME)], {})
    assert turns.slots == {ONE: 5, TWO: 5}


def test_one_slot_at_a_time_goes_round() -> None:
    owed: dict[UUID, float] = {}
    order: list[UUID] = []
    for _ in range(6):
        turns = divide(1, [Contender(ONE, ACME), Contender(TWO, ACME), Contender(THREE, ACME)], owed)
        owed = turns.owed
        order.extend(turns.slots)
    assert sorted(order[:3]) == [ONE, TWO, THREE]
    assert sorted(order[3:]) == [ONE, TWO, THREE]


def test_an_account_with_many_campaigns_gets_no_more_than_one_with_a_single_one() -> None:
    turns = divide(12, [Contender(ONE, ACME), Contender(TWO, ACME), Contender(THREE, OTHER)], {})
    assert turns.slots == {ONE: 3, TWO: 3, THREE: 6}


def test_who_has_no_work_keeps_no_claim() -> None:
    assert TWO not in divide(1, [Contender(ONE, ACME)], {TWO: 0.9}).owed


@given(
    slots=st.lists(st.integers(0, 9), min_size=1, max_size=60),
    campaigns=st.lists(st.integers(1, 3), min_size=1, max_size=8),
)
def test_exactly_the_slots_are_given_and_nobody_is_ever_a_whole_turn_behind(
    slots: list[int], campaigns: list[int]
) -> None:
    contenders = [Contender(UUID(int=index), UUID(int=100 + account)) for index, account in enumerate(campaigns)]
    accounts = len(set(campaigns))
    owed: dict[UUID, float] = {}
    got = dict.fromkeys((c.campaign_id for c in contenders), 0)
    for each in slots:
        turns = divide(each, contenders, owed)
        assert sum(turns.slots.values()) == each
        owed = turns.owed
        for campaign, count in turns.slots.items():
            got[campaign] += count
    for contender in contenders:
        same = sum(1 for each in contenders if each.account_id == contender.account_id)
        assert abs(got[contender.campaign_id] - sum(slots) / accounts / same) < 2


@pytest.mark.postgres
async def test_what_others_start_and_cancel_does_not_wait_for_a_long_plan(
    database_factory: MakeDatabase, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Another campaign starts, and one is cancelled, while the third page of a large one is being planned."""
    batch = BatchSettings(plan_recipients=50)
    async with bench(database_factory(migrate_scheduler), batch=batch) as on:
        instance_id = await add_instance(on)
        cancelled = await start_campaign(on, definition([instance_id]), 500)
        await on.turn()
        await start_campaign(on, definition([instance_id]), 1500, first=1000)
        planning, pages, small = on.scheduler.planning, 0, uuid4()
        plan_page = planning.plan_page

        async def counted() -> bool:
            nonlocal pages
            pages += 1
            if pages == 3:
                await start_campaign(on, definition([instance_id]), 40, first=5000, campaign_id=small)
                await on.tell(topics.CAMPAIGNS, (cancelled, CampaignCancelling(run_epoch=1)))
            found = await plan_page()
            if pages == 6:
                planned = {row["campaign_id"] for row in await on.rows("SELECT campaign_id FROM dispatch")}
                assert small in planned
                assert await on.states(cancelled) == {"released": 400, "cancelled": 100}
            return found

        monkeypatch.setattr(planning, "plan_page", counted)
        await on.scheduler.worker.plan()
        assert pages > 20
