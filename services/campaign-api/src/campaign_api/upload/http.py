"""Uploads and imports: a file comes in chunks, is looked at, and its rows become contacts (or an audience)."""

import hashlib
from collections.abc import AsyncIterator
from datetime import timedelta
from typing import Annotated, Any
from uuid import UUID

from fastapi import APIRouter, File, Query, Response, UploadFile
from fastapi.responses import StreamingResponse

from campaign_api.door import audit, cursors
from campaign_api.door.idempotency import IdempotentRoute
from campaign_api.door.parts import Here, NewId, Parts
from campaign_api.door.principal import Operator, Principal
from campaign_api.door.problems import Problem, not_found, responses
from campaign_api.upload import models, reading, store
from campaign_api.upload.tables import write_csv
from chassis.database import driver

CHUNK_BYTES = 256 * 1024
REPORT_PAGE = 1000
router = APIRouter(prefix="/api", tags=["uploads"], route_class=IdempotentRoute)


@router.post("/uploads", status_code=201, responses=responses(413))
async def upload(
    file: Annotated[UploadFile, File(description="CSV or Excel (.xlsx)")],
    principal: Operator,
    parts: Here,
    upload_id: NewId,
) -> models.Upload:
    """Kept for a day. The answer shows how it would be read."""
    now = parts.now()
    expires_at = now + timedelta(seconds=parts.settings.upload_kept_s)
    digest, size, chunk = hashlib.sha256(), 0, 0
    async with parts.web.transaction(account_id=principal.account_id) as connection:
        if await store.one(connection, upload_id) is None:
            while data := await file.read(CHUNK_BYTES):
                digest.update(data)
                size += len(data)
                await store.add_chunk(connection, principal.account_id, upload_id, chunk, data)
                chunk += 1
            if size == 0:
                raise Problem(422, "The file is empty")
            await store.finish(
                connection,
                principal.account_id,
                upload_id,
                file_name=(file.filename or "upload")[-200:].replace("\x00", ""),
                size_bytes=size,
                sha256=digest.digest(),
                created_by=principal.user_id,
                now=now,
                expires_at=expires_at,
            )
    return await _looked_at(parts, principal, upload_id, models.ColumnMapping())


async def _looked_at(
    parts: Parts, principal: Principal, upload_id: UUID, mapping: models.ColumnMapping
) -> models.Upload:
    async with parts.web.transaction(account_id=principal.account_id) as connection:
        row = await store.one(connection, upload_id)
        country = await (await driver(connection)).fetchval("SELECT country FROM account")
    if row is None:
        raise not_found("Upload")
    try:
        async with parts.readers, reading.on_disk(parts.web, principal.account_id, upload_id) as path:
            preview = await reading.look(path, mapping.options(country))
    except reading.Unreadable as error:
        raise Problem(422, f"The uploaded file cannot be used: {error}") from error
    return models.Upload(**row, preview=models.Preview(**preview))


@router.get("/uploads/{upload_id}", responses=responses(404))
async def look(upload_id: UUID, principal: Operator, parts: Here) -> models.Upload:
    return await _looked_at(parts, principal, upload_id, models.ColumnMapping())


@router.post("/uploads/{upload_id}/preview", responses=responses(404))
async def preview(upload_id: UUID, body: models.ColumnMapping, principal: Operator, parts: Here) -> models.Upload:
    """The same file with columns, delimiter or encoding chosen."""
    return await _looked_at(parts, principal, upload_id, body)


@router.post("/contacts/import", status_code=202, responses=responses())
async def begin_import(
    body: models.NewImport, principal: Operator, parts: Here, import_id: NewId, response: Response
) -> models.Import:
    """Runs in the background: `GET /api/imports/{id}` tells how far it is."""
    now = parts.now()
    async with parts.web.transaction(account_id=principal.account_id) as connection:
        if await store.one(connection, body.upload_id) is None:
            raise Problem(422, "The uploaded file is not known (files are kept for a day)")
        country = await (await driver(connection)).fetchval("SELECT country FROM account")
        options: dict[str, Any] = body.column_mapping.options(country)
        options |= {"tags": body.tags, "source": body.source}
        await store.add_import(
            connection,
            principal.account_id,
            import_id,
            kind="contacts",
            upload_id=body.upload_id,
            options=options,
            state="waiting",
            created_by=principal.user_id,
            now=now,
        )
        row = await store.one_import(connection, import_id)
        await audit.note(connection, principal, "contacts.import", str(import_id), now=now)
    response.headers["Location"] = f"/api/imports/{import_id}"
    assert row is not None
    return models.Import(**row)


@router.get("/imports/{import_id}", responses=responses(404))
async def one_import(import_id: UUID, principal: Operator, parts: Here) -> models.Import:
    """An import into contacts, or (by the campaign's id) how a campaign's audience was taken."""
    async with parts.web.transaction(account_id=principal.account_id) as connection:
        row = await store.one_import(connection, import_id)
    if row is None:
        raise not_found("Import")
    return models.Import(**row)


@router.get("/imports/{import_id}/rejected", responses=responses(400, 404))
async def rejected(
    import_id: UUID,
    principal: Operator,
    parts: Here,
    page: cursors.Hundred,
    after_row: Annotated[int, Query(ge=0, le=2_000_000_000)] = 0,
) -> list[models.RejectedRow]:
    async with parts.web.transaction(account_id=principal.account_id) as connection:
        if await store.one_import(connection, import_id) is None:
            raise not_found("Import")
        rows = await store.rejections(connection, import_id, page.after(int) or after_row, page.fetched)
    return [models.RejectedRow(**row) for row in page.cut(rows, "row")]


@router.get(
    "/imports/{import_id}/rejected.csv",
    response_class=Response,
    responses=responses(404) | {200: {"content": {"text/csv": {"schema": {"type": "string"}}}}},
)
async def rejected_csv(import_id: UUID, principal: Operator, parts: Here) -> Response:
    """Every rejected row with its number and the reason; safe to open in a spreadsheet."""
    async with parts.web.transaction(account_id=principal.account_id) as connection:
        if await store.one_import(connection, import_id) is None:
            raise not_found("Import")
    headers = {"Content-Disposition": f'attachment; filename="rejected-{import_id}.csv"'}
    return StreamingResponse(_report(parts, principal, import_id), media_type="text/csv", headers=headers)


async def _report(parts: Parts, principal: Principal, import_id: UUID) -> AsyncIterator[bytes]:
    yield b"\xef\xbb\xbf" + write_csv([("row", "reason", "cells")]).encode()
    after = 0
    while True:
        async with parts.web.transaction(account_id=principal.account_id) as connection:
            rows = await store.rejections(connection, import_id, after, REPORT_PAGE)
        if not rows:
            return
        yield write_csv([[str(row["row"]), row["reason"], *row["cells"]] for row in rows]).encode()
        after = rows[-1]["row"]
