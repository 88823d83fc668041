"""When campaigns end: the forecast against the engine's own rules, played message by message on a virtual clock."""

import random
from collections import deque
from collections.abc import Mapping
from dataclasses import replace
from datetime import UTC, datetime, time, timedelta
from uuid import UUID

from hypothesis import given, settings
from hypothesis import strategies as st

from contracts.campaigns import SendingPolicy
from scheduler.lane import hours, pacing
from scheduler.lane.fairness import Contender, divide
from scheduler.lane.pacing import Lane, Run, Wait
from scheduler.plan.forecast import LaneOutlook, Quota, RunOutlook, foresee
from scheduler.plan.pace import ANSWER_S

NOON = datetime(2026, 3, 2, 12, tzinfo=UTC)  # a Monday
ACME, OTHER = UUID(int=101), UUID(int=102)
ONE, TWO = UUID(int=1), UUID(int=2)
AT_ONCE = SendingPolicy(min_delay_s=0, max_delay_s=0, pause_after_messages=None, time_zone="UTC")
SLOWLY = SendingPolicy(min_delay_s=5, max_delay_s=15, pause_after_messages=None, time_zone="UTC")
DAY = timedelta(days=1)


def end_of(policy: SendingPolicy, *lanes: LaneOutlook, **run: object) -> datetime | None:
    return foresee({ONE: RunOutlook(ACME, policy, **run)}, lanes, NOON)[ONE]  # type: ignore[arg-type]


def after(**time_: float) -> datetime:
    return NOON + timedelta(**time_)


def near(found: datetime | None, wanted: datetime, within_s: float = 1) -> bool:
    return found is not None and abs((found - wanted).total_seconds()) <= within_s


def test_without_delays_the_slowest_lane_tells_the_end() -> None:
    assert near(end_of(AT_ONCE, LaneOutlook(80, {ONE: 800}), LaneOutlook(80, {ONE: 100})), after(seconds=10))


def test_delays_and_rests_are_counted() -> None:
    policy = SLOWLY.model_copy(update={"pause_after_messages": 50, "pause_duration_s": 300})
    # The first goes without a delay; the delay runs while the lane rests.
    wanted_s = 101 * (10 + ANSWER_S) - 10 + 2 * (300 - 10)
    assert near(end_of(policy, LaneOutlook(80, {ONE: 101})), after(seconds=wanted_s))


def test_a_lane_in_the_middle_of_its_row_rests_sooner() -> None:
    policy = AT_ONCE.model_copy(update={"pause_after_messages": 50, "pause_duration_s": 300})
    assert near(end_of(policy, LaneOutlook(10, {ONE: 60}, sent_since_rest=45)), after(seconds=6 + 2 * 300))


def test_campaigns_of_one_lane_take_turns_and_the_longer_one_ends_last() -> None:
    runs = {ONE: RunOutlook(ACME, AT_ONCE), TWO: RunOutlook(ACME, AT_ONCE)}
    ends = foresee(runs, [LaneOutlook(10, {ONE: 100, TWO: 1000})], NOON)
    assert near(ends[ONE], after(seconds=20))
    assert near(ends[TWO], after(seconds=110))


def test_the_larger_delay_of_another_campaign_holds_for_both() -> None:
    runs = {ONE: RunOutlook(ACME, AT_ONCE), TWO: RunOutlook(ACME, SLOWLY)}
    ends = foresee(runs, [LaneOutlook(10, {ONE: 100, TWO: 100})], NOON)
    assert near(ends[ONE], after(seconds=200 * 10.5), within_s=21)


def test_accounts_share_equally_whatever_the_number_of_their_campaigns() -> None:
    three = UUID(int=3)
    runs = {ONE: RunOutlook(ACME, AT_ONCE), TWO: RunOutlook(OTHER, AT_ONCE), three: RunOutlook(OTHER, AT_ONCE)}
    ends = foresee(runs, [LaneOutlook(10, {ONE: 100, TWO: 1000, three: 1000})], NOON)
    assert near(ends[ONE], after(seconds=20))


def test_nights_are_skipped() -> None:
    policy = AT_ONCE.model_copy(update={"allowed_hours_start": time(9), "allowed_hours_end": time(10)})
    assert near(end_of(policy, LaneOutlook(1, {ONE: 5400})), datetime(2026, 3, 4, 9, 30, tzinfo=UTC))


def test_a_daily_limit_spreads_over_days_and_lanes() -> None:
    policy = AT_ONCE.model_copy(update={"daily_limit": 100})
    midnight = datetime(2026, 3, 4, tzinfo=UTC)
    assert near(end_of(policy, LaneOutlook(80, {ONE: 125}), LaneOutlook(80, {ONE: 125})), midnight, within_s=3)


def test_a_full_quota_waits_for_the_oldest_to_leave_the_window() -> None:
    lane = LaneOutlook(80, {ONE: 300}, quota=Quota(250, used=250, frees_at=after(hours=3)))
    assert near(end_of(AT_ONCE, lane), after(hours=27), within_s=5)


def test_people_count_once_for_a_quota_whatever_the_number_of_steps() -> None:
    lane = LaneOutlook(80, {ONE: 500}, quota=Quota(250))
    assert near(end_of(AT_ONCE, lane, steps=2), after(seconds=500 / 80))


def test_a_blocked_lane_begins_when_it_may() -> None:
    assert near(end_of(AT_ONCE, LaneOutlook(10, {ONE: 100}, ready_at=after(minutes=5))), after(minutes=5, seconds=10))


