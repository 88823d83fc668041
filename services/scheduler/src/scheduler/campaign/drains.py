"""Runs that have nothing non-final (again), and runs that cannot go on: CampaignDrained, CampaignBlocked."""

from collections.abc import Collection
from datetime import timedelta
from typing import Literal
from uuid import UUID

from chassis.database import Database, driver
from chassis.outbox import append
from contracts.progress import CampaignBlocked, CampaignDrained
from scheduler.dispatch.reports import progress
from scheduler.lane import lanes

_CANDIDATES = """
SELECT campaign_id, account_id, run_epoch, planned_dispatches, drained_count, statement_timestamp() AS now FROM campaign
WHERE campaign_id = ANY($1::uuid[]) AND status = 'running' AND planned_dispatches IS NOT NULL AND NOT drained
ORDER BY campaign_id FOR UPDATE SKIP LOCKED
"""
_RUNNING = """
SELECT campaign_id FROM campaign WHERE status = 'running' AND status NOT IN ('completed', 'cancelled', 'deleted')
    AND planned_dispatches IS NOT NULL AND NOT drained
"""
# After the campaigns are locked: whoever changes their dispatches holds a share of that lock. Index dispatch_open.
_OPEN = """
SELECT c.campaign_id FROM unnest($1::uuid[]) AS c(campaign_id)
WHERE EXISTS (SELECT 1 FROM dispatch d WHERE d.campaign_id = c.campaign_id AND d.ended_at IS NULL)
    OR EXISTS (SELECT 1 FROM chore k WHERE k.campaign_id = c.campaign_id)
"""
_MARK = "UPDATE campaign SET drained = true, drained_count = drained_count + 1 WHERE campaign_id = ANY($1::uuid[])"
_REOPEN = "UPDATE campaign SET drained = false WHERE campaign_id = ANY($1::uuid[]) AND drained"
_POOLS = """
SELECT c.campaign_id, c.account_id, c.run_epoch, c.blocked_since,
    ARRAY(SELECT jsonb_array_elements_text(c.definition -> 'pool')::uuid) AS pool,
    c.blocked_since < statement_timestamp() - $1::interval AS grace_over, statement_timestamp() AS now
FROM campaign c
WHERE c.status = 'running' AND c.status NOT IN ('completed', 'cancelled', 'deleted')
    AND c.blocked_epoch < c.run_epoch AND NOT c.drained
ORDER BY c.campaign_id FOR UPDATE SKIP LOCKED
"""
# `refused`: what the sender was told of the number, until a person acts. While its session is made it is not given up.
_INSTANCES = """
SELECT i.instance_id, i.account_id, i.deleted, i.is_active, i.status, i.health,
    CASE WHEN l.blocked_until > statement_timestamp() + interval '1 year' AND l.blocked_by LIKE 'breaker: %'
        THEN nullif(substr(l.blocked_by, length('breaker: ') + 1), 'connecting') END AS refused
FROM instance i LEFT JOIN lane l ON l.instance_id = i.instance_id AND l.account_id = i.account_id
WHERE i.account_id = ANY($1::uuid[])
"""
CREDENTIALS = frozenset({"credentials", "credentials_unreadable", "permission", "client_token_missing"})
_SINCE = "UPDATE campaign SET blocked_since = $2 WHERE campaign_id = $1"
_BLOCKED = "UPDATE campaign SET blocked_epoch = run_epoch, blocked_since = NULL WHERE campaign_id = $1"


class Drains:
    def __init__(self, database: Database, blocked_grace_s: float) -> None:
        self._database = database
        self._grace = timedelta(seconds=blocked_grace_s)

    async def report_drained(self, campaign_ids: Collection[UUID] | None = None) -> int:
        """Of these campaigns, or of all that run. One whose lock is taken is looked at by the next sweep."""
        async with self._database.transaction() as connection:
            raw = await driver(connection)
            if campaign_ids is None:
                campaign_ids = [row["campaign_id"] for row in await raw.fetch(_RUNNING)]
            candidates = await raw.fetch(_CANDIDATES, list(campaign_ids)) if campaign_ids else []
            if not candidates:
                return 0
            open_rows = await raw.fetch(_OPEN, [row["campaign_id"] for row in candidates])
            still_open = {row["campaign_id"] for row in open_rows}
            drained = [row for row in candidates if row["campaign_id"] not in still_open]
            await raw.execute(_MARK, [row["campaign_id"] for row in drained])
            await append(
                connection,
                [
                    progress(
                        row["campaign_id"],
                        row["account_id"],
                        CampaignDrained(run_epoch=row["run_epoch"], planned=row["planned_dispatches"]),
                        kind=f"drained:{row['run_epoch']}:{row['drained_count'] + 1}",
                        now=row["now"],
                    )
                    for row in drained
                ],
            )
        return len(drained)

    async def report_blocked(self) -> int:
        """Once per run: no instance of the pool has been usable for the time of grace."""
        count = 0
        async with self._database.transaction() as connection:
            raw = await driver(connection)
            runs = await raw.fetch(_POOLS, self._grace)
            if not runs:
                return 0
            known = await raw.fetch(_INSTANCES, list({row["account_id"] for row in runs}))
            reasons = {row["instance_id"]: lanes.why_stopped(row) or row["refused"] for row in known}
            for run in runs:
                own = [row["instance_id"] for row in known if row["account_id"] == run["account_id"]]
                pool = run["pool"] or own
                if any(each in reasons and reasons[each] is None for each in pool):
                    if run["blocked_since"] is not None:
                        await raw.execute(_SINCE, run["campaign_id"], None)
                elif run["blocked_since"] is None:
                    await raw.execute(_SINCE, run["campaign_id"], run["now"])
                elif run["grace_over"]:
                    event = _blocked(run["run_epoch"], {str(reasons.get(each, "unknown")) for each in pool})
                    kind = f"blocked:{run['run_epoch']}"
                    await raw.execute(_BLOCKED, run["campaign_id"])
                    await append(
                        connection, [progress(run["campaign_id"], run["account_id"], event, kind=kind, now=run["now"])]
                    )
                    count += 1
        return count


def _blocked(run_epoch: int, reasons: Collection[str]) -> CampaignBlocked:
    refused = bool(reasons) and CREDENTIALS.issuperset(reasons)
    reason: Literal["credentials_refused", "no_usable_instance"]
    reason = "credentials_refused" if refused else "no_usable_instance"
    return CampaignBlocked(run_epoch=run_epoch, reason=reason, detail=", ".join(sorted(reasons)))
