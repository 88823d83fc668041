"""What leaves a lane next: people before campaigns, campaigns in turns, beside one another fairly."""

from collections import deque
from copy import copy
from functools import cache
from uuid import UUID

import pytest
from hypothesis import given
from hypothesis import strategies as st

from scheduler.lane.fairness import Contender, divide
from sender.lane.queues import Queues
from sender.work import Work
from sender_ledger import works
from sender_parts import ACCOUNT, queued

LARGE, SMALL = UUID(int=1), UUID(int=2)


@cache
def _first(campaign: UUID | None) -> Work:
    priority = "person" if campaign is None else "campaign"
    return works([queued(1, campaign_id=campaign, priority=priority)])[0]


def of(campaign: UUID | None) -> Work:
    """Another message of the campaign; None = of a person."""
    return copy(_first(campaign))


def test_people_leave_before_all_campaigns_whenever_they_come() -> None:
    queues = Queues()
    for _ in range(5):
        queues.put(of(LARGE))
    answer = of(None)
    queues.put(answer)
    assert queues.has_people
    assert queues.take(2)[0] is answer
    assert len(queues) == 4


def test_campaigns_take_turns_and_keep_their_own_order() -> None:
    queues, large, small = Queues(), [of(LARGE) for n in range(4)], [of(SMALL) for n in range(2)]
    for work in (*large, *small):
        queues.put(work)
    taken = queues.take(6)
    assert taken == [large[0], small[0], large[1], small[1], large[2], large[3]]
    assert len(queues) == 0
    assert queues.take(1) == []


def test_what_is_put_back_comes_next_in_the_same_order() -> None:
    queues = Queues()
    for campaign in (LARGE, SMALL):
        for _ in range(3):
            queues.put(of(campaign))
    first = queues.take(3)
    queues.put_back(first, retaken=True)
    assert queues.take(3) == first
    assert all(work.retaken for work in first)
    assert len(queues) == 3


def test_a_copy_of_what_left_is_not_taken_for_an_intent_of_its_own() -> None:
    """A record may be in Kafka twice. Both copies were in a commit that ended unknown; one of them leaves."""
    queues, one, other = Queues(), of(LARGE), of(LARGE)
    queues.put_back([one, other], retaken=True)
    assert queues.take(1) == [one]
    assert one.retaken
    queues.note_left(one)
    assert queues.take(1) == [other]
    assert not other.retaken


def test_a_copy_of_what_left_is_not_withdrawn_when_the_lane_is_emptied() -> None:
    queues, one, other = Queues(), of(LARGE), of(LARGE)
    queues.put_back([one, other], retaken=True)
    queues.note_left(queues.take(1)[0])
    assert [work.retaken for work in queues.take_older(0, 1e9)] == [False]


def test_the_old_ones_leave_from_every_queue() -> None:
    queues, old, young = Queues(), of(SMALL), of(LARGE)
    young.waits_since_s = 9.0
    queues.put(young)
    queues.put(old)
    assert list(queues.take_older(5.0, 10.0)) == [old]
    assert len(queues) == 1
    assert queues.take(5) == [young]


steps = st.lists(
    st.one_of(
        st.tuples(st.just("put"), st.sampled_from([None, LARGE, SMALL, UUID(int=3)])),
        st.tuples(st.just("take"), st.integers(1, 6)),
        st.tuples(st.just("back"), st.integers(1, 6)),
    ),
    max_size=60,
)


@given(steps)
def test_nothing_is_lost_or_doubled_and_no_campaign_overtakes_itself(history: list[tuple[str, object]]) -> None:
    queues, waiting = Queues(), dict[UUID | None, deque[Work]]()
    for act, value in history:
        if act == "put":
            assert value is None or isinstance(value, UUID)
            work = of(value)
            queues.put(work)
            waiting.setdefault(value, deque()).append(work)
        else:
            assert isinstance(value, int)
            people = len(waiting.get(None, ()))
            taken = queues.take(value)
            assert [work.from_person for work in taken] == [True] * min(people, value) + [False] * (
                len(taken) - min(people, value)
            )
            if act == "back":
                queues.put_back(taken)
                assert queues.take(value) == taken
            for work in taken:
                assert waiting[work.message.campaign_id].popleft() is work
        assert len(queues) == sum(map(len, waiting.values()))


def delays(people: int, beside: int, *, turns: bool, rate: float = 20.0, horizon_s: float = 5.0) -> list[float]:
    """A lane on a virtual clock: the scheduler releases within its credit, the sender sends at its rate. How long each
    message of a small campaign waited from its start, when `beside` messages of a large one had begun long before."""
    queues, fifo, owed = Queues(), deque[Work](), dict[UUID, float]()
    pending = {LARGE: beside, SMALL: 0}
    credit, out, at_s, sent = int(rate * horizon_s), 0, 0.0, list[float]()
    begins_s, begun = 20.0, False
    while len(sent) < people:
        if not begun and at_s >= begins_s:
            pending[SMALL], begun = people, True
        if out <= 0.8 * credit:  # as the scheduler refills a lane
            contenders = [Contender(each, ACCOUNT) for each, count in pending.items() if count]
            shares = divide(credit - out, contenders, owed)
            owed = shares.owed
            for campaign, slots in shares.slots.items():
                for _ in range(min(slots, pending[campaign])):
                    pending[campaign] -= 1
                    out += 1
                    work = of(campaign)
                    queues.put(work) if turns else fifo.append(work)
        taken = queues.take(1) if turns else [fifo.popleft()] if fifo else []
        at_s += 1 / rate
        for work in taken:
            out -= 1
            if work.message.campaign_id == SMALL:
                sent.append(at_s - begins_s)
    return sorted(sent)


def p99(waits: list[float]) -> float:
    return waits[int(len(waits) * 0.99) - 1]


@pytest.mark.parametrize("people", [100, 200, 400])
def test_a_small_campaign_beside_a_large_one_waits_at_most_twice_as_long_as_alone(people: int) -> None:
    alone = p99(delays(people, 0, turns=True))
    beside = p99(delays(people, 20_000, turns=True))
    # The lane's refill, a fifth of its credit, is what the small one waits for before its share begins.
    assert beside <= 2 * alone + 1.0
    assert delays(people, 20_000, turns=True)[0] <= 1.1
    assert delays(people, 20_000, turns=False)[0] > 3.9, "in one row it would wait behind the whole credit"
