"""Turns among campaigns and accounts."""

from uuid import UUID

from hypothesis import given
from hypothesis import strategies as st

from scheduler.lane.fairness import Contender, divide

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
