"""Planning a started campaign page by page: bindings, dispatches and lanes of a page in one transaction.

The plan's row is the page's outbox: after the commit the page is published from memory, and the next page's transaction
says so. Whoever finds a page that was not told (the process died, Kafka was away) reads it back and publishes it again.
"""

import random
from collections.abc import Sequence
from datetime import datetime, timedelta
from typing import NamedTuple
from uuid import UUID, uuid4

import asyncpg

from chassis.database import Database, driver
from chassis.kafka import Encoded, Producer
from chassis.lifecycle import crash_point
from chassis.telemetry import counter
from contracts import ids
from scheduler.campaign.runs import CampaignRun, Definitions, lock_shared
from scheduler.dispatch import reports
from scheduler.dispatch.automaton import CANCELLED
from scheduler.plan import announcements, bindings, pools
from scheduler.plan.assignment import Candidate, Listed, Place, PlannedDispatch, allocate, correct, expand
from scheduler.plan.bindings import Binding
from scheduler.rows import Row
from scheduler.signals import Signals

# A started campaign whose chunks are all in, whatever came first: also where it is cancelled by now, so that everybody
# in it is told as cancelled. Index campaign_unplanned.
_DISCOVER = """
INSERT INTO plan (campaign_id, account_id)
SELECT campaign_id, account_id FROM campaign c
WHERE status <> 'deleted' AND chunk_count IS NOT NULL AND planned_dispatches IS NULL
    AND chunk_count = (SELECT count(*) FROM chunk k WHERE k.campaign_id = c.campaign_id AND k.chunk >= c.first_chunk)
ON CONFLICT DO NOTHING
"""
_NEXT = """
SELECT campaign_id, account_id, position, planned, told, page_from, page_at, statement_timestamp() AS now FROM plan
WHERE due_at <= statement_timestamp() OR planner = $1 ORDER BY planned LIMIT 1 FOR UPDATE SKIP LOCKED
"""
_PAGE = """
SELECT r.recipient_id, r.contact_id, r.recipient_key, r.position, b.instance_id AS bound_to,
    CASE WHEN r.erased THEN 'erased' WHEN o.recipient_key IS NOT NULL THEN 'opted_out' END AS refused
FROM recipient r LEFT JOIN binding b USING (account_id, recipient_key)
LEFT JOIN opt_out o USING (account_id, recipient_key)
WHERE r.campaign_id = $1 AND r.position > $2 ORDER BY r.position LIMIT $3
"""
_STAGING = """
CREATE TEMPORARY TABLE IF NOT EXISTS dispatch_staging (dispatch_id uuid, recipient_id uuid, contact_id uuid,
    instance_id uuid, step smallint, place bigint, state text, waits text, reason text) ON COMMIT DELETE ROWS
"""
_COLUMNS = (
    "dispatch_id", "recipient_id", "contact_id", "instance_id", "step", "place", "state", "waits", "reason",
)  # fmt: skip
# Nothing of it can be there already: the plan's row is locked, and its position moves with this statement.
_INSERT = """
INSERT INTO dispatch (dispatch_id, account_id, campaign_id, recipient_id, contact_id, instance_id, step, place, state,
    waits, reason, ended_at)
SELECT dispatch_id, $1, $2, recipient_id, contact_id, instance_id, step, place, state, waits, reason,
    CASE WHEN state <> 'pending' THEN statement_timestamp() END
FROM dispatch_staging
"""
_ADVANCE = """
UPDATE plan SET position = $2, planned = planned + $3, told = false, page_from = position, page_at = $4::timestamptz,
    planner = $5, due_at = $4::timestamptz + $6::interval
WHERE campaign_id = $1
"""
_POSTPONE = """
UPDATE plan SET due_at = statement_timestamp() + interval '1 second', planner = NULL, told = true WHERE campaign_id = $1
"""
_FINISH = "UPDATE campaign SET planned_dispatches = $2 WHERE campaign_id = $1"

# A page as it is by now; the dispatches' ids are derived.
_RECIPIENTS = """
SELECT recipient_id, recipient_key FROM recipient WHERE campaign_id = $1 AND position > $2 AND position <= $3
ORDER BY position
"""
_DISPATCHES = """
SELECT dispatch_id, recipient_id, step, instance_id, version, attempt, release, state, reason, due_at,
    may_duplicate AND ended_at IS NOT NULL AS may_duplicate
FROM dispatch WHERE dispatch_id = ANY($1::uuid[]) ORDER BY place
"""
_BOUND = """
SELECT recipient_key, instance_id, contact_id FROM binding
WHERE account_id = $1 AND recipient_key = ANY($2::text[]) AND bound_at = $3
"""
_STEPS = "SELECT coalesce(jsonb_array_length(definition -> 'steps'), 0) FROM campaign WHERE campaign_id = $1"
_DELETE = "DELETE FROM plan WHERE campaign_id = $1"
_FIRST_PAGE = 500
# How long a page's process has to publish it before another one does.
_TELL_WITHIN = timedelta(seconds=3)


class Page(NamedTuple):
    """Committed or to be told again: what is published next. `position`: where it ends; None if there is no news."""

    campaign_id: UUID
    position: int | None = None
    records: Sequence[Encoded] = ()


