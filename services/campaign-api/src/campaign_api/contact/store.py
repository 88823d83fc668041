"""SQL of contacts as they stand now (written with their events) and of their aliases."""

from collections.abc import Sequence
from datetime import datetime
from typing import Any, TypeAlias
from uuid import UUID

import orjson
from asyncpg import Record
from sqlalchemy.ext.asyncio import AsyncConnection

from campaign_api.contact.contact import Contact
from campaign_api.event_store import Stream
from chassis.database import driver
from contracts import ids
from contracts.ids import Address
from contracts.topics import CONTACTS

Row: TypeAlias = Record
_COLUMNS = (
    'id, version, recipient_key, phone, lid, bsuid, "group", name, external_id, source, tags, funnel_stage,'
    " custom_fields, opted_out, erased, created_at, updated_at"
)


def stream(account_id: UUID, contact_id: UUID) -> Stream:
    return Stream(account_id, "contact", contact_id, CONTACTS)


def contact_of(row: Row) -> Contact:
    """The row holds the whole state: streams need not be folded for an import."""
    return Contact(
        address=Address(phone=row["phone"], lid=row["lid"], bsuid=row["bsuid"], group=row["group"]),
        name=row["name"],
        external_id=row["external_id"],
        source=row["source"],
        tags=tuple(row["tags"]),
        funnel_stage=row["funnel_stage"],
        custom_fields=tuple(sorted(row["custom_fields"].items())),
        saved=not row["erased"],
        opted_out=row["opted_out"],
        erased=row["erased"],
    )


async def write(
    connection: AsyncConnection, entries: Sequence[tuple[Stream, int, Contact, str]], now: datetime
) -> None:
    """(stream, version, state, recipient key) of any number of contacts: one statement, and one for their aliases."""
    if not entries:
        return
    columns: list[list[Any]] = [list(column) for column in zip(*(_row(*entry) for entry in entries), strict=True)]
    raw = await driver(connection)
    await raw.execute(
        'INSERT INTO contact AS c (account_id, id, version, recipient_key, phone, lid, bsuid, "group", name,'
        " external_id, source, tags, funnel_stage, custom_fields, opted_out, erased, created_at, updated_at)"
        " SELECT a, i, v, k, p, l, b, g, n, e, s, ARRAY(SELECT jsonb_array_elements_text(t)), f, u, o, x, $17, $17 FROM"
        " unnest($1::uuid[], $2::uuid[], $3::int[], $4::text[], $5::text[], $6::text[], $7::text[], $8::text[],"
        " $9::text[], $10::text[], $11::text[], $12::jsonb[], $13::text[], $14::jsonb[], $15::bool[], $16::bool[])"
        " AS r(a, i, v, k, p, l, b, g, n, e, s, t, f, u, o, x)"
        " ON CONFLICT (account_id, id) DO UPDATE SET version = excluded.version,"
        " recipient_key = excluded.recipient_key,"
        ' phone = excluded.phone, lid = excluded.lid, bsuid = excluded.bsuid, "group" = excluded."group",'
        " name = excluded.name, external_id = excluded.external_id, source = excluded.source, tags = excluded.tags,"
        " funnel_stage = excluded.funnel_stage, custom_fields = excluded.custom_fields, opted_out = excluded.opted_out,"
        " erased = excluded.erased, updated_at = excluded.updated_at WHERE c.version < excluded.version",
        *columns,
        now,
    )
    await _write_aliases(connection, entries)


def _row(stream: Stream, version: int, contact: Contact, key: str) -> tuple[Any, ...]:
    return (
        stream.account_id,
        stream.id,
        version,
        contact.key or key,
        contact.address.phone,
        contact.address.lid,
        contact.address.bsuid,
        contact.address.group,
        contact.name,
        contact.external_id,
        contact.source,
        orjson.dumps(contact.tags).decode(),
        contact.funnel_stage,
        orjson.dumps(dict(contact.custom_fields)).decode(),
        contact.opted_out,
        contact.erased,
    )


