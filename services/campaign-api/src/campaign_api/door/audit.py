"""The audit log: append-only, each entry's hash covers the one before, per account."""

import hashlib
from collections.abc import Iterable, Mapping
from datetime import datetime
from typing import Any
from uuid import UUID

import orjson
from asyncpg import Record
from sqlalchemy.ext.asyncio import AsyncConnection

from campaign_api.door.principal import Principal
from chassis.database import driver

FIRST = b"\x00" * 32


def digest(previous: bytes, entry: Mapping[str, Any]) -> bytes:
    return hashlib.sha256(previous + orjson.dumps(entry, option=orjson.OPT_SORT_KEYS)).digest()


async def note(
    connection: AsyncConnection,
    principal: Principal,
    action: str,
    subject: str,
    *,
    now: datetime,
    details: Mapping[str, Any] | None = None,
) -> None:
    """In the transaction of the change, as its last statement: entries of one account queue behind an advisory lock."""
    raw = await driver(connection)
    await raw.execute(
        "SELECT pg_advisory_xact_lock(hashtextextended('audit ' || $1::text, 0))", str(principal.account_id)
    )
    last = await raw.fetchrow(
        "SELECT position, hash FROM audit WHERE account_id = $1 ORDER BY position DESC LIMIT 1", principal.account_id
    )
    position, previous = (last["position"] + 1, last["hash"]) if last else (1, FIRST)
    entry = _entry(
        position, now, principal.user_id, principal.kind, principal.address, action, subject, dict(details or {})
    )
    await raw.execute(
        "INSERT INTO audit (account_id, position, at, actor_id, actor_kind, address, action, subject, details,"
        " previous_hash, hash) VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9::text::jsonb, $10, $11)",
        principal.account_id,
        position,
        now,
        principal.user_id,
        principal.kind,
        principal.address,
        action,
        subject,
        orjson.dumps(dict(details or {})).decode(),
        previous,
        digest(previous, entry),
    )


def _entry(
    position: int,
    at: datetime,
    actor: UUID | None,
    kind: str,
    address: str | None,
    action: str,
    subject: str,
    details: Mapping[str, Any],
) -> dict[str, Any]:
    return {
        "position": position,
        "at": int(at.timestamp() * 1_000_000),
        "actor": str(actor) if actor else None,
        "kind": kind,
        "address": address,
        "action": action,
        "subject": subject,
        "details": orjson.loads(orjson.dumps(dict(details))),
    }


def verify(rows: Iterable[Mapping[str, Any] | Record]) -> int | None:
    """The position of the first entry that does not follow from the one before; None if all do."""
    previous, expected = FIRST, 1
    for row in rows:
        entry = _entry(
            row["position"],
            row["at"],
            row["actor_id"],
            row["actor_kind"],
            row["address"],
            row["action"],
            row["subject"],
            row["details"],
        )
        if row["position"] != expected or row["previous_hash"] != previous or row["hash"] != digest(previous, entry):
            return expected
        previous, expected = row["hash"], expected + 1
    return None
