"""Drives the reader's process: the file goes to a temporary folder, batches of rows come back as JSON lines."""

import asyncio
import sys
import tempfile
from collections.abc import AsyncGenerator, AsyncIterator, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from uuid import UUID

import orjson

from campaign_api.upload import store
from campaign_api.upload.tables import Contact, Rejected
from chassis.database import Database

LINE_MAX_BYTES = 64 * 1024 * 1024
WALL_MAX_S = 300
READERS_MAX = 2  # processes at once; others wait


class Unreadable(Exception):
    """The file cannot be read as a table; the text says why and is shown to the person."""


@dataclass(frozen=True, slots=True)
class Batch:
    contacts: tuple[Contact, ...]
    rejected: tuple[Rejected, ...]


@asynccontextmanager
async def on_disk(database: Database, account_id: UUID, upload_id: UUID) -> AsyncIterator[Path]:
    """The upload as a file that exists as long as the context."""
    with tempfile.TemporaryDirectory(prefix="pombo-upload-") as folder:
        path = Path(folder) / "upload"
        file = await asyncio.to_thread(path.open, "wb")
        try:
            async for chunk in store.chunks(database, account_id, upload_id):
                await asyncio.to_thread(file.write, chunk)
        finally:
            await asyncio.to_thread(file.close)
        yield path


async def look(path: Path, options: Mapping[str, Any]) -> dict[str, Any]:
    """The preview. Raises Unreadable."""
    async for line in _lines("look", path, options):
        return line
    raise Unreadable("the file is too large or too strange to be read")


async def batches(path: Path, options: Mapping[str, Any]) -> AsyncGenerator[Batch, None]:
    """Raises Unreadable, also in the middle."""
    async for line in _lines("read", path, options):
        yield Batch(
            tuple(map(Contact._make, line["contacts"])),
            tuple(Rejected(row, reason, tuple(cells)) for row, reason, cells in line["rejected"]),
        )


async def _lines(action: str, path: Path, options: Mapping[str, Any]) -> AsyncGenerator[dict[str, Any], None]:
    process = await asyncio.create_subprocess_exec(
        sys.executable,
        "-m",
        "campaign_api.upload.reader",
        action,
        str(path),
        stdin=asyncio.subprocess.PIPE,
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.DEVNULL,
        limit=LINE_MAX_BYTES,
    )
    assert process.stdin is not None
    assert process.stdout is not None
    try:
        process.stdin.write(orjson.dumps(dict(options)))
        process.stdin.close()
        while line := await asyncio.wait_for(process.stdout.readline(), WALL_MAX_S):
            data = orjson.loads(line)
            if "error" in data:
                raise Unreadable(data["error"])
            yield data
        if await process.wait() != 0:
            raise Unreadable("the file is too large or too strange to be read")
    except TimeoutError as error:
        raise Unreadable("the file takes too long to be read") from error
    finally:
        if process.returncode is None:
            process.kill()
            await process.wait()
