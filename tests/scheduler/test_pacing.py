"""The pacing rule over simulated weeks with a virtual clock."""

import random
from dataclasses import replace
from datetime import UTC, datetime, time, timedelta
from itertools import pairwise
from zoneinfo import ZoneInfo

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from contracts.campaigns import SendingPolicy
from scheduler.lane import hours
from scheduler.lane.pacing import Lane, Run, Wait, combine, credit, lane_waits, longest, next_release, rested, run_waits

NOON = datetime(2026, 3, 2, 12, tzinfo=UTC)
HORIZON_S = 5.0


def simulate(
    policies: list[SendingPolicy], *, start: datetime, until: datetime, seed: int, answer_s: float = 0.3
) -> list[datetime]:
    """Departures of a lane whose every message is answered after `answer_s`, all policies having work all the time."""
    chance = random.Random(seed)
    lane, now, departures = Lane(rate=20), start, []
    while now < until:
        open_ones = [policy for policy in policies if not run_waits(Run(policy), now)]
        if not open_ones:
            waits = [longest(run_waits(Run(policy), now)).until for policy in policies]
            known = [each for each in waits if each is not None]
            if not known:
                break
            assert min(known) > now
            now = min(known)
            continue
        bounds = combine(open_ones)
        answer = next_release(lane, bounds, now, HORIZON_S)
        if isinstance(answer, Wait):
            assert answer.until is not None
            assert answer.until > now
            now = answer.until
            continue
        if rested(lane, bounds, now):
            lane = replace(lane, sent_since_rest=0)
        departures.extend([now] * answer)
        now += timedelta(seconds=answer_s)
        lane = replace(lane, last_outcome_at=now, draw=chance.random(), sent_since_rest=lane.sent_since_rest + answer)
    return departures


def gaps_s(departures: list[datetime]) -> list[float]:
    return [(after - before).total_seconds() for before, after in pairwise(departures)]


def test_a_week_of_office_hours_keeps_every_departure_inside_and_every_delay_in_its_bounds() -> None:
    policy = SendingPolicy(
        min_delay_s=40, max_delay_s=90, pause_after_messages=30, pause_duration_s=1200,
        allowed_hours_start=time(9), allowed_hours_end=time(18), weekdays=(0, 1, 2, 3, 4),
    )  # fmt: skip
    departures = simulate([policy], start=NOON, until=NOON + timedelta(days=7), seed=1)
    assert len(departures) > 500
    assert all(hours.is_open(policy, each) for each in departures)
    short = [gap for gap in gaps_s(departures) if gap < 1000]
    assert min(short) >= 40
    assert max(short) <= 90 + 0.3
    assert any(1200 <= gap < 1300 for gap in gaps_s(departures))


@pytest.mark.parametrize("start", ["2018-11-02", "2018-02-16"])
def test_a_night_window_over_the_clock_change_is_kept_by_the_wall_clock(start: str) -> None:
    zone = ZoneInfo("America/Sao_Paulo")
    policy = SendingPolicy(
        min_delay_s=60, max_delay_s=120, pause_after_messages=None,
        allowed_hours_start=time(22), allowed_hours_end=time(2),
    )  # fmt: skip
    begin = datetime.fromisoformat(start).replace(tzinfo=zone).astimezone(UTC)
    departures = simulate([policy], start=begin, until=begin + timedelta(days=5), seed=2)
    walls = {each.astimezone(zone).hour for each in departures}
    assert walls <= {22, 23, 0, 1}
    assert len(departures) > 300


def test_nothing_leaves_after_the_validity() -> None:
    policy = SendingPolicy(valid_until=NOON + timedelta(hours=1), pause_after_messages=None)
    departures = simulate([policy], start=NOON, until=NOON + timedelta(days=1), seed=3)
    assert max(departures) < NOON + timedelta(hours=1)
    assert longest(run_waits(Run(policy), NOON + timedelta(hours=2))).reason == "expired"


