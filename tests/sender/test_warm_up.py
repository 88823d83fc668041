"""The warm-up of a new number: the decisions, and the days in PostgreSQL."""

from datetime import UTC, datetime, timedelta
from typing import Any
from uuid import uuid4

import pytest
from hypothesis import given
from hypothesis import strategies as st

from chassis.database import driver
from contracts.codec import decode
from contracts.envelope import Envelope
from contracts.instances import (
    InstanceConfigured,
    InstanceLimitsChanged,
    WarmUpChanged,
    WarmUpPlan,
)
from sender.instance import warming
from sender.instance.counts import Counts
from sender.instance.recoveries import Recoveries
from sender.instance.warm_up import Day, Policy, Seen, begin, next_day, slow
from sender.settlement import evidence
from sender.settlement.evidence import Report
from sender_ledger import NUMBER, Ledger
from sender_parts import ACCOUNT, queued

NOON = datetime(2026, 3, 2, 12, tzinfo=UTC)
PLAN = WarmUpPlan(first_day=50, growth=1.5, full_per_day=300)
POLICY = Policy()
PLANS = st.builds(
    WarmUpPlan, first_day=st.integers(1, 200), growth=st.floats(1.0, 5.0), full_per_day=st.integers(1, 5000)
)
# A day: a share of the allowance that was sent, of that delivered and answered, and whether a bad sign came.
DAYS = st.lists(
    st.tuples(st.floats(0, 1), st.floats(0, 1), st.floats(0, 1), st.sampled_from([None, "spam_limit"])), max_size=40
)


