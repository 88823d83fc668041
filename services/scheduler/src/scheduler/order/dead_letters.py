"""Dispatches that failed for good: what a requeue would do, doing it, and clearing them."""

from datetime import datetime
from typing import Any
from uuid import UUID

import asyncpg
from sqlalchemy.ext.asyncio import AsyncConnection

from chassis.database import driver
from chassis.kafka import Outgoing
from chassis.outbox import append
from contracts.operations import DeadLettersCleared, DeadLettersPreviewRequested, DeadLettersRequeued
from contracts.progress import DeadLetterGroup, DeadLettersPreviewed, DeadLettersTaken
from scheduler.campaign import chores
from scheduler.campaign.runs import CampaignRun, Definitions, lock_shared
from scheduler.dispatch.automaton import dead_letter_fate
from scheduler.dispatch.reports import Changed, describe, progress, report, report_rows
from scheduler.rows import Row
from scheduler.signals import Stage

Filter = DeadLettersRequeued | DeadLettersCleared | DeadLettersPreviewRequested
GROUPS_MAX = 500
# All of the filter's fields must match. Index dispatch_dead: of the campaign where one is given, else of all dead ones.
_MATCHES = """d.account_id = $1 AND d.state IN ('failed', 'unresolved') AND d.state = 'failed'
    AND d.campaign_id IS NOT NULL AND NOT d.cleared
    AND ($2::uuid IS NULL OR d.campaign_id = $2) AND ($3::uuid IS NULL OR d.instance_id = $3)
    AND (cardinality($4::uuid[]) = 0 OR d.dispatch_id = ANY($4)) AND ($5::text IS NULL OR d.reason = $5)"""
_DEAD = f"""
SELECT d.dispatch_id, d.account_id, d.campaign_id, d.recipient_id, d.instance_id, d.step FROM dispatch d
WHERE {_MATCHES} AND d.retryable
"""  # noqa: S608
_CLEAR = f"""
UPDATE dispatch d SET retryable = false, cleared = true, version = d.version + 1 WHERE {_MATCHES}
RETURNING d.dispatch_id, d.account_id, d.campaign_id, d.recipient_id, d.step, d.instance_id, d.version, d.attempt,
    d.release, d.state, d.reason, d.due_at
"""  # noqa: S608
_GROUPS = f"""
SELECT d.campaign_id, d.instance_id, d.reason, d.retryable, c.status, count(*) AS dispatches
FROM dispatch d JOIN campaign c ON c.campaign_id = d.campaign_id AND c.account_id = d.account_id
WHERE {_MATCHES} GROUP BY 1, 2, 3, 4, 5 ORDER BY dispatches DESC, 1, 2, 3, 4
"""  # noqa: S608
_RUN_AGAIN = "UPDATE campaign SET drained = false WHERE campaign_id = ANY($1::uuid[]) AND drained"


class DeadLetters:
    """Of campaigns: an answer that failed is shown to the person who wrote it, who sends it again or not."""

    def __init__(self, definitions: Definitions, stage: Stage) -> None:
        self._definitions = definitions
        self._stage = stage

    async def preview(
        self, raw: asyncpg.Connection, account_id: UUID, asked: DeadLettersPreviewRequested
    ) -> DeadLettersPreviewed:
        """As things stand now; takes no lock."""
        groups = [
            DeadLetterGroup(
                campaign_id=row["campaign_id"],
                instance_id=row["instance_id"],
                reason=row["reason"],
                fate=dead_letter_fate(row["status"], retryable=row["retryable"]),
                count=row["dispatches"],
            )
            for row in await raw.fetch(_GROUPS, *_given(account_id, asked))
        ]
        again = sum(group.count for group in groups if group.fate not in ("cancelled", "final"))
        return DeadLettersPreviewed(request_id=asked.request_id, groups=tuple(groups[:GROUPS_MAX]), again=again)

    async def clear(self, connection: AsyncConnection, account_id: UUID, order: DeadLettersCleared) -> None:
        """They leave the queue's figures; in those of their campaigns they stay failed."""
        raw = await driver(connection)
        rows = await raw.fetch(_CLEAR, *_given(account_id, order))
        now: datetime = await raw.fetchval("SELECT statement_timestamp()")
        cleared = [
            Changed(row["campaign_id"], row["account_id"], describe(row).model_copy(update={"given_up": True}))
            for row in rows
        ]
        await report(connection, cleared, now)

    async def requeue(self, connection: AsyncConnection, account_id: UUID, order: DeadLettersRequeued) -> None:
        """Not in cancelled campaigns. Whoever owns the campaigns hears of it: one that has ended is to run again."""
        raw = await driver(connection)
        of_campaign: dict[UUID, list[Row]] = {}
        for row in await raw.fetch(_DEAD, *_given(account_id, order)):
            of_campaign.setdefault(row["campaign_id"], []).append(row)
        await raw.execute(_RUN_AGAIN, sorted(of_campaign))
        runs = await lock_shared(raw, self._definitions, of_campaign)
        now: datetime = await raw.fetchval("SELECT statement_timestamp()")
        for campaign_id, rows in of_campaign.items():
            await self._requeue(connection, raw, runs[campaign_id], rows, order, now)
        self._stage.wake_campaigns(of_campaign)

    async def _requeue(
        self,
        connection: AsyncConnection,
        raw: asyncpg.Connection,
        run: CampaignRun,
        rows: list[Row],
        order: DeadLettersRequeued,
        now: datetime,
    ) -> None:
        if dead_letter_fate(run.status, retryable=True) == "cancelled":
            return
        changed = await chores.requeue(raw, rows, len(run.definition.steps))
        await report_rows(connection, changed, now)
        if changed:
            first = changed[0]["dispatch_id"], changed[0]["version"]
            await append(connection, [tell_taken(run, *first, count=len(rows), by=order.by, now=now)])


def tell_taken(
    run: CampaignRun, dispatch_id: UUID, version: int, *, count: int, by: UUID | None, now: datetime
) -> Outgoing:
    """That messages which had ended wait again, from this version of the first of them on."""
    taken = DeadLettersTaken(run_epoch=run.run_epoch, count=count, by=by)
    kind = f"dead_letters_taken:{dispatch_id}:{version}"
    return progress(run.campaign_id, run.account_id, taken, kind=kind, now=now)


def _given(account_id: UUID, asked: Filter) -> tuple[Any, ...]:
    return account_id, asked.campaign_id, asked.instance_id, list(asked.dispatch_ids), asked.reason
