"""SQL of the desk's plain tables. Table and column names come from the constants of this service only."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any, TypeAlias
from uuid import UUID

import orjson
from asyncpg import Record
from sqlalchemy.ext.asyncio import AsyncConnection

from chassis.database import driver

Row: TypeAlias = Record


@dataclass(frozen=True, slots=True)
class Table:
    """`columns`: what people may set; `documents` of them are JSON."""

    name: str
    columns: tuple[str, ...]
    nullable: frozenset[str] = frozenset()
    documents: frozenset[str] = frozenset()

    @property
    def selected(self) -> str:
        return ", ".join(("id", *self.columns, "created_at", "updated_at"))


PRODUCTS = Table(
    "product",
    ("name", "description", "price_cents", "details"),
    nullable=frozenset({"price_cents"}),
    documents=frozenset({"details"}),
)
TASKS = Table(
    "task",
    ("title", "description", "due_at", "assignee_id", "contact_id", "conversation_id", "status"),
    nullable=frozenset({"due_at", "assignee_id", "contact_id", "conversation_id"}),
)
GROUPS = Table("contact_group", ("name", "description", "tags"))
CANNED_ANSWERS = Table("canned_answer", ("shortcut", "text"))


def _value(table: Table, name: str, value: Any) -> Any:
    return orjson.dumps(value).decode() if name in table.documents else value


def _place(table: Table, name: str, number: int) -> str:
    return f"${number}::text::jsonb" if name in table.documents else f"${number}"


async def insert(
    connection: AsyncConnection, table: Table, account_id: UUID, row_id: UUID, values: Mapping[str, Any], now: datetime
) -> Row | None:
    """None where the id is there already. Raises UniqueViolationError for a second one of what must be unique."""
    places = ", ".join(_place(table, name, number) for number, name in enumerate(table.columns, start=4))
    return await (await driver(connection)).fetchrow(
        f"INSERT INTO {table.name} (account_id, id, created_at, updated_at, {', '.join(table.columns)})"  # noqa: S608
        f" VALUES ($1, $2, $3, $3, {places}) ON CONFLICT (account_id, id) DO NOTHING RETURNING {table.selected}",
        account_id,
        row_id,
        now,
        *(_value(table, name, values[name]) for name in table.columns),
    )


async def change(
    connection: AsyncConnection, table: Table, row_id: UUID, values: Mapping[str, Any], now: datetime
) -> Row | None:
    """Only the given columns; a null where the column holds none changes nothing."""
    names = [name for name in table.columns if name in values and (values[name] is not None or name in table.nullable)]
    assignments = "".join(f", {name} = {_place(table, name, number)}" for number, name in enumerate(names, start=3))
    return await (await driver(connection)).fetchrow(
        f"UPDATE {table.name} SET updated_at = $2{assignments} WHERE id = $1 RETURNING {table.selected}",  # noqa: S608
        row_id,
        now,
        *(_value(table, name, values[name]) for name in names),
    )


async def one(connection: AsyncConnection, table: Table, row_id: UUID) -> Row | None:
    return await (await driver(connection)).fetchrow(
        f"SELECT {table.selected} FROM {table.name} WHERE id = $1",  # noqa: S608
        row_id,
    )


async def some(
    connection: AsyncConnection, table: Table, before: tuple[datetime, UUID] | None, limit: int
) -> Sequence[Row]:
    """Newest first."""
    at, row_id = before or (None, None)
    return await (await driver(connection)).fetch(
        f"SELECT {table.selected} FROM {table.name}"  # noqa: S608
        " WHERE $1::timestamptz IS NULL OR (created_at, id) < ($1, $2::uuid)"
        " ORDER BY created_at DESC, id DESC LIMIT $3",
        at,
        row_id,
        limit,
    )


async def delete(connection: AsyncConnection, table: Table, row_id: UUID) -> Row | None:
    return await (await driver(connection)).fetchrow(
        f"DELETE FROM {table.name} WHERE id = $1 RETURNING {table.selected}",  # noqa: S608
        row_id,
    )
