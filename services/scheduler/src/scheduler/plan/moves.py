"""What a banned, deleted or long disconnected number has not sent moves to other numbers of the campaign's pool.

Only recipients who were not begun: their first step is pending. Who got a step goes on through the first number
(depth-first), and what is released, at intent or ambiguous stays where it is: nothing is sent twice by a move.
"""

import random
from collections import Counter
from collections.abc import Sequence
from datetime import datetime, timedelta
from uuid import UUID

import asyncpg
from sqlalchemy.ext.asyncio import AsyncConnection

from chassis.database import Database, driver
from chassis.kafka import Outgoing
from chassis.outbox import append
from chassis.telemetry import log
from contracts import ids
from scheduler.campaign.runs import CampaignRun, Definitions, lock_shared
from scheduler.dispatch.reports import report_rows
from scheduler.lane import lanes
from scheduler.plan import bindings, pools
from scheduler.plan.assignment import Candidate, Listed, allocate
from scheduler.rows import Row
from scheduler.signals import Signals

# Index instance_stopped. What is ready is found through dispatch_ready, what waits for a time through dispatch_open.
_CANDIDATES = """
SELECT n.instance_id, n.campaign_id FROM instance i JOIN line n USING (instance_id, account_id)
JOIN campaign c USING (campaign_id, account_id)
WHERE i.stopped_at IS NOT NULL AND c.status = 'running' AND c.planned_dispatches IS NOT NULL
    AND (i.deleted OR i.health IN ('banned', 'account_disabled') OR i.status = 'banned'
        OR i.stopped_at <= statement_timestamp() - $1::interval)
    AND (EXISTS (SELECT 1 FROM dispatch d WHERE d.instance_id = n.instance_id AND d.campaign_id = n.campaign_id
            AND d.state = 'pending' AND d.waits IS NULL AND d.campaign_id IS NOT NULL AND d.step = 0)
        OR EXISTS (SELECT 1 FROM dispatch d WHERE d.campaign_id = n.campaign_id AND d.ended_at IS NULL
            AND d.waits = 'time' AND d.instance_id = n.instance_id AND d.step = 0))
"""
_READY = """
SELECT dispatch_id, recipient_id FROM dispatch WHERE instance_id = $1 AND campaign_id = $2 AND state = 'pending'
    AND waits IS NULL AND campaign_id IS NOT NULL AND step = 0 ORDER BY place LIMIT $3 FOR UPDATE SKIP LOCKED
"""
_WAITING = """
SELECT dispatch_id, recipient_id FROM dispatch WHERE campaign_id = $2 AND ended_at IS NULL AND waits = 'time'
    AND instance_id = $1 AND step = 0 LIMIT $3 FOR UPDATE SKIP LOCKED
"""
_PEOPLE = """
SELECT r.recipient_id, r.contact_id, r.recipient_key, r.position, nullif(b.instance_id, $2) AS bound_to, NULL
FROM recipient r LEFT JOIN binding b USING (account_id, recipient_key) WHERE r.recipient_id = ANY($1::uuid[])
ORDER BY r.position
"""
_MOVE = """
UPDATE dispatch d SET instance_id = m.instance_id, version = d.version + 1
FROM unnest($1::uuid[], $2::uuid[]) AS m(dispatch_id, instance_id)
WHERE d.dispatch_id = m.dispatch_id AND d.state = 'pending' AND d.instance_id = $3
RETURNING d.dispatch_id, d.account_id, d.campaign_id, d.recipient_id, d.instance_id, d.step, d.version, d.attempt,
    d.release, d.state, d.reason, d.due_at
"""


class Moves:
    def __init__(
        self,
        database: Database,
        definitions: Definitions,
        signals: Signals,
        disconnected_for_s: float | None,
        page_recipients: int,
    ) -> None:
        self._database = database
        self._definitions = definitions
        self._signals = signals
        self._after = None if disconnected_for_s is None else timedelta(seconds=disconnected_for_s)
        self._page_recipients = page_recipients

    async def move_page(self) -> bool:
        """False if nothing is to be moved, or nothing can be: no other number of the pool is usable."""
        if self._after is None:
            return False
        async with self._database.reading() as raw:
            candidates = await raw.fetch(_CANDIDATES, self._after)
        moved = 0
        for row in candidates:
            moved += await self._move(row["instance_id"], row["campaign_id"])
        return moved > 0

    async def _move(self, stopped: UUID, campaign_id: UUID) -> int:
        """A page in one transaction. Locks lanes, campaign, dispatches, then occupancy and bindings."""
        async with self._database.transaction() as connection:
            raw = await driver(connection)
            locked = (await lanes.lock(raw, [stopped])).get(stopped)
            run = (await lock_shared(raw, self._definitions, [campaign_id])).get(campaign_id)
            if run is None or run.status != "running" or locked is None or locked.lane.usable:
                return 0
            known = await pools.load(raw, run.account_id, run.definition)
            pool = [one for one in known if one.usable and one.instance_id != stopped]
            if not pool:
                return 0
            found = await raw.fetch(_READY, stopped, campaign_id, self._page_recipients)
            found = found or await raw.fetch(_WAITING, stopped, campaign_id, self._page_recipients)
            now: datetime = await raw.fetchval("SELECT statement_timestamp()")
            rows = await _reassign(connection, raw, run, stopped, pool, found, now)
            await report_rows(connection, rows, now)
        self._signals.wake_instances({row["instance_id"] for row in rows})
        log.info("dispatches_moved", instance_id=str(stopped), campaign_id=str(campaign_id), dispatches=len(rows))
        return len(rows)


async def _reassign(
    connection: AsyncConnection,
    raw: asyncpg.Connection,
    run: CampaignRun,
    stopped: UUID,
    pool: Sequence[Candidate],
    found: Sequence[Row],
    now: datetime,
) -> Sequence[Row]:
    """The changed rows. Bindings of the stopped number follow; who is bound to another number goes there."""
    people = await raw.fetch(_PEOPLE, [row["recipient_id"] for row in found], stopped)
    listed = [Listed(*row) for row in people]
    # The stopped number's counts are locked with the others': what leaves it is taken off them.
    pool = await pools.with_room(raw, run.account_id, pool, also=[stopped])
    places = allocate(listed, pool, lambda count: int(random.random() * count))
    wanted = [(one.recipient_key, instance_id, one.contact_id) for one, instance_id, binds in places if binds]
    told = await _rebind(raw, run.account_id, stopped, wanted, now)
    await append(connection, told)
    steps = len(run.definition.steps)
    moved = [(ids.dispatch_id(place.recipient.recipient_id, step), place) for place in places for step in range(steps)]
    rows: Sequence[Row] = await raw.fetch(
        _MOVE, [dispatch_id for dispatch_id, _ in moved], [place.instance_id for _, place in moved], stopped
    )
    await pools.enter(raw, run, {row["instance_id"] for row in rows})
    return rows


async def _rebind(
    raw: asyncpg.Connection, account_id: UUID, stopped: UUID, wanted: Sequence[bindings.Binding], now: datetime
) -> list[Outgoing]:
    rebound = await bindings.rebind(raw, account_id, wanted, stopped, now)
    await bindings.occupy(raw, Counter(one.instance_id for one in rebound))
    await bindings.occupy(raw, Counter({stopped: -sum(one.moved_from is not None for one in rebound)}))
    return [bindings.told(account_id, one, now) for one in rebound]
