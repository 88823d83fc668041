"""Rows whose fields are registers: each keeps the value with the highest (or, for `firsts`, the lowest) order key.

Folding facts in any order, any number of times, gives the same row. For read models with few changes per row
(campaigns, instances, contacts): the rows are read, folded here and written back by the component's only writer.
"""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any
from uuid import UUID

import asyncpg
import orjson

from contracts.envelope import Envelope

Row = dict[str, Any]


@dataclass(frozen=True, slots=True)
class Fact:
    """What one event says about one row. Values as JSON: text for ids and times. `key` orders facts of one row."""

    account_id: UUID
    id: UUID
    key: str
    values: Mapping[str, Any]
    firsts: Mapping[str, Any] = field(default_factory=dict)


def version_key(envelope: Envelope) -> str:
    """By stream version; time and event id decide where a stream has none."""
    return f"{envelope.stream_version or 0:012d}|{time_key(envelope.time, envelope.id)}"


def time_key(time: datetime, event_id: UUID) -> str:
    return f"{time.astimezone(UTC).isoformat(timespec='microseconds')}|{event_id}"


def fold(row: Row, fact: Fact) -> Row:
    """The row after the fact; the given row itself if the fact adds nothing."""
    keys: dict[str, str] = row["keys"]
    newer = {name: value for name, value in fact.values.items() if fact.key > keys.get(name, "")}
    earlier = {name: value for name, value in fact.firsts.items() if name not in keys or fact.key < keys[name]}
    if not newer and not earlier:
        return row
    changed = newer | earlier
    return row | changed | {"keys": keys | dict.fromkeys(changed, fact.key)}


async def apply(connection: asyncpg.Connection, table: str, empty: Row, facts: Sequence[Fact]) -> list[Row]:
    """Folds facts into `table` and returns the changed rows. Only the component's writer calls this: no row locks."""
    if not facts:
        return []
    rows = await read(connection, table, {(fact.account_id, fact.id) for fact in facts})
    changed: dict[tuple[UUID, UUID], Row] = {}
    for fact in facts:
        place = (fact.account_id, fact.id)
        row = changed.get(place) or rows.get(place) or empty | {"account_id": str(place[0]), "id": str(place[1])}
        after = fold(row, fact)
        if after is not row:
            changed[place] = after
    await write(connection, table, ("account_id", "id"), [changed[place] for place in sorted(changed)])
    return list(changed.values())


async def read(
    connection: asyncpg.Connection, table: str, places: Iterable[tuple[UUID, UUID]]
) -> dict[tuple[UUID, UUID], Row]:
    """Rows by (account, id), as JSON. By primary key."""
    wanted = sorted(places)
    found = await connection.fetch(
        f"SELECT t.account_id, t.id, to_jsonb(t)::text FROM unnest($1::uuid[], $2::uuid[]) w(account_id, id) "  # noqa: S608  a constant of ours
        f"CROSS JOIN LATERAL (SELECT * FROM {table} WHERE account_id = w.account_id AND id = w.id OFFSET 0) t",
        [account_id for account_id, _ in wanted],
        [row_id for _, row_id in wanted],
    )
    return {(account_id, row_id): orjson.loads(row) for account_id, row_id, row in found}


async def write(connection: asyncpg.Connection, table: str, key: Sequence[str], rows: Sequence[Row]) -> None:
    """Upserts whole rows given as JSON, in their order. By primary key."""
    if not rows:
        return
    columns = list(rows[0])
    values = ", ".join(f"{column} = excluded.{column}" for column in columns if column not in key)
    await connection.execute(
        f"INSERT INTO {table} ({', '.join(columns)}) SELECT {', '.join(columns)} "  # noqa: S608  constants of ours
        f"FROM jsonb_populate_recordset(NULL::{table}, $1::jsonb) "
        f"ON CONFLICT ({', '.join(key)}) DO UPDATE SET {values}",
        orjson.dumps(rows).decode(),
    )
