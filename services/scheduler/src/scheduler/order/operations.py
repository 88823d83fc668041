"""What people order across services: dead letters, unresolved ones, stuck ones, kill-switches."""

from collections.abc import Sequence
from datetime import datetime
from uuid import UUID

import asyncpg
from sqlalchemy.ext.asyncio import AsyncConnection

from chassis.database import driver
from chassis.kafka import Received
from chassis.outbox import append
from contracts.operations import (
    DeadLettersCleared,
    DeadLettersPreviewRequested,
    DeadLettersRequeued,
    ExplainRequested,
    HoldSet,
    PlanPreviewRequested,
    StuckRecoveryRequested,
    UnresolvedDecided,
)
from contracts.progress import DeadLettersPreviewed, LaneExplained, PlanPreviewed
from scheduler.campaign.campaigns import account_of
from scheduler.campaign.runs import Definitions, lock_shared
from scheduler.dispatch import automaton as dispatch
from scheduler.dispatch import dispatches
from scheduler.dispatch.automaton import CANCELLED
from scheduler.dispatch.outcomes import change_rows, follow
from scheduler.dispatch.reports import progress, report
from scheduler.lane import lanes
from scheduler.lane.explanations import Explanations
from scheduler.order import holds
from scheduler.order.dead_letters import DeadLetters, tell_taken
from scheduler.plan.previews import Previews
from scheduler.signals import Stage

_RUN_AGAIN = "UPDATE campaign SET drained = false WHERE campaign_id = ANY($1::uuid[]) AND drained"
_WHERE = "SELECT instance_id, campaign_id FROM dispatch WHERE dispatch_id = $1 AND account_id = $2"


class Operations:
    def __init__(self, definitions: Definitions, stage: Stage, explanations: Explanations, previews: Previews) -> None:
        self._definitions = definitions
        self._explanations = explanations
        self._previews = previews
        self._stage = stage
        self._dead_letters = DeadLetters(definitions, stage)

    async def handle(self, connection: AsyncConnection, batch: Sequence[Received]) -> None:
        raw = await driver(connection)
        for one in batch:
            event, account_id = one.event, account_of(one)
            match event:
                case HoldSet():
                    await holds.set_hold(
                        raw, account_id, event.scope, event.key, held=event.held, version=event.version
                    )
                    await self._wake_account(raw, None if event.scope == "everything" else account_id)
                case DeadLettersRequeued():
                    await self._dead_letters.requeue(connection, account_id, event)
                case DeadLettersCleared():
                    await self._dead_letters.clear(connection, account_id, event)
                case DeadLettersPreviewRequested():
                    found = await self._dead_letters.preview(raw, account_id, event)
                    await self._answer(connection, raw, event.campaign_id or account_id, account_id, found)
                case UnresolvedDecided():
                    await self._decide(connection, raw, account_id, event)
                case ExplainRequested():
                    subject = event.campaign_id or event.instance_id or event.dispatch_id or account_id
                    answer = await self._explanations.explain(raw, account_id, event, one.envelope.time)
                    await self._answer(connection, raw, subject, account_id, answer)
                case PlanPreviewRequested():
                    preview = await self._previews.preview(raw, account_id, event)
                    await self._answer(connection, raw, event.campaign_id, account_id, preview)
                case StuckRecoveryRequested():
                    self._stage.recover()
                case _:
                    continue

    async def _decide(
        self, connection: AsyncConnection, raw: asyncpg.Connection, account_id: UUID, event: UnresolvedDecided
    ) -> None:
        where = await raw.fetchrow(_WHERE, event.dispatch_id, account_id)
        if where is None:
            return
        campaigns = [where["campaign_id"]] if where["campaign_id"] is not None else []
        await lanes.lock(raw, [where["instance_id"]])
        await raw.execute(_RUN_AGAIN, campaigns)
        runs = await lock_shared(raw, self._definitions, campaigns)
        loaded = await dispatches.lock(raw, [event.dispatch_id])
        one = loaded[event.dispatch_id]
        decision = event.decision
        if decision == "send_again" and any(run.status in CANCELLED for run in runs.values()):
            return
        one.after = dispatch.decide(one.before, decision)
        await dispatches.keep_from_erased(raw, [one])
        await dispatches.save(raw, [one])
        followers = await follow(raw, [one], runs) if one.changed else []
        now: datetime = await raw.fetchval("SELECT statement_timestamp()")
        await report(connection, await change_rows(raw, [one] if one.changed else [], followers), now)
        if decision == "send_again" and one.changed:  # the campaign may have ended meanwhile: it runs on with this one
            taken = [
                tell_taken(run, event.dispatch_id, one.row["version"] + 1, count=1, by=event.by, now=now)
                for run in runs.values()
            ]
            await append(connection, taken)
        self._stage.wake_campaigns(campaigns)

    async def _answer(
        self,
        connection: AsyncConnection,
        raw: asyncpg.Connection,
        subject: UUID,
        account_id: UUID,
        answer: LaneExplained | PlanPreviewed | DeadLettersPreviewed,
    ) -> None:
        now: datetime = await raw.fetchval("SELECT statement_timestamp()")
        await append(connection, [progress(subject, account_id, answer, kind=f"answer:{answer.request_id}", now=now)])

    async def _wake_account(self, raw: asyncpg.Connection, account_id: UUID | None) -> None:
        rows = await raw.fetch(
            "SELECT instance_id FROM lane WHERE $1::uuid IS NULL OR account_id = $1::uuid", account_id
        )
        self._stage.wake_instances(row["instance_id"] for row in rows)
