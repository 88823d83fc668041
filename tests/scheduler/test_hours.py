"""Allowed hours against a brute-force reading of the wall clock, clock changes and windows over midnight included."""

from datetime import UTC, datetime, time, timedelta
from zoneinfo import ZoneInfo

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from contracts.campaigns import SendingPolicy
from scheduler.lane import hours

MINUTE = timedelta(minutes=1)


def policy(start: str | None = None, end: str | None = None, **more: object) -> SendingPolicy:
    def read(wall: str | None) -> time | None:
        return None if wall is None else time.fromisoformat(wall)

    return SendingPolicy(allowed_hours_start=read(start), allowed_hours_end=read(end), **more)


def at(wall: str, zone: str = "America/Sao_Paulo") -> datetime:
    return datetime.fromisoformat(wall).replace(tzinfo=ZoneInfo(zone))


@pytest.mark.parametrize(
    ("now", "expected"),
    [
        ("2026-03-02T08:59:59", False),
        ("2026-03-02T09:00", True),
        ("2026-03-02T17:59:59", True),
        ("2026-03-02T18:00", False),
    ],
)
def test_the_start_is_inside_and_the_end_is_not(now: str, expected: bool) -> None:
    assert hours.is_open(policy("09:00", "18:00"), at(now)) is expected


@pytest.mark.parametrize(
    ("now", "expected"),
    [
        ("2026-03-06T21:59", False),  # Friday
        ("2026-03-06T22:00", True),
        ("2026-03-07T05:59", True),  # the window of Friday goes on
        ("2026-03-07T06:00", False),
        ("2026-03-07T23:00", False),  # Saturday has none of its own
        ("2026-03-09T03:00", False),  # nor had Sunday
    ],
)
def test_a_window_over_midnight_belongs_to_the_day_on_which_it_begins(now: str, expected: bool) -> None:
    weekdays_only = policy("22:00", "06:00", weekdays=(0, 1, 2, 3, 4))
    assert hours.is_open(weekdays_only, at(now)) is expected


def test_without_hours_and_with_all_days_it_is_always_open() -> None:
    assert hours.is_open(policy(), at("2026-03-07T03:00"))
    assert hours.next_change(policy(), at("2026-03-07T03:00")) is None


def test_a_start_alone_lasts_until_midnight() -> None:
    late = policy("20:00")
    assert hours.is_open(late, at("2026-03-02T23:59"))
    assert hours.next_change(late, at("2026-03-02T21:00")) == at("2026-03-03T00:00")


def test_the_next_opening_skips_closed_days() -> None:
    office = policy("09:00", "18:00", weekdays=(0, 1, 2, 3, 4))
    assert hours.next_change(office, at("2026-03-06T18:00")) == at("2026-03-09T09:00")


def test_no_weekday_never_opens() -> None:
    assert hours.next_change(policy(weekdays=()), at("2026-03-06T18:00")) is None


def test_the_validity_closes_before_the_window() -> None:
    valid_until = at("2026-03-02T10:00").astimezone(UTC)
    assert hours.closes_at(policy("09:00", "18:00", valid_until=valid_until), at("2026-03-02T09:30")) == valid_until


def test_a_day_begins_at_local_midnight() -> None:
    assert hours.local_day(policy(), at("2026-03-02T22:30")) == at("2026-03-02T00:00")
    assert hours.next_day(policy(), at("2026-03-02T22:30")) == at("2026-03-03T00:00")


WALLS = st.sampled_from(["00:00", "01:30", "02:00", "02:30", "03:00", "09:00", "18:00", "22:00", "23:30"])
ZONES_AND_CLOCK_CHANGES = [
    ("America/Sao_Paulo", "2018-11-03T12:00"),  # midnight does not exist on the 4th
    ("America/Sao_Paulo", "2018-02-17T12:00"),  # 23:00 to 24:00 comes twice
    ("America/New_York", "2026-03-07T12:00"),  # 02:00 to 03:00 does not exist
    ("America/New_York", "2026-10-31T12:00"),  # 01:00 to 02:00 comes twice
    ("Europe/Berlin", "2026-03-28T12:00"),
    ("Asia/Kathmandu", "2026-03-28T12:00"),
]


@settings(deadline=None)
@given(start=WALLS, end=WALLS, change=st.sampled_from(ZONES_AND_CLOCK_CHANGES), offset=st.integers(0, 30 * 60))
def test_the_next_change_is_the_first_minute_at_which_the_answer_differs(
    start: str, end: str, change: tuple[str, str], offset: int
) -> None:
    zone, day = change
    window = policy(start, end, time_zone=zone)
    now = at(day, zone).astimezone(UTC) + offset * MINUTE
    found = hours.next_change(window, now)
    probe, state = now, hours.is_open(window, now)
    while probe < now + timedelta(days=2) and hours.is_open(window, probe) == state:
        probe += MINUTE
    if probe < now + timedelta(days=2):
        assert found == probe
    else:
        assert found is None or found >= probe
