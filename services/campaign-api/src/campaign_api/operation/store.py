"""SQL of holds, of answers that came back, and of queue figures."""

from collections.abc import Sequence
from datetime import datetime
from typing import Any, TypeAlias
from uuid import UUID

import orjson
from asyncpg import Record
from sqlalchemy.ext.asyncio import AsyncConnection

from chassis.database import driver
from contracts.envelope import Event
from contracts.progress import HoldTaken, TemplateFreed, TemplateStopped

Row: TypeAlias = Record


async def add_answer(connection: AsyncConnection, account_id: UUID, request_id: UUID, event: Event) -> None:
    """Worker's role: what another service answered to a request of ours."""
    await (await driver(connection)).execute(
        "INSERT INTO answer (account_id, request_id, type, data) VALUES ($1, $2, $3, $4::text::jsonb)"
        " ON CONFLICT (account_id, request_id) DO NOTHING",
        account_id,
        request_id,
        type(event).__name__,
        event.model_dump_json(),
    )


async def answer(connection: AsyncConnection, request_id: UUID) -> dict[str, Any] | None:
    text = await (await driver(connection)).fetchval("SELECT data::text FROM answer WHERE request_id = $1", request_id)
    return None if text is None else orjson.loads(text)


async def set_hold(
    connection: AsyncConnection,
    account_id: UUID,
    *,
    scope: str,
    key: str,
    held: bool,
    by: UUID | None,
    now: datetime,
    reason: str = "",
) -> int:
    """The hold's new version; locks its row."""
    version: int = await (await driver(connection)).fetchval(
        "INSERT INTO hold AS h (account_id, scope, key, held, version, set_by, set_at, reason)"
        " VALUES ($1, $2, $3, $4, 1, $5, $6, $7)"
        " ON CONFLICT (account_id, scope, key) DO UPDATE SET held = excluded.held, version = h.version + 1,"
        " set_by = excluded.set_by, set_at = excluded.set_at, reason = excluded.reason RETURNING version",
        account_id,
        scope,
        key,
        held,
        by,
        now,
        reason,
    )
    return version


async def holds(connection: AsyncConnection) -> Sequence[Row]:
    return await (await driver(connection)).fetch(
        "SELECT h.scope, h.key, h.held, h.version, h.set_by, u.name AS set_by_name, h.set_at, h.reason,"
        " h.taken_version >= h.version AS effective, h.stopped_reason, h.stopped_until, h.stopped_at"
        " FROM hold h LEFT JOIN app_user u ON u.account_id = h.account_id AND u.id = h.set_by"
        " ORDER BY h.scope, h.key"
    )


async def taken_version(connection: AsyncConnection, scope: str, key: str) -> int:
    """Up to which version the sender heeds a hold of this account."""
    found = await (await driver(connection)).fetchval(
        "SELECT taken_version FROM hold WHERE scope = $1 AND key = $2", scope, key
    )
    return int(found or 0)


async def note_taken(connection: AsyncConnection, account_id: UUID, taken: HoldTaken) -> None:
    """Worker's role: the sender heeds it."""
    await (await driver(connection)).execute(
        "UPDATE hold SET taken_version = greatest(taken_version, $4) WHERE account_id = $1 AND scope = $2 AND key = $3",
        account_id,
        taken.scope,
        taken.key,
        taken.version,
    )


async def note_template(connection: AsyncConnection, account_id: UUID, event: TemplateStopped | TemplateFreed) -> None:
    """Worker's role: what the sender heeds of its provider's word, beside the hold of a person."""
    stopped = (event.reason, event.until, event.at) if isinstance(event, TemplateStopped) else (None, None, None)
    await (await driver(connection)).execute(
        "INSERT INTO hold AS h (account_id, scope, key, held, version, set_at, stopped_reason, stopped_until,"
        " stopped_at) VALUES ($1, 'template', $2, false, 0, $3, $4, $5, $6)"
        " ON CONFLICT (account_id, scope, key) DO UPDATE SET stopped_reason = excluded.stopped_reason,"
        " stopped_until = excluded.stopped_until, stopped_at = excluded.stopped_at",
        account_id,
        event.template,
        event.at,
        *stopped,
    )


async def queue(connection: AsyncConnection, instance_id: UUID | None) -> Sequence[Row]:
    """Dispatches by instance, from the read model's counters; `oldest`: the start of the oldest campaign that waits.

    What was sent lately is found by the read model's index on times, in its newest pages.
    """
    return await (await driver(connection)).fetch(
        """
        WITH lately AS (
          SELECT instance_id, count(*) AS sent FROM projections.messages
          WHERE sent_at > now() - interval '60 s' AND from_me GROUP BY instance_id
        )
        SELECT instance_id, coalesce(q.pending, 0) AS pending, coalesce(q.processing, 0) AS processing,
          coalesce(q.dead_letters, 0) AS dead_letters, coalesce(q.unresolved, 0) AS unresolved,
          coalesce(l.sent, 0) AS sent_last_minute, coalesce(w.messages_sent, 0) AS window_used,
          CASE WHEN q.pending + q.processing > 0 THEN (
            SELECT min(c.started_at) FROM projections.campaigns c
            JOIN projections.campaign_statistics s ON s.campaign_id = c.id
            WHERE c.status IN ('running', 'pausing', 'paused', 'cancelling')
              AND c.instance_pool @> jsonb_build_array(instance_id)
              AND s.dispatches_pending + s.dispatches_queued > 0
          ) END AS oldest
        FROM projections.queue_statistics q FULL JOIN lately l USING (instance_id)
        FULL JOIN projections.instance_window w USING (instance_id)
        WHERE $1::uuid IS NULL OR instance_id = $1
        """,
        instance_id,
    )


async def is_unresolved(connection: AsyncConnection, dispatch_id: UUID) -> bool:
    found = await (await driver(connection)).fetchval(
        "SELECT 1 FROM projections.message_queue WHERE id = $1 AND state = 'unresolved'", dispatch_id
    )
    return found is not None