class Planning:
    def __init__(
        self,
        database: Database,
        producer: Producer,
        definitions: Definitions,
        signals: Signals,
        page_recipients: int,
    ) -> None:
        self._database = database
        self._producer = producer
        self._definitions = definitions
        self._signals = signals
        self._page_recipients = page_recipients
        self._planner = uuid4()
        self._told: dict[UUID, int] = {}

    async def discover(self) -> None:
        async with self._database.transaction() as connection:
            await (await driver(connection)).execute(_DISCOVER)

    async def plan_page(self) -> bool:
        """False if nothing is to be planned now. A campaign's first page is small, so that sending starts at once."""
        async with self._database.transaction() as connection:
            raw = await driver(connection)
            plan = await raw.fetchrow(_NEXT, self._planner)
            if plan is None:
                return False
            told = plan["told"] or self._told.get(plan["campaign_id"]) == plan["position"]
            page = await (self._plan(raw, plan) if told else _recall(raw, plan))
        if page is None:
            return False
        crash_point("plan_page_committed")
        self._signals.wake_campaigns([page.campaign_id])
        await self._producer.publish_encoded(page.records)
        crash_point("plan_page_published")
        if page.position is None:
            self._told.pop(page.campaign_id, None)
        else:
            self._told[page.campaign_id] = page.position
        return True

    async def _plan(self, raw: asyncpg.Connection, plan: Row) -> Page | None:
        """None if it cannot be planned now."""
        size = self._page_recipients if plan["planned"] else min(self._page_recipients, _FIRST_PAGE)
        rows = await raw.fetch(_PAGE, plan["campaign_id"], plan["position"], size)
        if not rows:
            # Its own transaction: it locks the campaign alone, where a page holds a share of it.
            await raw.execute(_FINISH, plan["campaign_id"], plan["planned"])
            await raw.execute(_DELETE, plan["campaign_id"])
            return Page(plan["campaign_id"])
        runs = await lock_shared(raw, self._definitions, [plan["campaign_id"]])
        run = runs.get(plan["campaign_id"])
        if run is None or run.status == "deleted":
            await raw.execute(_DELETE, plan["campaign_id"])
            return Page(plan["campaign_id"])
        pool = await pools.load(raw, run.account_id, run.definition)
        if not pool:
            await raw.execute(_POSTPONE, run.campaign_id)
            return None
        now: datetime = plan["now"]
        listed, cancelled = [Listed(*row) for row in rows], run.status in CANCELLED
        bound: list[Binding] = []
        if cancelled:  # nobody is written to, so nobody is bound
            places = _allocate(listed, pool)
        else:
            places, bound = await _bind(raw, run.account_id, pool, listed, now)
        planned = expand(places, len(run.definition.steps), cancelled=cancelled)
        await _insert(raw, run, planned)
        position = rows[-1]["position"]
        await raw.execute(_ADVANCE, run.campaign_id, position, len(planned), now, self._planner, _TELL_WITHIN)
        counter("pombo_dispatches_planned_total", "Dispatches planned.").inc(len(planned))
        told = [announcements.planned(one) for one in planned]
        records = reports.in_bytes(run.campaign_id, run.account_id, told, now)
        return Page(run.campaign_id, position, records + announcements.allocations(run.account_id, bound, now))


async def _recall(raw: asyncpg.Connection, plan: Row) -> Page:
    """The last page again. Who folds it takes the highest version; its allocations are the same to the byte."""
    campaign_id, account_id = plan["campaign_id"], plan["account_id"]
    people = await raw.fetch(_RECIPIENTS, campaign_id, plan["page_from"], plan["position"])
    steps = await raw.fetchval(_STEPS, campaign_id)
    derived = [ids.dispatch_id(row["recipient_id"], step) for row in people for step in range(steps)]
    rows = await raw.fetch(_DISPATCHES, derived)
    told = [{**reports.stored(row), "may_duplicate": row["may_duplicate"]} for row in rows]
    bound = await raw.fetch(_BOUND, account_id, [row["recipient_key"] for row in people], plan["page_at"])
    records = reports.in_bytes(campaign_id, account_id, told, plan["now"])
    allocated = announcements.allocations(account_id, [(row[0], row[1], row[2]) for row in bound], plan["page_at"])
    return Page(campaign_id, plan["position"], records + allocated)


def _allocate(listed: Sequence[Listed], pool: Sequence[Candidate]) -> list[Place]:
    return allocate(listed, pool, lambda count: int(random.random() * count))


async def _bind(
    raw: asyncpg.Connection, account_id: UUID, pool: Sequence[Candidate], listed: Sequence[Listed], now: datetime
) -> tuple[list[Place], list[Binding]]:
    """Where each goes, and which bindings are new."""
    if any(one.bound_to is None for one in listed) and any(one.room > 0 for one in pool):
        pool = await pools.with_room(raw, account_id, pool)
    places = _allocate(listed, pool)
    wanted = [(one.recipient_key, instance_id, one.contact_id) for one, instance_id, binds in places if binds]
    made, actual = await bindings.bind(raw, account_id, wanted, now)
    if len(made) < len(wanted):
        places = correct(places, actual, [candidate.instance_id for candidate in pool])
    return places, made


async def _insert(raw: asyncpg.Connection, run: CampaignRun, planned: Sequence[PlannedDispatch]) -> None:
    """COPY into a table of the session's own (row-level security allows no other), then one INSERT."""
    await raw.execute(_STAGING)
    await raw.copy_records_to_table("dispatch_staging", records=planned, columns=_COLUMNS)
    await raw.execute(_INSERT, run.account_id, run.campaign_id)
    await pools.enter(raw, run, {one.instance_id for one in planned})
