"""The limiter against a brute-force count of every sliding window."""

from itertools import pairwise
from math import floor

from hypothesis import given
from hypothesis import strategies as st

from sender.lane import throttle
from sender.lane.throttle import (
    AHEAD_MAX,
    Rate,
    Refused,
    Taken,
    count_ahead,
    count_ready,
    emptied,
    leave_room,
    replay,
    size_pair_rate,
    size_rate,
    take,
    until_next_group,
)
from sender_parts import most_in_window

JITTER_S = 0.010
limits = st.sampled_from([0.05, 0.5, 1, 1.5, 2, 5, 20, 40, 60, 80, 250, 1000])
# Arrivals of work in bursts and trickles, as gaps in seconds.
gaps = st.lists(st.sampled_from([0.0, 0.0, 0.0005, 0.004, 0.013, 0.06, 0.4, 1.1]), min_size=1, max_size=400)


def departures(rate: Rate, arrivals: list[float], tat_s: float = 0.0) -> list[float]:
    left: list[float] = []
    now_s = 0.0
    for gap in arrivals:
        now_s += gap
        turn = take(tat_s, now_s, rate)
        while isinstance(turn, Refused):
            now_s = turn.until_s
            turn = take(tat_s, now_s, rate)
        tat_s = turn.tat_s
        left.append(turn.at_s)
    return left


@given(limit=st.sampled_from([20.0, 80.0, 1000.0]), received=st.floats(0, 2000), more=st.floats(0, 100))
def test_what_a_number_receives_leaves_it_less_and_never_nothing(limit: float, received: float, more: float) -> None:
    left = leave_room(limit, received)
    assert 0.2 * limit <= left <= limit
    assert leave_room(limit, received + more) <= left
    assert left + received <= limit + 0.5 or left == 0.2 * limit


@given(limit=limits, target=limits, burst=st.integers(1, 200), arrivals=gaps, spread=st.data())
def test_no_sliding_window_exceeds_the_limit_even_with_jitter(
    limit: float, target: float, burst: int, arrivals: list[float], spread: st.DataObject
) -> None:
    rate = size_rate(limit, target, burst, JITTER_S)
    left = departures(rate, arrivals)
    jitters = spread.draw(st.lists(st.floats(0, JITTER_S), min_size=len(left), max_size=len(left)))
    arrived = [at + jitter for at, jitter in zip(left, jitters, strict=True)]
    window_s, allowed = (1.0, floor(limit)) if limit >= 1 else (1 / limit, 1)
    assert most_in_window(arrived, window_s) <= allowed


@given(limit=limits, burst=st.integers(1, 200), arrivals=gaps, cut=st.integers(0, 400))
def test_a_new_owner_that_starts_emptied_never_exceeds_the_limit_together_with_the_old_one(
    limit: float, burst: int, arrivals: list[float], cut: int
) -> None:
    rate = size_rate(limit, limit, burst, JITTER_S)
    before = departures(rate, arrivals[:cut])
    start_s = before[-1] if before else 0.0
    after = [start_s + at for at in departures(rate, arrivals[cut:], emptied(0.0, rate))]
    window_s, allowed = (1.0, floor(limit)) if limit >= 1 else (1 / limit, 1)
    assert most_in_window([*before, *after], window_s) <= allowed


@given(limit=limits, target=limits, burst=st.integers(1, 200))
def test_target_and_burst_are_caps_within_the_limit(limit: float, target: float, burst: int) -> None:
    rate = size_rate(limit, target, burst, JITTER_S)
    assert 0 < rate.per_second <= target * (1 + 1e-9)
    assert 0 <= rate.tolerance_s <= (burst - 1 + 1e-6) * rate.interval_s
    at_once = [turn for turn in departures(rate, [0.0] * 300) if turn == 0.0]
    assert len(at_once) <= burst


def test_at_least_ninety_three_percent_of_the_limit_are_used_where_the_target_allows() -> None:
    for limit in (20, 40, 60, 80, 250, 1000):
        left = departures(size_rate(limit, limit, 100, JITTER_S), [0.0] * (limit * 20))
        used = len(left) / (left[-1] - left[0]) / limit
        assert used >= (0.93 if limit >= 40 else 0.90), (limit, used)


