"""Answers typed by people: dispatches of a person's priority, released in the transaction that plans them."""

from collections.abc import Sequence
from datetime import datetime, timedelta
from uuid import UUID

import asyncpg
from sqlalchemy.ext.asyncio import AsyncConnection

from chassis.database import driver
from chassis.kafka import Received
from contracts import ids
from contracts.conversations import AnswerContent, AnswerWritten, MessageReceived
from contracts.messages import Content
from scheduler.campaign.campaigns import account_of
from scheduler.dispatch.reports import Changed, describe, report
from scheduler.lane import lanes
from scheduler.plan import senders
from scheduler.rows import Row
from scheduler.settings import PacingSettings

_RETURNING = """d.dispatch_id, d.account_id, d.recipient_id, d.step, d.instance_id, d.version, d.attempt, d.release,
    d.state, d.reason, d.due_at"""
_CONTENT = """
INSERT INTO answer (dispatch_id, account_id, conversation_id, address, content, reply_to, traceparent)
VALUES ($1, $2, $3, $4, $5, $6, $7) ON CONFLICT DO NOTHING
"""
_PLAN = f"""
INSERT INTO dispatch AS d (dispatch_id, account_id, recipient_id, contact_id, instance_id, state, release, awaiting,
    released_at, send_before)
VALUES ($1, $2, $3, $3, $4, 'released', 1, true, statement_timestamp(), statement_timestamp() + $5::interval)
ON CONFLICT DO NOTHING RETURNING {_RETURNING}
"""  # noqa: S608
# Retried or returned answers, when their wait is over. Index dispatch_people.
_RELEASE = f"""
UPDATE dispatch d SET state = 'released', release = d.release + 1, awaiting = true, reason = NULL,
    version = d.version + 1, released_at = statement_timestamp(), published_at = NULL,
    send_before = statement_timestamp() + $1::interval
FROM (SELECT dispatch_id, account_id FROM dispatch WHERE campaign_id IS NULL AND state = 'pending' AND waits IS NULL
    LIMIT 500 FOR UPDATE SKIP LOCKED) n, answer a
WHERE d.dispatch_id = n.dispatch_id AND d.account_id = n.account_id AND a.dispatch_id = d.dispatch_id
RETURNING {_RETURNING}, a.conversation_id
"""  # noqa: S608


class Answers:
    def __init__(self, settings: PacingSettings) -> None:
        self._settings = settings

    async def handle(self, connection: AsyncConnection, batch: Sequence[Received]) -> None:
        """AnswerWritten becomes a dispatch; MessageReceived binds its sender."""
        raw = await driver(connection)
        now: datetime = await raw.fetchval("SELECT statement_timestamp()")
        changes: list[Changed] = []
        written = [one for one in batch if isinstance(one.event, AnswerWritten)]
        instances = {one.event.instance_id: account_of(one) for one in written if isinstance(one.event, AnswerWritten)}
        await lanes.create(raw, dict(sorted(instances.items())))
        for one in written:
            changes.extend(await self._plan(raw, one))
        await report(connection, changes, now)
        await bind_if_any(connection, batch, now)

    async def _plan(self, raw: asyncpg.Connection, one: Received) -> list[Changed]:
        event, account_id = one.event, account_of(one)
        assert isinstance(event, AnswerWritten)
        dispatch_id = ids.answer_dispatch_id(one.envelope.id)
        conversation_id = UUID(one.envelope.subject)
        await raw.execute(
            _CONTENT,
            dispatch_id,
            account_id,
            conversation_id,
            event.address.model_dump_json(),
            as_content(event.content).model_dump_json(),
            event.reply_to,
            one.envelope.traceparent,
        )
        within = timedelta(seconds=self._settings.answer_within_s)
        row = await raw.fetchrow(_PLAN, dispatch_id, account_id, event.contact_id, event.instance_id, within)
        return [] if row is None else [Changed(conversation_id, account_id, describe(row))]

    async def release_waiting(self, connection: AsyncConnection) -> int:
        """Those that came back and whose wait is over."""
        raw = await driver(connection)
        rows: Sequence[Row] = await raw.fetch(_RELEASE, timedelta(seconds=self._settings.answer_within_s))
        if rows:
            now: datetime = await raw.fetchval("SELECT statement_timestamp()")
            changes = [Changed(row["conversation_id"], row["account_id"], describe(row)) for row in rows]
            await report(connection, changes, now)
        return len(rows)


async def bind_if_any(connection: AsyncConnection, batch: Sequence[Received], now: datetime) -> None:
    received = [one for one in batch if isinstance(one.event, MessageReceived)]
    if received:
        await senders.bind(connection, received, now)


def as_content(answer: AnswerContent) -> Content:
    """A person's words are sent as they are: no variables are replaced."""
    parameters = [{"type": "text", "text": parameter} for parameter in answer.template_parameters]
    return Content(
        kind=answer.kind,
        text=answer.text,
        media_url=answer.media_url,
        file_name=answer.file_name,
        template_name=answer.template_name,
        template_language=answer.template_language,
        template_components=({"type": "body", "parameters": parameters},) if parameters else (),
    )
