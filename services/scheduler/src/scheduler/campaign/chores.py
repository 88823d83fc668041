"""Bulk changes of a campaign's dispatches (cancel, expire, requeue, delete), page by page: no transaction is long."""

from collections.abc import Sequence
from datetime import datetime
from uuid import UUID

import asyncpg

from chassis.database import Database, driver
from contracts import ids
from scheduler.campaign.runs import CampaignRun, Definitions, lock_shared
from scheduler.dispatch.automaton import CANCELLED
from scheduler.dispatch.reports import report_rows
from scheduler.rows import Row
from scheduler.signals import Signals

_NEXT = "SELECT campaign_id, account_id, kind FROM chore LIMIT 1 FOR UPDATE SKIP LOCKED"
_DONE = "DELETE FROM chore WHERE campaign_id = $1 AND kind = $2"
_PICKED = """d.dispatch_id, d.account_id, d.campaign_id, d.recipient_id, d.instance_id, d.step, d.version, d.attempt,
    d.release, d.state, d.reason, d.due_at"""
_PENDING = """
SELECT dispatch_id, account_id FROM dispatch
WHERE campaign_id = $1 AND ended_at IS NULL AND state = 'pending' LIMIT $2 FOR UPDATE SKIP LOCKED
"""
_CANCEL = f"""
UPDATE dispatch d SET state = 'cancelled', reason = 'cancelled', waits = NULL, due_at = NULL, version = d.version + 1,
    ended_at = statement_timestamp()
FROM ({_PENDING}) n WHERE d.dispatch_id = n.dispatch_id AND d.account_id = n.account_id RETURNING {_PICKED}
"""  # noqa: S608
# A step that waits for the one before it is skipped with it.
_EXPIRE = f"""
UPDATE dispatch d SET state = CASE WHEN d.waits = 'previous_step' THEN 'skipped' ELSE 'expired' END,
    reason = CASE WHEN d.waits = 'previous_step' THEN 'previous_step' ELSE 'expired' END,
    waits = NULL, due_at = NULL, version = d.version + 1, ended_at = statement_timestamp()
FROM ({_PENDING}) n WHERE d.dispatch_id = n.dispatch_id AND d.account_id = n.account_id RETURNING {_PICKED}
"""  # noqa: S608
# Index dispatch_dead.
_FAILED = """
SELECT dispatch_id, account_id, recipient_id, step FROM dispatch
WHERE campaign_id = $1 AND state IN ('failed', 'unresolved') AND state = 'failed' AND retryable
LIMIT $2 FOR UPDATE SKIP LOCKED
"""
_FAILED_LEFT = """
SELECT EXISTS (SELECT 1 FROM dispatch WHERE campaign_id = $1 AND state IN ('failed', 'unresolved')
    AND state = 'failed' AND retryable)
"""
_PENDING_LEFT = """
SELECT EXISTS (SELECT 1 FROM dispatch WHERE campaign_id = $1 AND ended_at IS NULL AND state = 'pending')
"""
# The same transition as dispatch.requeue. The state is compared in a way that dispatch_dead does not fit: by id.
_REQUEUE = f"""
UPDATE dispatch d SET state = 'pending', attempt = d.attempt + 1, release = 0, retries = 0, retryable = false,
    reason = NULL, version = d.version + 1, ended_at = NULL
WHERE d.dispatch_id = ANY($1::uuid[]) AND d.state || '' = 'failed' AND d.retryable RETURNING {_PICKED}
"""  # noqa: S608
# Steps that were skipped because the one before had failed wait for it again.
_REOPEN = f"""
UPDATE dispatch d SET state = 'pending', waits = 'previous_step', version = d.version + 1, ended_at = NULL
WHERE d.dispatch_id = ANY($1::uuid[]) AND d.state = 'skipped' AND d.reason = 'previous_step' RETURNING {_PICKED}
"""  # noqa: S608
_PAGE = """
SELECT recipient_id, account_id FROM recipient WHERE campaign_id = $1 ORDER BY position LIMIT $2
"""
_DELETE_DISPATCHES = "DELETE FROM dispatch WHERE dispatch_id = ANY($1::uuid[])"
_DELETE_RECIPIENTS = "DELETE FROM recipient WHERE recipient_id = ANY($1::uuid[])"
_DELETE_REST = (
    "DELETE FROM chunk WHERE campaign_id = $1",
    "DELETE FROM line WHERE campaign_id = $1",
    "DELETE FROM plan WHERE campaign_id = $1",
    "DELETE FROM release_day WHERE campaign_id = $1",
)


