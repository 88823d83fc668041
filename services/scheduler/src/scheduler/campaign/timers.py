"""What time alone brings: waits that are over, scheduled campaigns that are due, plans that have expired."""

from datetime import datetime
from uuid import UUID

from sqlalchemy.ext.asyncio import AsyncConnection

from chassis.database import Database, driver
from chassis.outbox import append
from contracts.progress import CampaignDue
from scheduler.dispatch.reports import progress
from scheduler.signals import Signals

# Index dispatch_due. A row that another transaction holds is left for the next look. The dispatch's own wait has ended,
# nothing about its state or reason changes: no report, no new version.
_WAITED = """
UPDATE dispatch d SET waits = NULL, due_at = NULL
FROM (SELECT dispatch_id, account_id FROM dispatch WHERE waits = 'time' AND due_at <= statement_timestamp()
    ORDER BY due_at LIMIT 500 FOR UPDATE SKIP LOCKED) n
WHERE d.dispatch_id = n.dispatch_id AND d.account_id = n.account_id
RETURNING d.campaign_id, d.instance_id
"""
# Index campaign_active.
_DUE = """
UPDATE campaign SET due_reported = true WHERE campaign_id IN (
    SELECT campaign_id FROM campaign WHERE status = 'scheduled' AND status NOT IN ('completed', 'cancelled', 'deleted')
        AND NOT due_reported AND scheduled_at <= statement_timestamp() LIMIT 100 FOR UPDATE SKIP LOCKED)
RETURNING campaign_id, account_id, scheduled_at, statement_timestamp() AS now
"""
_EXPIRED = """
INSERT INTO chore (campaign_id, account_id, kind)
SELECT campaign_id, account_id, 'expire' FROM campaign c
WHERE status NOT IN ('completed', 'cancelled', 'deleted') AND valid_until <= statement_timestamp()
    AND EXISTS (SELECT 1 FROM dispatch d WHERE d.campaign_id = c.campaign_id AND d.ended_at IS NULL
        AND d.state = 'pending')
ON CONFLICT DO NOTHING
"""


# Indexes dispatch_due, dispatch_people, lane_due.
_LOOK = """
SELECT EXISTS (SELECT 1 FROM dispatch WHERE waits = 'time' AND due_at <= statement_timestamp())
    OR EXISTS (SELECT 1 FROM dispatch WHERE campaign_id IS NULL AND state = 'pending' AND waits IS NULL) AS waits_over,
    EXISTS (SELECT 1 FROM lane WHERE due_at <= statement_timestamp()) AS lanes_due
"""


class Timers:
    def __init__(self, database: Database, signals: Signals) -> None:
        self._database = database
        self._signals = signals

    async def look(self) -> tuple[bool, bool]:
        """Whether a wait is over (or an answer may go again), and whether a lane is due: mostly neither."""
        async with self._database.reading() as raw:
            row = await raw.fetchrow(_LOOK)
        assert row is not None
        return row["waits_over"], row["lanes_due"]

    async def end_waits(self, connection: AsyncConnection) -> set[UUID]:
        """The instances whose lanes have something more. Locks dispatches: those lanes are woken later."""
        rows = await (await driver(connection)).fetch(_WAITED)
        return {row["instance_id"] for row in rows if row["campaign_id"] is not None}

    async def report_due_campaigns(self) -> int:
        """Reported once per schedule; campaign-api starts it."""
        async with self._database.transaction() as connection:
            rows = await (await driver(connection)).fetch(_DUE)
            await append(
                connection,
                [
                    progress(
                        row["campaign_id"],
                        row["account_id"],
                        CampaignDue(scheduled_at=row["scheduled_at"]),
                        kind=f"due:{_stamp(row['scheduled_at'])}",
                        now=row["now"],
                    )
                    for row in rows
                ],
            )
        return len(rows)

    async def find_expired(self) -> None:
        async with self._database.transaction() as connection:
            await (await driver(connection)).execute(_EXPIRED)


def _stamp(at: datetime) -> str:
    return at.isoformat()
