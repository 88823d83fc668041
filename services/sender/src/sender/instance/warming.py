"""Warm-ups in PostgreSQL: begun by a configuration, slowed by a bad sign, moved on by whichever sender looks first."""

from datetime import datetime
from uuid import UUID

import asyncpg
from sqlalchemy.ext.asyncio import AsyncConnection

from chassis.database import driver
from chassis.outbox import append
from contracts.envelope import Envelope, Event
from contracts.instances import InstanceConfigured, InstanceLimitsChanged, WarmUpChanged, WarmUpPlan
from sender.instance import warm_up
from sender.instance.hearing import is_newest
from sender.instance.rests import health
from sender.instance.warm_up import Day, Policy, Seen

# A number has one warm-up in its life: `done` stays when it is over, and begins again only where a person took the
# plan away and gave another.
_BEGIN = """
INSERT INTO warm_up (instance_id, account_id, plan, day, allowance, begins_at) VALUES ($1, $2, $3::jsonb, $4, $5, $6)
ON CONFLICT (instance_id) DO UPDATE SET plan = excluded.plan
RETURNING old.instance_id IS NULL AS begun
"""
_END = "DELETE FROM warm_up WHERE instance_id = $1 RETURNING day, done"
_LOAD = """
SELECT instance_id, account_id, plan::text AS plan, day, allowance, begins_at, slowed_by, cut FROM warm_up
WHERE instance_id = $1 AND NOT done FOR UPDATE
"""
_OVER = """
SELECT instance_id, account_id, plan::text AS plan, day, allowance, begins_at, slowed_by, cut FROM warm_up
WHERE NOT done AND begins_at <= $1 ORDER BY instance_id LIMIT 100 FOR UPDATE SKIP LOCKED
"""
_SAVE = """
UPDATE warm_up SET day = $2, allowance = $3, begins_at = $4, slowed_by = $5, cut = $6 WHERE instance_id = $1
"""
_DONE = "UPDATE warm_up SET done = true WHERE instance_id = $1"
_SEEN = """
SELECT coalesce(sum(sent), 0)::int AS sent, coalesce(sum(delivered), 0)::int AS delivered,
       coalesce(sum(answers), 0)::int AS answers
FROM instance_report WHERE instance_id = $1 AND slot >= $2::timestamptz - make_interval(secs => 300)
"""


async def heed(connection: AsyncConnection, envelope: Envelope, event: Event, policy: Policy) -> None:
    """In the transaction of the event's offset."""
    instance_id = UUID(envelope.subject)
    match event:
        case InstanceConfigured() if envelope.account_id is not None:
            plan = None if event.deleted else event.warm_up
            await configure(connection, instance_id, envelope.account_id, plan, envelope.time, policy)
        case InstanceLimitsChanged(quality=str(quality)):
            word = InstanceLimitsChanged(quality=quality, at=event.at)
            if await is_newest(await driver(connection), envelope, word) and quality in warm_up.POOR:
                await slow(connection, instance_id, f"quality_{quality.lower()}", envelope.time, policy)
        case _:
            return


async def configure(
    connection: AsyncConnection, instance_id: UUID, account_id: UUID, plan: WarmUpPlan | None, now: datetime,
    policy: Policy,
) -> None:  # fmt: skip
    """In the transaction of the configuration."""
    raw = await driver(connection)
    if plan is None:
        row = await raw.fetchrow(_END, instance_id)
        if row is not None and not row["done"]:
            over = WarmUpChanged(day=row["day"], allowance=None, begins_at=now, ends_at=now, at=now)
            await append(connection, [health(instance_id, account_id, over, now)])
        return
    first = warm_up.begin(plan, now)
    json = plan.model_dump_json()
    row = await raw.fetchrow(_BEGIN, instance_id, account_id, json, first.day, first.allowance, first.begins_at)
    if row is not None and row["begun"]:
        await _tell(connection, instance_id, account_id, first, now, policy)


async def slow(connection: AsyncConnection, instance_id: UUID, sign: str, now: datetime, policy: Policy) -> None:
    """At a bad sign; nothing where the number is not being warmed up."""
    raw = await driver(connection)
    row = await raw.fetchrow(_LOAD, instance_id)
    if row is None:
        return
    today = _day(row)
    slowed = warm_up.slow(_plan(row), today, sign, policy)
    if slowed is not today:
        await _save(raw, instance_id, slowed)
        await _tell(connection, instance_id, row["account_id"], slowed, now, policy)


async def move_on(connection: AsyncConnection, before: datetime, now: datetime, policy: Policy) -> int:
    """Days that began at `before` or earlier are over."""
    raw = await driver(connection)
    rows = await raw.fetch(_OVER, before)
    for row in rows:
        today, account_id, instance_id = _day(row), row["account_id"], row["instance_id"]
        (seen,) = await raw.fetch(_SEEN, instance_id, today.begins_at)
        following = warm_up.next_day(
            _plan(row), today, Seen(seen["sent"], seen["delivered"], seen["answers"]), now, policy
        )
        if following is None:
            await raw.execute(_DONE, instance_id)
            warm = WarmUpChanged(day=today.day, allowance=None, begins_at=now, ends_at=now, at=now)
            await append(connection, [health(instance_id, account_id, warm, now)])
        else:
            await _save(raw, instance_id, following)
            await _tell(connection, instance_id, account_id, following, now, policy)
    return len(rows)


async def _save(raw: asyncpg.Connection, instance_id: UUID, day: Day) -> None:
    await raw.execute(_SAVE, instance_id, day.day, day.allowance, day.begins_at, day.slowed_by, day.cut)


async def _tell(
    connection: AsyncConnection, instance_id: UUID, account_id: UUID, day: Day, now: datetime, policy: Policy
) -> None:
    event = WarmUpChanged(
        day=day.day,
        allowance=day.allowance,
        begins_at=day.begins_at,
        ends_at=warm_up.ends_at(day, policy),
        slowed_by=day.slowed_by,
        at=now,
    )
    await append(connection, [health(instance_id, account_id, event, now)])


def _day(row: asyncpg.Record) -> Day:
    return Day(row["day"], row["allowance"], row["begins_at"], row["slowed_by"], row["cut"])


def _plan(row: asyncpg.Record) -> WarmUpPlan:
    return WarmUpPlan.model_validate_json(row["plan"])