async def requeue(raw: asyncpg.Connection, failed: Sequence[Row], steps: int) -> Sequence[Row]:
    """Their campaign is locked by the caller; `steps` of it. The changed rows, later steps included."""
    later = [ids.dispatch_id(row["recipient_id"], step) for row in failed for step in range(row["step"] + 1, steps)]
    rows = await raw.fetch(_REQUEUE, [row["dispatch_id"] for row in failed])
    return [*rows, *(await raw.fetch(_REOPEN, later) if later else ())]


class Chores:
    def __init__(self, database: Database, definitions: Definitions, signals: Signals, page_dispatches: int) -> None:
        self._database = database
        self._definitions = definitions
        self._signals = signals
        self._page_dispatches = page_dispatches

    async def do_page(self) -> bool:
        """False if there is nothing to do. Pending rows are taken without waiting for those that others hold."""
        async with self._database.transaction() as connection:
            raw = await driver(connection)
            chore = await raw.fetchrow(_NEXT)
            if chore is None:
                return False
            runs = await lock_shared(raw, self._definitions, [chore["campaign_id"]])
            run = runs.get(chore["campaign_id"])
            rows, more = await self._change(raw, chore, run)
            if not more:
                await raw.execute(_DONE, chore["campaign_id"], chore["kind"])
            if rows:
                now: datetime = await raw.fetchval("SELECT statement_timestamp()")
                await report_rows(connection, rows, now)
        self._signals.wake_campaigns([chore["campaign_id"]])
        return bool(rows) or not more

    async def _change(self, raw: asyncpg.Connection, chore: Row, run: CampaignRun | None) -> tuple[Sequence[Row], bool]:
        """The changed rows, and whether there may be more."""
        campaign_id, limit = chore["campaign_id"], self._page_dispatches
        if run is None:
            return [], False
        match chore["kind"]:
            case "cancel" if run.status in CANCELLED:
                return await raw.fetch(_CANCEL, campaign_id, limit), await raw.fetchval(_PENDING_LEFT, campaign_id)
            case "expire" if run.status not in CANCELLED:
                return await raw.fetch(_EXPIRE, campaign_id, limit), await raw.fetchval(_PENDING_LEFT, campaign_id)
            case "requeue" if run.status not in CANCELLED:
                failed = await raw.fetch(_FAILED, campaign_id, limit)
                rows = await requeue(raw, failed, len(run.definition.steps))
                return rows, await raw.fetchval(_FAILED_LEFT, campaign_id)
            case "delete" if run.status in ("deleted", "completed", "cancelled"):
                return [], await self._delete_page(raw, campaign_id, len(run.definition.steps))
            case _:
                return [], False

    async def _delete_page(self, raw: asyncpg.Connection, campaign_id: UUID, steps: int) -> bool:
        page = [row["recipient_id"] for row in await raw.fetch(_PAGE, campaign_id, self._page_dispatches)]
        await raw.execute(
            _DELETE_DISPATCHES, [ids.dispatch_id(person, step) for person in page for step in range(steps)]
        )
        await raw.execute(_DELETE_RECIPIENTS, page)
        if not page:
            for statement in _DELETE_REST:
                await raw.execute(statement, campaign_id)
        return bool(page)
