"""Planning a started campaign page by page: bindings, dispatches, lanes and reports of a page in one transaction."""

import random
from collections.abc import Sequence
from datetime import datetime
from uuid import UUID

import asyncpg
from sqlalchemy.ext.asyncio import AsyncConnection

from chassis.database import Database, driver
from chassis.outbox import append
from chassis.telemetry import counter
from contracts.campaigns import Definition
from contracts.progress import DispatchChange
from scheduler.campaign.runs import CampaignRun, Definitions, lock_shared
from scheduler.dispatch.automaton import CANCELLED
from scheduler.dispatch.reports import Changed, report
from scheduler.lane import lanes
from scheduler.plan import bindings
from scheduler.plan.assignment import Candidate, Listed, PlannedDispatch, allocate, correct, expand
from scheduler.rows import Row
from scheduler.signals import Signals

# A started campaign whose chunks are all in, whatever came first. Index campaign_active.
_DISCOVER = """
INSERT INTO plan (campaign_id, account_id)
SELECT campaign_id, account_id FROM campaign c
WHERE status NOT IN ('completed', 'cancelled', 'deleted') AND chunk_count IS NOT NULL AND planned_dispatches IS NULL
    AND chunk_count = (SELECT count(*) FROM chunk k WHERE k.campaign_id = c.campaign_id)
ON CONFLICT DO NOTHING
"""
_NEXT = """
SELECT campaign_id, account_id, position, planned FROM plan WHERE due_at <= statement_timestamp()
ORDER BY planned LIMIT 1 FOR UPDATE SKIP LOCKED
"""
_PAGE = """
SELECT r.recipient_id, r.contact_id, r.recipient_key, r.position, b.instance_id AS bound_to,
    o.recipient_key IS NOT NULL AS opted_out
FROM recipient r LEFT JOIN binding b USING (account_id, recipient_key)
LEFT JOIN opt_out o USING (account_id, recipient_key)
WHERE r.campaign_id = $1 AND r.position > $2 ORDER BY r.position LIMIT $3
"""
_POOL = """
SELECT i.instance_id, i.max_users, i.is_default, i.deleted, i.is_active, i.status, i.health, i.max_users
FROM instance i
WHERE i.account_id = $1 AND (i.instance_id = ANY($2::uuid[]) OR cardinality($2::uuid[]) = 0 AND NOT i.deleted)
"""
_STAGING = """
CREATE TEMPORARY TABLE IF NOT EXISTS dispatch_staging (dispatch_id uuid, recipient_id uuid, contact_id uuid,
    instance_id uuid, step smallint, place bigint, state text, waits text, reason text) ON COMMIT DELETE ROWS
"""
_COLUMNS = (
    "dispatch_id", "recipient_id", "contact_id", "instance_id", "step", "place", "state", "waits", "reason",
)  # fmt: skip
_INSERT = """
INSERT INTO dispatch (dispatch_id, account_id, campaign_id, recipient_id, contact_id, instance_id, step, place, state,
    waits, reason, ended_at)
SELECT dispatch_id, $1, $2, recipient_id, contact_id, instance_id, step, place, state, waits, reason,
    CASE WHEN state <> 'pending' THEN statement_timestamp() END
FROM dispatch_staging ON CONFLICT DO NOTHING
"""
_LINES = """
INSERT INTO line (instance_id, campaign_id, account_id)
SELECT instance_id, $2, $3 FROM unnest($1::uuid[]) AS n(instance_id) ON CONFLICT DO NOTHING
"""
_ADVANCE = "UPDATE plan SET position = $2, planned = planned + $3 WHERE campaign_id = $1"
_POSTPONE = "UPDATE plan SET due_at = statement_timestamp() + interval '1 second' WHERE campaign_id = $1"
_FINISH = "UPDATE campaign SET planned_dispatches = $2 WHERE campaign_id = $1"