async def _write_aliases(connection: AsyncConnection, entries: Sequence[tuple[Stream, int, Contact, str]]) -> None:
    """The smallest id wins where two contacts go by one name; in order, so that two writers cannot deadlock."""
    pairs = sorted(
        {
            (stream.account_id, alias, stream.id)
            for stream, _, contact, _ in entries
            for alias in aliases(contact.address)
        }
    )
    if pairs:
        smallest: dict[tuple[UUID, str], UUID] = {}
        for account_id, alias, contact_id in pairs:
            smallest.setdefault((account_id, alias), contact_id)
        await (await driver(connection)).execute(
            "INSERT INTO contact_alias AS a (account_id, alias, contact_id)"
            " SELECT * FROM unnest($1::uuid[], $2::text[], $3::uuid[]) ON CONFLICT (account_id, alias)"
            " DO UPDATE SET contact_id = excluded.contact_id WHERE excluded.contact_id < a.contact_id",
            [account_id for account_id, _ in smallest],
            [alias for _, alias in smallest],
            list(smallest.values()),
        )


def aliases(address: Address) -> list[str]:
    phone = [ids.phone_key(address.phone)] if address.phone else []
    return phone + [alias for alias in (address.bsuid, address.lid, address.group) if alias]


async def by_alias(connection: AsyncConnection, account_id: UUID, names: Sequence[str]) -> UUID | None:
    """The contact that goes by any of the names; the smallest id where they were several."""
    found: UUID | None = await (await driver(connection)).fetchval(
        "SELECT contact_id FROM contact_alias WHERE account_id = $1 AND alias = ANY($2::text[])"
        " ORDER BY contact_id LIMIT 1",
        account_id,
        list(names),
    )
    return found


async def by_aliases(connection: AsyncConnection, account_id: UUID, names: Sequence[str]) -> dict[str, UUID]:
    rows = await (await driver(connection)).fetch(
        "SELECT alias, contact_id FROM contact_alias WHERE account_id = $1 AND alias = ANY($2::text[])",
        account_id,
        list(names),
    )
    return {row["alias"]: row["contact_id"] for row in rows}


async def many(connection: AsyncConnection, account_id: UUID, ids: Sequence[UUID]) -> dict[UUID, Row]:
    rows = await (await driver(connection)).fetch(
        f"SELECT {_COLUMNS} FROM contact WHERE account_id = $1 AND id = ANY($2::uuid[])",  # noqa: S608  our own columns
        account_id,
        list(ids),
    )
    return {row["id"]: row for row in rows}


async def one(connection: AsyncConnection, contact_id: UUID) -> Row | None:
    return await (await driver(connection)).fetchrow(
        f"SELECT {_COLUMNS} FROM contact WHERE id = $1 AND NOT erased",  # noqa: S608
        contact_id,
    )


async def some(
    connection: AsyncConnection,
    before: tuple[datetime, UUID] | None,
    limit: int,
    *,
    search: str | None,
    tags: Sequence[str],
    opted_out: bool | None,
) -> Sequence[Row]:
    """Newest first; served by contact_newest, tags by contact_tags."""
    at, contact_id = before or (None, None)
    return await (await driver(connection)).fetch(
        f"SELECT {_COLUMNS} FROM contact WHERE NOT erased"  # noqa: S608
        " AND ($1::timestamptz IS NULL OR (created_at, id) < ($1, $2::uuid))"
        " AND ($3::text IS NULL OR strpos(lower(name), lower($3)) > 0 OR strpos(phone, $3) > 0 OR external_id = $3)"
        " AND (cardinality($4::text[]) = 0 OR tags && $4) AND ($5::bool IS NULL OR opted_out = $5)"
        " ORDER BY created_at DESC, id DESC LIMIT $6",
        at,
        contact_id,
        search,
        list(tags),
        opted_out,
        limit,
    )


async def find(connection: AsyncConnection, contact_id: UUID | None, external_id: str | None) -> Row | None:
    """By its id or, the newest one, by the id that another system gave it; served by contact_external."""
    return await (await driver(connection)).fetchrow(
        f"SELECT {_COLUMNS} FROM contact WHERE NOT erased AND (id = $1 OR external_id = $2)"  # noqa: S608
        " ORDER BY created_at DESC LIMIT 1",
        contact_id,
        external_id,
    )
