"""The two generations of the read models: their tables, the locks of `enter_generation`, and what a dump is."""

import hashlib
from dataclasses import dataclass
from typing import Final, Literal

import asyncpg

Generation = Literal["projections_g1", "projections_g2"]

# Each table with the columns that order its dump.
TABLES: Final[dict[str, str]] = {
    "campaign": "account_id, id",
    "recipient": "account_id, id",
    "audience": "account_id, id",
    "dispatch": "account_id, id",
    "message": "account_id, id",
    "conversation": "account_id, id",
    "conversation_desk": "account_id, id",
    "answer": "account_id, dispatch_id",
    "reply": "account_id, message_id",
    "campaign_counter": "account_id, campaign_id, measure, reason",
    "queue_counter": "account_id, instance_id, state",
    "volume": "account_id, scope, scope_id, quarter, measure",
    "instance": "account_id, id",
    "contact_record": "account_id, id",
    "contact_alias": "account_id, alias, contact_id",
    "person": "account_id, id",
    "allocation": "account_id, id",
    "account": "account_id, id",
    "app_user": "account_id, id",
    "product": "account_id, id",
    "resolution": "account_id, event_id",
}
# Every live batch holds it shared until it commits; whoever holds it exclusively has the read side standing still.
GENERATION_LOCK: Final = "SELECT pg_advisory_xact_lock(7290, 0)"


@dataclass(frozen=True, slots=True)
class Digest:
    """A table's dump: how many rows, and the SHA-256 of all of them in key order."""

    rows: int
    sha256: str


async def read_current(connection: asyncpg.Connection) -> Generation:
    current: Generation = await connection.fetchval("SELECT current FROM projections.generation")
    return current


def other(generation: Generation) -> Generation:
    return "projections_g2" if generation == "projections_g1" else "projections_g1"


async def dump(connection: asyncpg.Connection, generation: Generation) -> dict[str, Digest]:
    """Streams every table; call it in a REPEATABLE READ transaction to compare generations of one moment."""
    return {table: await _dump_table(connection, generation, table) for table in TABLES}


async def _dump_table(connection: asyncpg.Connection, generation: Generation, table: str) -> Digest:
    digest = hashlib.sha256()
    rows = 0

    async def take(chunk: bytes) -> None:
        nonlocal rows
        digest.update(chunk)
        rows += chunk.count(b"\n")  # COPY's text form escapes line ends inside values

    await connection.copy_from_query(
        f"SELECT * FROM {generation}.{table} ORDER BY {TABLES[table]}",  # noqa: S608  constants
        output=take,
    )
    return Digest(rows, digest.hexdigest())