def test_what_only_a_person_can_move_has_no_end_but_its_validity() -> None:
    stopped, held = LaneOutlook(10, {ONE: 10}, usable=False), RunOutlook(ACME, AT_ONCE, held=True)
    assert end_of(AT_ONCE, LaneOutlook(10, {ONE: 10}), stopped) is None
    assert foresee({ONE: held}, [LaneOutlook(10, {ONE: 10})], NOON)[ONE] is None
    assert end_of(AT_ONCE.model_copy(update={"weekdays": ()}), LaneOutlook(1, {ONE: 1})) is None
    until = AT_ONCE.model_copy(update={"valid_until": after(hours=2)})
    assert end_of(until, stopped) == after(hours=2)
    assert end_of(until, LaneOutlook(1, {ONE: 100_000})) == after(hours=2)


def test_a_stopped_campaign_leaves_its_share_to_the_others() -> None:
    runs = {ONE: RunOutlook(ACME, AT_ONCE), TWO: RunOutlook(ACME, AT_ONCE, held=True)}
    assert near(foresee(runs, [LaneOutlook(10, {ONE: 100, TWO: 1000})], NOON)[ONE], after(seconds=10))


def test_a_retry_is_waited_for() -> None:
    assert end_of(AT_ONCE, LaneOutlook(10, {ONE: 1}), last_due=after(minutes=8)) == after(minutes=8)


def test_years_are_drawn_out_from_the_pace_so_far() -> None:
    end = end_of(AT_ONCE.model_copy(update={"daily_limit": 100}), LaneOutlook(80, {ONE: 1_000_000}))
    assert near(end, NOON + 10_000 * DAY, within_s=100 * 86_400)


def play(
    runs: Mapping[UUID, SendingPolicy], waiting: Mapping[UUID, int], rate: float, quota: int | None, seed: int
) -> dict[UUID, datetime]:
    """One lane by the engine's own rules, message by message: when each campaign sent its last one."""
    chance, lane, now = random.Random(seed), Lane(rate), NOON
    left, owed, ends = dict(waiting), dict[UUID, float](), dict[UUID, datetime]()
    used: dict[tuple[UUID, datetime], int] = {}
    window: deque[datetime] = deque()
    asleep = dict.fromkeys(runs, NOON)
    while any(left.values()):
        contending: list[UUID] = []
        for one in (one for one, count in left.items() if count and asleep[one] <= now):
            day = hours.local_day(runs[one], now)
            if found := pacing.run_waits(Run(runs[one], used_today=used.get((one, day), 0)), now):
                asleep[one] = pacing.longest(found).until or NOON
            else:
                contending.append(one)
        while window and now - window[0] >= DAY:
            window.popleft()
        if contending and quota is not None and len(window) >= quota:
            now = window[0] + DAY
            continue
        if not contending:
            now = min(asleep[one] for one, count in left.items() if count)
            continue
        bounds = pacing.combine([runs[one] for one in contending])
        answer = pacing.next_release(lane, bounds, now, 1.0)
        if isinstance(answer, Wait):
            assert answer.until is not None
            now = answer.until
            continue
        if pacing.rested(lane, bounds, now):
            lane = replace(lane, sent_since_rest=0)
        turns = divide(1, [Contender(one, ACME) for one in contending], owed)
        owed = turns.owed
        (one,) = turns.slots
        day = hours.local_day(runs[one], now)
        used[one, day] = used.get((one, day), 0) + 1
        window.append(now)
        now += timedelta(seconds=ANSWER_S if bounds.max_delay_s > 0 else 1 / rate)
        lane = replace(lane, sent_since_rest=lane.sent_since_rest + 1, last_outcome_at=now, draw=chance.random())
        left[one] -= 1
        if not left[one]:
            ends[one] = now
    return ends


policies = st.builds(
    lambda delays, rest, daily, window: SendingPolicy(
        min_delay_s=delays[0],
        max_delay_s=delays[1],
        pause_after_messages=rest[0],
        pause_duration_s=rest[1],
        daily_limit=daily,
        allowed_hours_start=window[0],
        allowed_hours_end=window[1],
        time_zone="America/Sao_Paulo",
    ),
    st.sampled_from([(0, 0), (0, 0), (5, 15), (2, 4)]),
    st.sampled_from([(None, 0), (50, 300), (20, 120)]),
    st.sampled_from([None, None, 60, 200]),
    st.sampled_from([(None, None), (None, None), (time(8), time(18)), (time(22), time(2)), (time(9), time(9, 30))]),
)


@settings(max_examples=40, deadline=None)
@given(
    first=policies,
    second=policies,
    counts=st.tuples(st.integers(50, 400), st.integers(0, 400)),
    rate=st.sampled_from([0.5, 2, 20]),
    quota=st.sampled_from([None, None, 150]),
)
def test_the_forecast_is_what_the_engine_does(
    first: SendingPolicy, second: SendingPolicy, counts: tuple[int, int], rate: float, quota: int | None
) -> None:
    """Within what eight percent more or fewer messages would change: draws are random, and windows close. Beside that
    a rest: where policies differ, who shares the lane at its end decides about it; and a quota frees as it was used."""
    runs = {ONE: first, TWO: second}
    waiting = {ONE: counts[0], TWO: counts[1]}
    ends = foresee(
        {one: RunOutlook(ACME, policy) for one, policy in runs.items()},
        [LaneOutlook(rate, waiting, quota=None if quota is None else Quota(quota))],
        NOON,
    )
    fewer, more = (
        play(
            runs,
            {one: max(1, int(count * share) + add) for one, count in waiting.items() if count},
            rate,
            quota,
            seed=7,
        )
        for share, add in ((0.92, -2), (1.08, 3))
    )
    for one, count in waiting.items():
        if count:
            found, rest = ends[one], timedelta(minutes=10 if quota is None else 60)
            assert found is not None
            assert fewer[one] - rest <= found <= more[one] + rest
