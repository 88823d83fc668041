"""The campaign's stream as the scheduler follows it: its status, its definition, its recipients."""

from collections.abc import Sequence
from datetime import datetime
from typing import Any, assert_never
from uuid import UUID

import asyncpg
from sqlalchemy.ext.asyncio import AsyncConnection

from chassis.database import driver
from chassis.kafka import Received
from contracts.campaigns import (
    CampaignCancelled,
    CampaignCancelling,
    CampaignCompleted,
    CampaignCreated,
    CampaignDeleted,
    CampaignEdited,
    CampaignEvent,
    CampaignFailed,
    CampaignPaused,
    CampaignPausing,
    CampaignResumed,
    CampaignScheduled,
    CampaignStarted,
    CampaignUnscheduled,
    Definition,
)
from scheduler.dispatch.automaton import CampaignStatus
from scheduler.dispatch.reports import report_rows
from scheduler.signals import Stage

_LOCK = "SELECT campaign_id FROM campaign WHERE campaign_id = ANY($1::uuid[]) ORDER BY campaign_id FOR UPDATE"
_CREATE = """
INSERT INTO campaign (campaign_id, account_id) VALUES ($1, $2) ON CONFLICT DO NOTHING
"""
# A repeated or late record of the stream changes nothing: `stream_version` only grows.
_MOVE = """
UPDATE campaign SET status = coalesce($2, status), status_at = statement_timestamp(),
    run_epoch = greatest(run_epoch, $3), stream_version = coalesce($4, stream_version)
WHERE campaign_id = $1 AND ($4::bigint IS NULL OR stream_version < $4) RETURNING campaign_id
"""
_DEFINE = """
UPDATE campaign SET definition = $2::jsonb, definition_version = definition_version + 1, valid_until = $3
WHERE campaign_id = $1
"""
_START = """
UPDATE campaign SET first_chunk = $2, chunk_count = $3, recipient_count = $4, drained = false, traceparent = $5
WHERE campaign_id = $1
"""
_SCHEDULE = "UPDATE campaign SET scheduled_at = $2, due_reported = false WHERE campaign_id = $1"
_RUN_AGAIN = "UPDATE campaign SET drained = false, blocked_since = NULL WHERE campaign_id = $1"
# Index dispatch_open: what the closed gate sent back.
_FREE = """
UPDATE dispatch SET waits = NULL, reason = NULL, version = version + 1
WHERE campaign_id = $1 AND ended_at IS NULL AND waits = 'run'
RETURNING dispatch_id, account_id, campaign_id, recipient_id, step, instance_id, version, attempt, release, state,
    reason, due_at
"""
_CHORE = "INSERT INTO chore (campaign_id, account_id, kind) VALUES ($1, $2, $3) ON CONFLICT DO NOTHING"


class WithoutAccount(ValueError):
    """A record of a tenant's stream has no account in its envelope."""


def account_of(one: Received) -> UUID:
    if one.envelope.account_id is None:
        raise WithoutAccount(one.envelope.type)
    return one.envelope.account_id


class Campaigns:
    def __init__(self, stage: Stage) -> None:
        self._stage = stage

    async def handle(self, connection: AsyncConnection, batch: Sequence[Received]) -> None:
        """Locks all campaigns of the batch first, in order of id, and no lane (see lanes.py)."""
        raw = await driver(connection)
        of_campaigns = [one for one in batch if isinstance(one.event, CampaignEvent)]
        campaign_ids = sorted({UUID(one.envelope.subject) for one in of_campaigns})
        if not campaign_ids:
            return
        await raw.execute(_LOCK, campaign_ids)
        now: datetime = await raw.fetchval("SELECT statement_timestamp()")
        for one in of_campaigns:
            await self._apply(connection, raw, one, now)
        self._stage.wake_campaigns(campaign_ids)

    async def _apply(self, connection: AsyncConnection, raw: asyncpg.Connection, one: Received, now: datetime) -> None:
        event: Any = one.event
        campaign_id, account_id = UUID(one.envelope.subject), account_of(one)
        await raw.execute(_CREATE, campaign_id, account_id)
        moved = await raw.fetchval(_MOVE, campaign_id, _status(event), event.run_epoch, one.envelope.stream_version)
        if moved is None:
            return
        match event:
            case CampaignCreated() | CampaignEdited():
                await _define(raw, campaign_id, event.definition)
            case CampaignScheduled():
                await raw.execute(_SCHEDULE, campaign_id, event.scheduled_at)
            case CampaignStarted():
                await _define(raw, campaign_id, event.definition)
                audience = event.first_chunk, event.chunk_count, event.recipient_count
                await raw.execute(_START, campaign_id, *audience, one.envelope.traceparent)
            case CampaignResumed():
                await raw.execute(_RUN_AGAIN, campaign_id)
                await report_rows(connection, await raw.fetch(_FREE, campaign_id), now)
                if event.retry == "failed":
                    await raw.execute(_CHORE, campaign_id, account_id, "requeue")
            case CampaignCancelling() | CampaignCancelled():
                await raw.execute(_CHORE, campaign_id, account_id, "cancel")
            case CampaignDeleted():
                await raw.execute(_CHORE, campaign_id, account_id, "delete")
            case _:
                return


def _status(event: CampaignEvent) -> CampaignStatus | None:
    match event:
        case CampaignCreated():
            return "draft"
        case CampaignEdited():
            return None
        case CampaignUnscheduled():
            return "draft"
        case CampaignScheduled():
            return "scheduled"
        case CampaignStarted() | CampaignResumed():
            return "running"
        case CampaignPausing():
            return "pausing"
        case CampaignPaused():
            return "paused"
        case CampaignCancelling():
            return "cancelling"
        case CampaignCancelled():
            return "cancelled"
        case CampaignCompleted():
            return "completed"
        case CampaignFailed():
            return "failed"
        case CampaignDeleted():
            return "deleted"
        case _:
            assert_never(event)


async def _define(raw: asyncpg.Connection, campaign_id: UUID, definition: Definition) -> None:
    """`definition_version` counts, so that parsed copies elsewhere are never stale."""
    await raw.execute(_DEFINE, campaign_id, definition.model_dump_json(), definition.policy.valid_until)