def good(day: Day) -> Seen:
    return Seen(day.allowance, day.allowance, day.allowance // 10 + 1)


def after_good_days(plan: WarmUpPlan, most: int = 100) -> list[int]:
    allowances, day = [], begin(plan, NOON)
    for _ in range(most):
        allowances.append(day.allowance)
        following = next_day(plan, day, good(day), day.begins_at + timedelta(days=1), POLICY)
        if following is None:
            return allowances
        day = following
    raise AssertionError(f"not warm after {most} good days")


def test_good_days_lead_to_the_full_allowance() -> None:
    assert after_good_days(PLAN) == [50, 75, 112, 168, 252, 300]


def test_a_bad_sign_halves_the_day_at_once_and_keeps_the_next_from_growing() -> None:
    day = Day(4, 168, NOON)
    slowed = slow(PLAN, day, "spam_limit", POLICY)
    assert (slowed.allowance, slowed.slowed_by) == (84, "spam_limit")
    assert slow(PLAN, slowed, "shadow_ban", POLICY) is slowed
    following = next_day(PLAN, slowed, Seen(84, 84, 9), NOON + timedelta(days=1), POLICY)
    assert following == Day(5, 84, NOON + timedelta(days=1), "spam_limit")
    assert following is not None
    again = next_day(PLAN, following, good(following), NOON + timedelta(days=2), POLICY)
    assert again == Day(6, 126, NOON + timedelta(days=2))


@pytest.mark.parametrize(
    ("seen", "allowance", "sign"),
    [
        (Seen(30, 30, 3), 100, "unused"),
        (Seen(100, 60, 10), 50, "delivery_share"),
        (Seen(100, 100, 0), 100, "answer_share"),
        (Seen(100, 70, 1), 150, None),
    ],
)
def test_what_a_day_was_like_decides_about_the_next(seen: Seen, allowance: int, sign: str | None) -> None:
    following = next_day(PLAN, Day(3, 100, NOON), seen, NOON + timedelta(days=1), POLICY)
    assert following is not None
    assert (following.allowance, following.slowed_by) == (allowance, sign)


@given(plan=PLANS)
def test_every_plan_ends_after_good_days_alone(plan: WarmUpPlan) -> None:
    allowances = after_good_days(plan, most=5001)
    assert allowances == sorted(allowances)


@given(plan=PLANS, days=DAYS)
def test_the_allowance_stays_between_the_first_and_the_full_and_grows_only_after_good_days(
    plan: WarmUpPlan, days: list[tuple[float, float, float, str | None]]
) -> None:
    day, now = begin(plan, NOON), NOON
    first = day.allowance
    for used, delivered, answered, sign in days:
        before = day
        if sign is not None:
            day = slow(plan, day, sign, POLICY)
            assert day.allowance <= before.allowance
        sent = int(day.allowance * used)
        now += timedelta(days=1)
        seen = Seen(sent, int(sent * delivered), int(sent * answered))
        following = next_day(plan, day, seen, now, POLICY)
        if following is None:
            assert sign is None
            return
        assert 1 <= min(first, plan.full_per_day) <= following.allowance <= plan.full_per_day
        assert following.allowance <= day.allowance or following.slowed_by is None
        assert following.allowance <= max(day.allowance + 1, day.allowance * plan.growth)
        assert following.begins_at > day.begins_at
        day = following


def test_days_while_nobody_looked_are_not_made_up_for() -> None:
    late = NOON + timedelta(days=5)
    following = next_day(PLAN, Day(1, 50, NOON), Seen(50, 50, 5), late, POLICY)
    assert following == Day(2, 75, late)


async def hear(ledger: Ledger, event: Any, at: datetime | None = None) -> None:
    envelope = Envelope(uuid4(), "t", 1, "tests", str(NUMBER), at or datetime.now(UTC), ACCOUNT)
    async with ledger.database.transaction() as connection:
        await warming.heed(connection, envelope, event, POLICY)


def configured(plan: WarmUpPlan | None) -> InstanceConfigured:
    return InstanceConfigured(name="n", provider="evolution_web", server_url="", warm_up=plan)


async def told(ledger: Ledger) -> list[tuple[int, int | None, str | None]]:
    rows = await ledger.read("SELECT headers ->> 'ce_type' AS type, value FROM outbox ORDER BY position")
    events = [decode(row["type"].rpartition(".")[2], 1, bytes(row["value"])) for row in rows]
    return [(one.day, one.allowance, one.slowed_by) for one in events if isinstance(one, WarmUpChanged)]


@pytest.mark.postgres
async def test_a_plan_begins_once_is_slowed_by_its_signs_and_ends_with_its_configuration(ledger: Ledger) -> None:
    await hear(ledger, configured(PLAN))
    await hear(ledger, configured(PLAN.model_copy(update={"growth": 2.0})))
    assert await told(ledger) == [(1, 50, None)]
    await ledger.read(
        "INSERT INTO instance (instance_id, account_id, config) VALUES ($1, $2, '{}') RETURNING 1 AS done",
        NUMBER,
        ACCOUNT,
    )
    await ledger.read("UPDATE warm_up SET allowance = 200 RETURNING 1 AS done")
    await hear(ledger, InstanceLimitsChanged(quality="GREEN", at=NOON))
    await hear(ledger, InstanceLimitsChanged(quality="RED", at=NOON))
    await hear(ledger, InstanceLimitsChanged(quality="YELLOW", at=NOON))
    late = InstanceLimitsChanged(quality="RED", at=NOON - timedelta(days=1))
    await ledger.read("UPDATE warm_up SET slowed_by = NULL, cut = false RETURNING 1 AS done")
    await hear(ledger, late)
    await hear(ledger, configured(None))
    await hear(ledger, configured(None))
    assert await told(ledger) == [(1, 50, None), (1, 100, "quality_red"), (1, None, None)]


async def answer(ledger: Ledger, at: datetime) -> None:
    """Somebody writes to the number."""
    counts = Counts()
    async with ledger.database.transaction() as connection:
        raw = await driver(connection)
        await evidence.open_windows(raw, {(ACCOUNT, NUMBER, "5511999990000"): at}, counts)
        await counts.write(raw, at)


@pytest.mark.postgres
async def test_what_webhooks_report_moves_the_days_on(ledger: Ledger) -> None:
    await hear(ledger, configured(PLAN), datetime.now(UTC) - timedelta(days=1, minutes=1))
    recoveries = Recoveries(ledger.database, POLICY, lambda: None)
    epoch, sent, now = await ledger.own(), [queued(n) for n in range(26)], datetime.now(UTC)
    await ledger.intend(sent, epoch)
    reports = [
        Report(ACCOUNT, NUMBER, f"wamid.{n}", fact, now, now, key=(ACCOUNT, message.dispatch_id, message.attempt))
        for n, message in enumerate(sent) for fact in ("sent", "delivered")
    ]  # fmt: skip
    for _ in range(2):
        await ledger.report(*reports[:48], *reports[:48])
        await answer(ledger, now)
    day = timedelta(days=1)
    async with ledger.database.transaction() as connection:
        seen = await (await driver(connection)).fetchrow(warming._SEEN, NUMBER, now - day)
    assert seen == (24, 24, 1), "what is told twice proves no other half of a day"
    await ledger.report(*reports)
    await recoveries.sweep()
    await recoveries.sweep()
    assert await told(ledger) == [(1, 50, None), (2, 75, None)]

    await ledger.read("UPDATE warm_up SET allowance = 300, begins_at = now() - interval '25 hours' RETURNING 1 AS done")
    await ledger.read("UPDATE instance_report SET sent = 300, delivered = 300, answers = 5 RETURNING 1 AS done")
    await recoveries.sweep()
    await hear(ledger, configured(PLAN))
    assert (await told(ledger))[2:] == [(2, None, None)], "warm once, warm for good"
