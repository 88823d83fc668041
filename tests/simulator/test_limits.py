"""The windows against brute force."""

from hypothesis import given
from hypothesis import strategies as st

from provider_simulator.limits import SECOND_NS, PairRate, SlidingWindow, UniquePeople


def most_in_a_second(times: list[int]) -> int:
    """The largest number of arrivals in any (t - 1 s, t]."""
    return max((sum(end - SECOND_NS < t <= end for t in times) for end in times), default=0)


arrivals = st.lists(st.integers(0, 3_000).map(lambda ms: ms * 1_000_000), max_size=80)


@given(arrivals, st.integers(1, 6))
def test_no_sliding_second_holds_more_than_the_limit_whatever_the_order(times: list[int], limit: int) -> None:
    window = SlidingWindow(limit)
    taken = [t for t in times if window.take(t)]
    assert most_in_a_second(taken) <= limit


@given(arrivals, st.integers(1, 6))
def test_nothing_is_refused_that_would_have_fitted(times: list[int], limit: int) -> None:
    window = SlidingWindow(limit)
    taken: list[int] = []
    for t in times:
        if window.take(t):
            taken.append(t)
        else:
            assert most_in_a_second([*taken, t]) > limit


@given(arrivals)
def test_the_peak_is_the_largest_second_seen(times: list[int]) -> None:
    window = SlidingWindow()
    for t in times:
        assert window.take(t)
    assert window.peak == most_in_a_second(times)


def test_an_arrival_exactly_a_second_later_is_in_another_window() -> None:
    window = SlidingWindow(1)
    assert window.take(0)
    assert not window.take(SECOND_NS - 1)
    assert window.take(SECOND_NS)


def test_a_limit_of_zero_refuses_everything() -> None:
    assert not SlidingWindow(0).take(5)


def test_old_arrivals_are_forgotten_and_the_limit_still_holds() -> None:
    window = SlidingWindow(10)
    taken = sum(window.take(i * SECOND_NS // 20) for i in range(20_000))
    assert taken == 10_000
    assert window.peak == 10


def test_a_pair_has_a_burst_of_45_which_is_paid_back_at_one_in_six_seconds() -> None:
    pairs = PairRate()
    assert [pairs.take("ana", 0) for _ in range(46)] == [True] * 45 + [False]
    assert not pairs.take("ana", 5 * SECOND_NS)
    assert pairs.take("ana", 6 * SECOND_NS)
    assert not pairs.take("ana", 6 * SECOND_NS)
    assert pairs.take("bia", 6 * SECOND_NS)


@given(st.lists(st.tuples(st.sampled_from("abcd"), st.integers(0, 300)), max_size=60), st.integers(1, 3))
def test_unique_people_never_exceed_the_limit_in_any_window(steps: list[tuple[str, int]], limit: int) -> None:
    people = UniquePeople(limit, span_ms=100)
    taken: list[tuple[str, int]] = []
    for person, at_ms in sorted(steps, key=lambda step: step[1]):
        if people.take(person, at_ms):
            taken.append((person, at_ms))
            recent = {who for who, t in taken if t > at_ms - 100}
            assert len(recent) <= limit
            assert people.count(at_ms) == len(recent)
