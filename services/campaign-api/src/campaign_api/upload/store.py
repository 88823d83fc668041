"""SQL of uploads (in chunks, for a day) and imports."""

from collections.abc import AsyncIterator, Mapping, Sequence
from datetime import datetime
from typing import Any, TypeAlias
from uuid import UUID

import orjson
from asyncpg import Record
from sqlalchemy.ext.asyncio import AsyncConnection

from campaign_api.upload.tables import Rejected
from chassis.database import Database, driver

Row: TypeAlias = Record
_IMPORT = "id, kind, upload_id, options, state, accepted, rejected, error, created_at, finished_at"


async def add_chunk(connection: AsyncConnection, account_id: UUID, upload_id: UUID, chunk: int, data: bytes) -> None:
    await (await driver(connection)).execute(
        "INSERT INTO upload_chunk (account_id, upload_id, chunk, data) VALUES ($1, $2, $3, $4)",
        account_id,
        upload_id,
        chunk,
        data,
    )


async def finish(
    connection: AsyncConnection,
    account_id: UUID,
    upload_id: UUID,
    *,
    file_name: str,
    size_bytes: int,
    sha256: bytes,
    created_by: UUID | None,
    now: datetime,
    expires_at: datetime,
) -> None:
    await (await driver(connection)).execute(
        "INSERT INTO upload (account_id, id, file_name, size_bytes, sha256, created_by, created_at, expires_at)"
        " VALUES ($1, $2, $3, $4, $5, $6, $7, $8)",
        account_id,
        upload_id,
        file_name,
        size_bytes,
        sha256,
        created_by,
        now,
        expires_at,
    )


async def one(connection: AsyncConnection, upload_id: UUID) -> Row | None:
    return await (await driver(connection)).fetchrow(
        "SELECT id, file_name, size_bytes, created_at, expires_at FROM upload WHERE id = $1", upload_id
    )


async def chunks(database: Database, account_id: UUID, upload_id: UUID) -> AsyncIterator[bytes]:
    """Each in a transaction of its own: no connection is held while somebody else reads the file."""
    chunk = 0
    while True:
        async with database.transaction(account_id=account_id) as connection:
            data = await (await driver(connection)).fetchval(
                "SELECT data FROM upload_chunk WHERE account_id = $1 AND upload_id = $2 AND chunk = $3",
                account_id,
                upload_id,
                chunk,
            )
        if data is None:
            return
        yield data
        chunk += 1


async def remove_expired(connection: AsyncConnection, now: datetime) -> None:
    """Worker's role. Served by upload_expiry; the chunks go with their upload."""
    await (await driver(connection)).execute("DELETE FROM upload WHERE expires_at <= $1", now)


async def add_import(
    connection: AsyncConnection,
    account_id: UUID,
    import_id: UUID,
    *,
    kind: str,
    upload_id: UUID | None,
    options: Mapping[str, Any],
    state: str,
    created_by: UUID | None,
    now: datetime,
) -> None:
    await (await driver(connection)).execute(
        "INSERT INTO import (account_id, id, kind, upload_id, options, state, created_by, created_at)"
        " VALUES ($1, $2, $3, $4, $5::text::jsonb, $6, $7, $8) ON CONFLICT (account_id, id) DO NOTHING",
        account_id,
        import_id,
        kind,
        upload_id,
        orjson.dumps(options).decode(),
        state,
        created_by,
        now,
    )


async def reject(connection: AsyncConnection, account_id: UUID, import_id: UUID, rows: Sequence[Rejected]) -> None:
    if rows:
        await (await driver(connection)).execute(
            'INSERT INTO import_rejection (account_id, import_id, "row", reason, cells)'
            " SELECT $1, $2, * FROM unnest($3::int[], $4::text[], $5::jsonb[])"
            ' ON CONFLICT (account_id, import_id, "row") DO NOTHING',
            account_id,
            import_id,
            [row.row for row in rows],
            [row.reason for row in rows],
            [orjson.dumps(row.cells).decode() for row in rows],
        )


async def clear_import(connection: AsyncConnection, account_id: UUID, import_id: UUID) -> None:
    raw = await driver(connection)
    await raw.execute("DELETE FROM import_rejection WHERE account_id = $1 AND import_id = $2", account_id, import_id)


async def progress(
    connection: AsyncConnection,
    account_id: UUID,
    import_id: UUID,
    *,
    state: str,
    accepted: int,
    rejected: int,
    error: str | None = None,
    finished_at: datetime | None = None,
) -> None:
    await (await driver(connection)).execute(
        "UPDATE import SET state = $3, accepted = $4, rejected = $5, error = $6, finished_at = $7,"
        " lease_until = now() + interval '60 s' WHERE account_id = $1 AND id = $2",
        account_id,
        import_id,
        state,
        accepted,
        rejected,
        error,
        finished_at,
    )


async def claim_import(connection: AsyncConnection) -> Row | None:
    """Worker's role: the oldest import that waits, or whose worker died. Served by import_open; skips locked rows."""
    return await (await driver(connection)).fetchrow(
        "UPDATE import SET state = 'running', lease_until = now() + interval '60 s' WHERE (account_id, id) ="
        " (SELECT account_id, id FROM import WHERE state = 'waiting' OR (state = 'running' AND lease_until < now())"
        " ORDER BY created_at LIMIT 1 FOR UPDATE SKIP LOCKED)"
        " RETURNING account_id, created_by, id, kind, upload_id, options, state"
    )


async def one_import(connection: AsyncConnection, import_id: UUID) -> Row | None:
    return await (await driver(connection)).fetchrow(f"SELECT {_IMPORT} FROM import WHERE id = $1", import_id)  # noqa: S608


async def rejections(connection: AsyncConnection, import_id: UUID, after: int, limit: int) -> Sequence[Row]:
    """In the rows' order; served by the primary key."""
    return await (await driver(connection)).fetch(
        'SELECT "row", reason, cells FROM import_rejection WHERE import_id = $1 AND "row" > $2 ORDER BY "row" LIMIT $3',
        import_id,
        after,
        limit,
    )