@given(tat=st.floats(0, 20), now=st.floats(0, 20), horizon=st.floats(0, 2), most=st.integers(0, 50), limit=limits)
def test_what_is_counted_as_ready_can_be_taken(tat: float, now: float, horizon: float, most: int, limit: float) -> None:
    rate = size_rate(limit, limit, 50, JITTER_S)
    ready = count_ready(tat, now, rate, horizon, most)
    assert 0 <= ready <= most
    for _ in range(ready):
        turn = take(tat, now, rate, horizon + 1e-6)
        assert isinstance(turn, Taken)
        tat = turn.tat_s


def test_a_pair_gets_its_burst_and_then_one_in_six_seconds() -> None:
    rate = size_pair_rate(10, 45, jitter_s=0.5)
    left = departures(rate, [0.0] * 60)
    assert sum(at < 1 for at in left) == 45
    assert most_in_window(left[45:], 60) <= 10
    later = [b - a for a, b in pairwise(left[46:])]
    assert min(later) > 5.99


@given(arrivals=gaps)
def test_a_forgotten_state_is_rebuilt_from_the_departures(arrivals: list[float]) -> None:
    rate = size_pair_rate(10, 45, jitter_s=0.5)
    tat_s, left, now_s = 0.0, [], 100.0
    for gap in arrivals:
        now_s += gap
        turn = take(tat_s, now_s, rate)
        if isinstance(turn, Taken):
            tat_s = turn.tat_s
            left.append(turn.at_s)
    assert abs(replay(left, rate) - tat_s) < 1e-6


@given(
    limit=st.integers(2, 100),
    late_s=st.lists(st.sampled_from([0.0, 0.0, 0.0, 0.005, 0.01, 0.03, 0.08, 0.3]), min_size=30, max_size=400),
)
def test_departures_that_are_late_make_no_window_too_full(limit: int, late_s: list[float]) -> None:
    """A busy loop or a new connection holds a request back after its turn; the ones behind it are put back too."""
    jitter_s = 0.01
    rate = throttle.size_rate(limit, limit, limit, jitter_s)
    tat_s = now_s = 0.0
    put_back_s = 0.0
    under_way: list[tuple[float, float]] = []  # leaves at, could leave until
    left: list[float] = []
    for late in late_s:
        while True:
            taken = throttle.take(tat_s, now_s, rate)
            until_s = now_s if isinstance(taken, throttle.Taken) else taken.until_s
            due = sorted(departure for departure in under_way if departure[0] <= until_s)
            for leaves_s, latest_s in due:
                under_way.remove((leaves_s, latest_s))
                left.append(leaves_s)
                shift_s = throttle.put_back(latest_s, leaves_s, put_back_s)
                put_back_s += shift_s
                tat_s += shift_s
            now_s = until_s
            if isinstance(taken, throttle.Taken) and not due:
                break
        tat_s = taken.tat_s
        under_way.append((now_s + late, throttle.latest_s(taken, rate, jitter_s, put_back_s)))
    left += [leaves_s for leaves_s, _ in under_way]
    left.sort()
    start = 0
    for end, at_s in enumerate(left):
        while left[start] <= at_s - 1.0:
            start += 1
        assert end - start + 1 <= limit


def test_few_intents_are_ahead_at_the_usual_rate_whatever_the_database_takes() -> None:
    ordinary = size_rate(80, 80, 1, 0.010)
    assert count_ahead(ordinary, 0.010) == 3
    assert count_ahead(ordinary, 0.025) == 5
    assert count_ahead(ordinary, 5.0) == AHEAD_MAX


@given(st.floats(0.01, 1000), st.floats(0, 0.045))
def test_enough_intents_are_ahead_that_a_number_never_waits_for_its_next_ones(
    per_second: float, transaction_s: float
) -> None:
    ahead = count_ahead(Rate(1 / per_second, 0), transaction_s)
    assert ahead >= 1
    assert ahead >= 2 * transaction_s * per_second or ahead == AHEAD_MAX
    assert ahead <= max(AHEAD_MAX, per_second * 0.1 + 1)


@given(due_s=st.floats(-1, 1), waiting=st.integers(0, 100), per_second=st.floats(1, 1000))
def test_a_lane_with_intents_asks_again_before_more_than_half_of_them_have_left(
    due_s: float, waiting: int, per_second: float
) -> None:
    until_s = until_next_group(due_s, waiting, Rate(1 / per_second, 0))
    if waiting:
        assert until_s is not None
        assert 0 < until_s <= max(0.005, (waiting + 1) / 2 / per_second + 1e-9)
    else:
        assert until_s == (due_s if due_s > 0 else None)