def test_two_campaigns_keep_the_larger_bounds() -> None:
    quick = SendingPolicy(min_delay_s=1, max_delay_s=2, pause_after_messages=None)
    slow = SendingPolicy(min_delay_s=20, max_delay_s=30, pause_after_messages=10, pause_duration_s=60)
    bounds = combine([quick, slow])
    assert (bounds.min_delay_s, bounds.max_delay_s, bounds.pause_after, bounds.pause_s) == (20, 30, 10, 60)
    departures = simulate([quick, slow], start=NOON, until=NOON + timedelta(hours=2), seed=4)
    assert min(gaps_s(departures)) >= 20


def test_without_delays_the_credit_alone_governs() -> None:
    bounds = combine([SendingPolicy(min_delay_s=0, max_delay_s=0, pause_after_messages=None)])
    lane = Lane(rate=80, last_outcome_at=NOON)
    assert next_release(lane, bounds, NOON, HORIZON_S) == 400
    assert next_release(replace(lane, in_flight=390), bounds, NOON, HORIZON_S) == 10
    assert next_release(replace(lane, in_flight=400), bounds, NOON, HORIZON_S) == Wait("credit")


def test_with_delays_one_message_waits_for_its_outcome() -> None:
    bounds = combine([SendingPolicy()])
    assert next_release(Lane(rate=80, in_flight=1), bounds, NOON, HORIZON_S) == Wait("credit")
    assert next_release(Lane(rate=80), bounds, NOON, HORIZON_S) == 1


def test_a_rest_counts_what_is_in_flight() -> None:
    bounds = combine([SendingPolicy(min_delay_s=0, max_delay_s=0, pause_after_messages=50, pause_duration_s=60)])
    lane = Lane(rate=80, in_flight=20, sent_since_rest=10, last_outcome_at=NOON)
    assert next_release(lane, bounds, NOON, HORIZON_S) == 20


def test_a_credit_is_never_less_than_one() -> None:
    assert credit(0.1, HORIZON_S) == 1


@pytest.mark.parametrize(
    ("lane", "reason"),
    [
        (Lane(rate=1, known=False), "instance_unknown"),
        (Lane(rate=1, warm_allowance=5, warm_used=5), "warm_up"),
        (Lane(rate=1, usable=False, stopped_by="banned"), "instance_stopped"),
        (Lane(rate=1, held=True), "held"),
        (Lane(rate=1, blocked_until=NOON + timedelta(hours=1), blocked_by="quota"), "instance_blocked"),
    ],
)
def test_a_lane_that_cannot_send_says_why(lane: Lane, reason: str) -> None:
    assert [wait.reason for wait in lane_waits(lane, combine([]), NOON, HORIZON_S)] == [reason]


def test_the_daily_limit_waits_for_the_next_local_day() -> None:
    run = Run(SendingPolicy(daily_limit=100), used_today=100)
    zone = ZoneInfo("America/Sao_Paulo")
    assert run_waits(run, NOON) == [Wait("daily_limit", datetime(2026, 3, 3, tzinfo=zone))]


@settings(max_examples=50, deadline=None)
@given(
    low=st.floats(0, 20), spread=st.floats(0, 20), after=st.none() | st.integers(1, 20), rest=st.floats(0, 600),
    seed=st.integers(0, 1000),
)  # fmt: skip
def test_the_minimum_is_hard_for_any_policy(
    low: float, spread: float, after: int | None, rest: float, seed: int
) -> None:
    policy = SendingPolicy(min_delay_s=low, max_delay_s=low + spread, pause_after_messages=after, pause_duration_s=rest)
    departures = simulate([policy], start=NOON, until=NOON + timedelta(seconds=900), seed=seed)
    if policy.max_delay_s > 0:
        assert all(gap >= low for gap in gaps_s(departures))
    if after is not None:
        rests = [gap for gap in gaps_s(departures) if gap >= rest]
        assert len(rests) >= (len(departures) - 1) // after
