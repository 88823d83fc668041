"""Unique recipients against a naive set over every window."""

from hypothesis import given
from hypothesis import strategies as st

from sender.lane.quota import WINDOW_S, Charged, Full, Quota, charge

people = st.sampled_from("abcdefgh")
steps = st.lists(st.tuples(people, st.sampled_from([1, 3600, WINDOW_S // 3, WINDOW_S])), max_size=60)


def as_stored(limit: int, last: dict[str, float], now_s: float) -> Quota:
    """What the transaction hands in: expired rows are gone, the recipient at hand is loaded."""
    valid = {key: at for key, at in last.items() if at > now_s - WINDOW_S}
    return Quota(limit, len(valid), min(valid.values(), default=None), valid)


@given(limit=st.integers(1, 5), steps=steps)
def test_no_window_of_a_day_holds_more_people_than_the_limit(limit: int, steps: list[tuple[str, int]]) -> None:
    last: dict[str, float] = {}
    sent: list[tuple[float, str]] = []
    now_s = 0.0
    for person, gap_s in steps:
        now_s += gap_s
        others = {key for at, key in sent if now_s - WINDOW_S < at}
        result = charge(as_stored(limit, last, now_s), person, now_s)
        if isinstance(result, Charged):
            assert len(others | {person}) <= limit
            assert result.new == (person not in others)
            last[person] = now_s
            sent.append((now_s, person))
        else:
            assert len(others | {person}) > limit
            assert result.until_s > now_s
    for at, _ in sent:
        assert len({key for other, key in sent if at - WINDOW_S < other <= at}) <= limit


@given(limit=st.integers(1, 4), group=st.lists(people, max_size=12))
def test_a_group_is_charged_one_by_one(limit: int, group: list[str]) -> None:
    quota, admitted = Quota(limit), set()
    for person in group:
        result = charge(quota, person, 10.0)
        if isinstance(result, Charged):
            quota = result.quota
            admitted.add(person)
    assert len(admitted) == quota.used == min(limit, len(set(group)))


def test_a_full_quota_opens_when_its_oldest_recipient_leaves_the_window() -> None:
    quota = Quota(limit=2, used=2, oldest_s=1000.0, seen={})
    assert charge(quota, "new", 5000.0) == Full(until_s=1000.0 + WINDOW_S)


def test_nobody_is_counted_without_a_limit_or_within_an_open_service_window() -> None:
    assert charge(Quota(limit=None), "a", 0.0) == Charged(Quota(limit=None), new=False, counted=False)
    full = Quota(limit=1, used=1, oldest_s=0.0, exempt=frozenset({"a"}))
    assert charge(full, "a", 1.0) == Charged(full, new=False, counted=False)