class Planning:
    def __init__(self, database: Database, definitions: Definitions, signals: Signals, page_recipients: int) -> None:
        self._database = database
        self._definitions = definitions
        self._signals = signals
        self._page_recipients = page_recipients

    async def discover(self) -> None:
        async with self._database.transaction() as connection:
            await (await driver(connection)).execute(_DISCOVER)

    async def plan_page(self) -> bool:
        """False if nothing is to be planned now. A campaign's first page is small, so that sending starts at once."""
        async with self._database.transaction() as connection:
            raw = await driver(connection)
            plan = await raw.fetchrow(_NEXT)
            if plan is None:
                return False
            size = self._page_recipients if plan["planned"] else min(self._page_recipients, 500)
            rows = await raw.fetch(_PAGE, plan["campaign_id"], plan["position"], size)
            if not rows:
                # Its own transaction: it locks the campaign alone, where a page holds a share of it.
                await _finish(raw, plan["campaign_id"], plan["planned"])
                self._signals.wake_campaigns([plan["campaign_id"]])
                return True
            runs = await lock_shared(raw, self._definitions, [plan["campaign_id"]])
            run = runs.get(plan["campaign_id"])
            if run is None or run.status == "deleted":
                await raw.execute("DELETE FROM plan WHERE campaign_id = $1", plan["campaign_id"])
                return True
            pool = await self._pool(raw, run.account_id, run.definition)
            if not pool:
                await raw.execute(_POSTPONE, run.campaign_id)
                return False
            planned = await self._write(connection, raw, run, pool, [_listed(row) for row in rows])
            await raw.execute(_ADVANCE, run.campaign_id, rows[-1]["position"], planned)
        self._signals.wake_campaigns([run.campaign_id])
        return True

    async def _pool(self, raw: asyncpg.Connection, account_id: UUID, definition: Definition) -> list[Candidate]:
        """Instances of the definition that are not known (yet) are taken only if there is no other."""
        rows = await raw.fetch(_POOL, account_id, list(definition.pool))
        bound = await bindings.bound_counts(raw, [row["instance_id"] for row in rows])
        known = [
            Candidate(
                instance_id=row["instance_id"],
                room=row["max_users"] - bound.get(row["instance_id"], 0),
                usable=lanes.why_stopped(row) is None,
                is_default=row["is_default"],
            )
            for row in rows
        ]
        found = {candidate.instance_id for candidate in known}
        return known + [Candidate(each, 0, usable=False) for each in definition.pool if each not in found]

    async def _write(
        self,
        connection: AsyncConnection,
        raw: asyncpg.Connection,
        run: CampaignRun,
        pool: Sequence[Candidate],
        listed: Sequence[Listed],
    ) -> int:
        now: datetime = await raw.fetchval("SELECT statement_timestamp()")
        pool = await _with_room(raw, run.account_id, pool, listed)
        places = allocate(listed, pool, random.randrange)
        wanted = {place.recipient.recipient_key: place for place in places if place.binds}
        made, actual = await bindings.bind(
            raw, run.account_id, [(key, p.instance_id, p.recipient.contact_id) for key, p in wanted.items()]
        )
        places = correct(places, actual, [candidate.instance_id for candidate in pool])
        await append(connection, [bindings.allocated(run.account_id, *one, now) for one in made])
        cancelled = run.status in CANCELLED
        planned = list(expand(places, len(run.definition.steps), cancelled=cancelled))
        await self._insert(raw, run, planned)
        used = sorted({place.instance_id for place in places})
        await raw.execute(_LINES, used, run.campaign_id, run.account_id)
        await lanes.create(raw, dict.fromkeys(used, run.account_id))
        await report(connection, [_changed(run, one) for one in planned], now)
        counter("pombo_dispatches_planned_total", "Dispatches planned.").inc(len(planned))
        return len(planned)

    async def _insert(self, raw: asyncpg.Connection, run: CampaignRun, planned: Sequence[PlannedDispatch]) -> None:
        """COPY into a table of the session's own, then one INSERT that tolerates what is there already."""
        await raw.execute(_STAGING)
        await raw.copy_records_to_table("dispatch_staging", records=map(_staged, planned), columns=list(_COLUMNS))
        await raw.execute(_INSERT, run.account_id, run.campaign_id)


async def _with_room(
    raw: asyncpg.Connection, account_id: UUID, pool: Sequence[Candidate], listed: Sequence[Listed]
) -> list[Candidate]:
    """The same pool with counts that cannot change any more, if anyone is to be bound."""
    if all(recipient.bound_to is not None for recipient in listed) or all(one.room <= 0 for one in pool):
        return list(pool)
    before = await bindings.bound_counts(raw, [candidate.instance_id for candidate in pool])
    locked = await bindings.lock_counts(raw, account_id, [candidate.instance_id for candidate in pool])
    return [
        Candidate(
            one.instance_id,
            one.room + before.get(one.instance_id, 0) - locked.get(one.instance_id, 0),
            one.usable,
            one.is_default,
        )
        for one in pool
    ]


def _listed(row: Row) -> Listed:
    return Listed(
        row["recipient_id"],
        row["contact_id"],
        row["recipient_key"],
        row["position"],
        row["bound_to"],
        row["opted_out"],
    )


def _staged(one: PlannedDispatch) -> tuple[object, ...]:
    recipient = one.recipient
    return (
        one.dispatch_id, recipient.recipient_id, recipient.contact_id, one.instance_id, one.step, one.place, one.state,
        one.waits, one.reason,
    )  # fmt: skip


def _changed(run: CampaignRun, one: PlannedDispatch) -> Changed:
    change = DispatchChange(
        dispatch_id=one.dispatch_id,
        recipient_id=one.recipient.recipient_id,
        step=one.step,
        instance_id=one.instance_id,
        version=1,
        attempt=1,
        release=0,
        state=one.state,
        reason=one.reason,
        due_at=None,
    )
    return Changed(run.campaign_id, run.account_id, change)


async def _finish(raw: asyncpg.Connection, campaign_id: UUID, planned: int) -> None:
    await raw.execute(_FINISH, campaign_id, planned)
    await raw.execute("DELETE FROM plan WHERE campaign_id = $1", campaign_id)
