"""Percentiles, windows, efficiency, visibility and slumps, each against figures that can be checked by hand."""

import random

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pombo.audit.windows import busiest
from pombo.bench.measures import (
    NS,
    Slump,
    between,
    crossings_s,
    efficiency_percent,
    longest_slump,
    middle_rate,
    percentile,
    spread_ms,
    windows_over_limit,
)


def evenly(per_second: float, from_s: float, until_s: float) -> list[int]:
    return [round((from_s + turn / per_second) * NS) for turn in range(int((until_s - from_s) * per_second))]


def test_percentiles_of_a_known_series() -> None:
    values = [float(value) for value in range(1, 102)]
    assert percentile(values, 50) == 51
    assert percentile(values, 99) == pytest.approx(100)
    assert percentile([7.0], 99) == 7
    with pytest.raises(ValueError, match="no values"):
        percentile([], 50)


def test_a_spread_is_told_in_milliseconds() -> None:
    assert spread_ms([0.010, 0.020, 0.030]) == {"p50_ms": 20.0, "p99_ms": 29.8, "longest_ms": 30.0, "samples": 3}


def test_windows_over_the_limit_are_counted_by_their_last_arrival() -> None:
    at_limit = evenly(80, 0, 10)
    assert windows_over_limit(at_limit, 80) == 0
    assert windows_over_limit(at_limit, 79) == len(at_limit) - 79
    one_more = sorted([*at_limit, 5 * NS + 1])
    assert windows_over_limit(one_more, 80) > 0


@given(st.lists(st.integers(0, 5 * NS), min_size=1, max_size=200), st.integers(1, 40))
def test_no_window_is_over_exactly_when_the_busiest_is_not(times: list[int], limit: int) -> None:
    times.sort()
    assert (windows_over_limit(times, limit) == 0) == (busiest(times) <= limit)


def test_efficiency_is_a_share_of_what_the_limits_allow() -> None:
    assert efficiency_percent(912, 80, 12, 1.0) == pytest.approx(95.0)


def test_arrivals_between_two_moments_count_both() -> None:
    assert between([1, 2, 3, 4], 2, 3) == 2
    assert between([], 0, 10) == 0


def test_a_status_is_visible_at_the_first_look_that_counts_it() -> None:
    reported = [1 * NS, 2 * NS, 3 * NS]
    looks = [(int(2.5 * NS), 1), (4 * NS, 3)]
    assert crossings_s(reported, looks, 0) == [1.5, 2.0, 1.0]
    assert crossings_s(reported, looks, 2 * NS) == [2.0, 1.0]


def test_looks_that_count_more_than_was_reported_or_less_than_before_change_nothing() -> None:
    reported = [1 * NS, 2 * NS]
    assert crossings_s(reported, [(3 * NS, 5), (4 * NS, 1)], 0) == [2.0, 1.0]


def test_a_slump_lasts_until_the_usual_rate_is_back() -> None:
    times = evenly(100, 0, 12) + evenly(100, 15, 40)
    slump = longest_slump(times, 10 * NS, 40 * NS, 100)
    assert slump.began_s == pytest.approx(1.4, abs=0.15)  # the second that follows holds less than 70 of 100
    assert slump.ended_s == pytest.approx(4.8, abs=0.15)


def test_the_longest_of_several_slumps_is_told() -> None:
    times = evenly(100, 0, 10) + evenly(100, 11, 15) + evenly(100, 19, 40)
    assert longest_slump(times, 9 * NS, 40 * NS, 100).ended_s == pytest.approx(9.8, abs=0.15)


def test_no_slump_and_a_slump_without_an_end() -> None:
    assert longest_slump(evenly(100, 0, 30), 10 * NS, 30 * NS, 100) == Slump(0.0, 0.0)
    endless = longest_slump(evenly(100, 0, 12), 10 * NS, 30 * NS, 100)
    assert endless.ended_s == 20


def test_noise_is_no_slump() -> None:
    chance = random.Random(1)
    times = sorted(round(chance.uniform(0, 30) * NS) for _ in range(6000))
    assert longest_slump(times, 5 * NS, 30 * NS, 200) == Slump(0.0, 0.0)


def test_the_rate_in_the_middle_leaves_out_both_ends() -> None:
    samples = [(0.0, 0), (5.0, 20), (6.0, 50), (7.0, 80), (20.0, 100)]
    assert middle_rate(samples, 100) == 30
    assert middle_rate(samples[:2], 100) is None
