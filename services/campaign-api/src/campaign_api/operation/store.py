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
) -> int:
    """The hold's new version; locks its row."""
    version: int = await (await driver(connection)).fetchval(
        "INSERT INTO hold AS h (account_id, scope, key, held, version, set_by, set_at)"
        " VALUES ($1, $2, $3, $4, 1, $5, $6)"
        " ON CONFLICT (account_id, scope, key) DO UPDATE SET held = excluded.held, version = h.version + 1,"
        " set_by = excluded.set_by, set_at = excluded.set_at RETURNING version",
        account_id,
        scope,
        key,
        held,
        by,
        now,
    )
    return version


async def holds(connection: AsyncConnection) -> Sequence[Row]:
    return await (await driver(connection)).fetch(
        "SELECT scope, key, held, version, set_by, set_at FROM hold ORDER BY scope, key"
    )


async def queue(connection: AsyncConnection, instance_id: UUID | None) -> Sequence[Row]:
    """Dispatches by instance and state, from the read model."""
    return await (await driver(connection)).fetch(
        "SELECT instance_id, count(*) FILTER (WHERE state = 'pending') AS pending,"
        " count(*) FILTER (WHERE state = 'released') AS processing,"
        " count(*) FILTER (WHERE state = 'failed') AS dead_letters,"
        " count(*) FILTER (WHERE state = 'unresolved') AS unresolved,"
        " min(created_at) FILTER (WHERE state IN ('pending', 'released')) AS oldest,"
        " count(*) FILTER (WHERE sent_at > now() - interval '60 s') AS sent_last_minute"
        " FROM projections.message_queue WHERE $1::uuid IS NULL OR instance_id = $1 GROUP BY instance_id",
        instance_id,
    )


async def is_unresolved(connection: AsyncConnection, dispatch_id: UUID) -> bool:
    found = await (await driver(connection)).fetchval(
        "SELECT 1 FROM projections.message_queue WHERE id = $1 AND state = 'unresolved'", dispatch_id
    )
    return found is not None


async def is_queued(connection: AsyncConnection, dispatch_id: UUID) -> bool:
    found = await (await driver(connection)).fetchval(
        "SELECT 1 FROM projections.message_queue WHERE id = $1", dispatch_id
    )
    return found is not None
