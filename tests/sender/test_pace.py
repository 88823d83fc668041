"""The adaptive rate: down by a factor, up with time, the refused rate approached slowly."""

from hypothesis import assume, given
from hypothesis import strategies as st

from sender.lane.pace import DEFAULT, FREE, Pace, allowed, free_at, slow_down, slowed
from sender.lane.throttle import size_rate

FULL = st.sampled_from([0.05, 1.0, 20.0, 80.0, 1000.0])
# Seconds between two refusals.
GAPS = st.lists(st.floats(0, 2000), max_size=20)


def after(full: float, gaps: list[float]) -> tuple[Pace, float]:
    pace, now_s = FREE, 1_000_000.0
    for gap in gaps:
        now_s += gap
        pace = slow_down(pace, full, now_s)
    return pace, now_s


def test_a_refusal_takes_three_tenths_and_a_second_brings_a_hundredth_back() -> None:
    pace = slow_down(FREE, 80.0, 100.0)
    assert allowed(pace, 80.0, 100.0) == 56.0
    assert allowed(pace, 80.0, 110.0) == 64.0
    # Near what was refused it goes on ten times slower.
    assert allowed(pace, 80.0, 125.0) == 76.0
    assert round(allowed(pace, 80.0, 126.0), 3) == 76.08
    assert round(free_at(pace, 80.0), 3) == 175.0


def test_what_the_provider_accepts_is_remembered_and_then_tried_again() -> None:
    """A provider that takes 40 of 80: hardly ever above it, and the climb to it is quick."""
    pace, now_s = FREE, 0.0
    above_s = 0
    for second in range(3600):
        now_s = float(second)
        if allowed(pace, 80.0, now_s) > 40.0:
            above_s += 1
            pace = slow_down(pace, 80.0, now_s)
    assert above_s < 0.03 * 3600
    assert sum(allowed(pace, 80.0, now_s + s) for s in range(30)) / 30 > 28


@given(full=FULL, gaps=GAPS, later=st.floats(0, 5000))
def test_it_never_exceeds_the_full_rate_nor_falls_below_its_floor(full: float, gaps: list[float], later: float) -> None:
    pace, now_s = after(full, gaps)
    assert full * DEFAULT.floor <= allowed(pace, full, now_s + later) <= full


@given(full=FULL, gaps=GAPS, earlier=st.floats(0, 5000), more=st.floats(0, 5000))
def test_without_a_refusal_it_only_climbs(full: float, gaps: list[float], earlier: float, more: float) -> None:
    pace, now_s = after(full, gaps)
    assert allowed(pace, full, now_s + earlier) <= allowed(pace, full, now_s + earlier + more)


@given(full=FULL, gaps=GAPS)
def test_it_is_free_again_when_it_says_so_and_not_before(full: float, gaps: list[float]) -> None:
    assume(gaps)
    pace, _ = after(full, gaps)
    at_s = free_at(pace, full)
    assert allowed(pace, full, at_s + 0.01) >= full * 0.999
    assert allowed(pace, full, (pace.at_s + at_s) / 2) < full


@given(full=FULL, gaps=GAPS, within=st.floats(0, 1.99))
def test_refusals_of_one_moment_count_once(full: float, gaps: list[float], within: float) -> None:
    pace, now_s = after(full, [*gaps, 10.0])
    assert slow_down(pace, full, now_s + within) is pace


@given(limit=st.sampled_from([1, 20, 80, 1000]), share=st.floats(0.01, 2))
def test_a_slowed_rate_is_no_faster_and_as_slow_as_asked(limit: float, share: float) -> None:
    rate = size_rate(limit, 1000, 100, 0.01)
    slower = slowed(rate, rate.per_second * share)
    assert slower.per_second <= rate.per_second * min(1.0, share) * 1.000001
    assert slower.tolerance_s / slower.interval_s <= rate.tolerance_s / rate.interval_s + 1e-9
