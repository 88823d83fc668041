"""SQL of accounts, users, sign-ins and API keys. What runs before anybody is known runs as the worker's role."""

from collections.abc import Mapping, Sequence
from datetime import datetime
from typing import Any, TypeAlias
from uuid import UUID

from asyncpg import Record
from sqlalchemy.ext.asyncio import AsyncConnection

from chassis.database import driver

Row: TypeAlias = Record


async def create_account(connection: AsyncConnection, account_id: UUID, name: str, now: datetime) -> None:
    await (await driver(connection)).execute(
        "INSERT INTO account (account_id, name, created_at) VALUES ($1, $2, $3)", account_id, name, now
    )


async def insert_user(
    connection: AsyncConnection,
    account_id: UUID,
    user_id: UUID,
    *,
    email: str,
    name: str,
    role: str,
    password_hash: str,
    now: datetime,
) -> None:
    """Raises UniqueViolationError where somebody has this address."""
    await (await driver(connection)).execute(
        "INSERT INTO app_user (account_id, id, email, name, role, password_hash, created_at, updated_at)"
        " VALUES ($1, $2, $3, $4, $5, $6, $7, $7)",
        account_id,
        user_id,
        email,
        name,
        role,
        password_hash,
        now,
    )


async def find_by_email(connection: AsyncConnection, email: str) -> Row | None:
    """Worker's role. Served by app_user_email."""
    return await (await driver(connection)).fetchrow(
        "SELECT u.account_id, u.id AS user_id, u.email, u.name, u.role, u.password_hash, u.active,"
        " u.role = 'operator' AND a.operators_restricted AS own_only FROM app_user u"
        " JOIN account a ON a.account_id = u.account_id WHERE lower(u.email) = lower($1)",
        email,
    )


async def replace_hash(connection: AsyncConnection, account_id: UUID, user_id: UUID, password_hash: str) -> None:
    await (await driver(connection)).execute(
        "UPDATE app_user SET password_hash = $3 WHERE account_id = $1 AND id = $2", account_id, user_id, password_hash
    )


async def users(connection: AsyncConnection, after: tuple[datetime, UUID] | None, limit: int) -> Sequence[Row]:
    at, user_id = after or (None, None)
    return await (await driver(connection)).fetch(
        "SELECT id, email, name, role, active, created_at, updated_at FROM app_user"
        " WHERE $1::timestamptz IS NULL OR (created_at, id) > ($1, $2::uuid) ORDER BY created_at, id LIMIT $3",
        at,
        user_id,
        limit,
    )


async def user(connection: AsyncConnection, user_id: UUID) -> Row | None:
    return await (await driver(connection)).fetchrow(
        "SELECT id, email, name, role, active, created_at, updated_at FROM app_user WHERE id = $1", user_id
    )


async def change_user(
    connection: AsyncConnection, user_id: UUID, *, name: str, role: str, active: bool, now: datetime
) -> None:
    await (await driver(connection)).execute(
        "UPDATE app_user SET name = $2, role = $3, active = $4, updated_at = $5 WHERE id = $1",
        user_id,
        name,
        role,
        active,
        now,
    )


async def lock_account(connection: AsyncConnection) -> None:
    """One change of users at a time: two administrators must not remove each other."""
    await (await driver(connection)).execute(
        "SELECT pg_advisory_xact_lock(hashtextextended('users ' || current_setting('app.account_id'), 0))"
    )


async def count_admins(connection: AsyncConnection) -> int:
    """Active ones of the account that row-level security shows."""
    count: int = await (await driver(connection)).fetchval(
        "SELECT count(*) FROM app_user WHERE role = 'admin' AND active"
    )
    return count


async def open_family(
    connection: AsyncConnection, account_id: UUID, user_id: UUID, family_id: UUID, now: datetime, expires_at: datetime
) -> None:
    await (await driver(connection)).execute(
        "INSERT INTO refresh_family (account_id, id, user_id, created_at, expires_at) VALUES ($1, $2, $3, $4, $5)",
        account_id,
        family_id,
        user_id,
        now,
        expires_at,
    )


async def add_token(
    connection: AsyncConnection, account_id: UUID, family_id: UUID, token_hash: bytes, expires_at: datetime
) -> None:
    await (await driver(connection)).execute(
        "INSERT INTO refresh_token (account_id, family_id, token_hash, expires_at) VALUES ($1, $2, $3, $4)",
        account_id,
        family_id,
        token_hash,
        expires_at,
    )


async def token_for_update(connection: AsyncConnection, token_hash: bytes) -> Row | None:
    """Worker's role. Locks the token's row: of two uses at once exactly one finds it unused."""
    return await (await driver(connection)).fetchrow(
        "SELECT t.account_id, t.family_id, t.used_at, t.expires_at, f.revoked_at, f.user_id, u.role, u.active, u.name,"
        " u.email, u.role = 'operator' AND a.operators_restricted AS own_only FROM refresh_token t"
        " JOIN refresh_family f ON (f.account_id, f.id) = (t.account_id, t.family_id)"
        " JOIN app_user u ON (u.account_id, u.id) = (f.account_id, f.user_id)"
        " JOIN account a ON a.account_id = t.account_id WHERE t.token_hash = $1 FOR UPDATE OF t",
        token_hash,
    )


async def use_token(connection: AsyncConnection, token_hash: bytes, now: datetime) -> None:
    await (await driver(connection)).execute(
        "UPDATE refresh_token SET used_at = $2 WHERE token_hash = $1", token_hash, now
    )


async def revoke_family(connection: AsyncConnection, family_id: UUID, because: str, now: datetime) -> None:
    await (await driver(connection)).execute(
        "UPDATE refresh_family SET revoked_at = $2, revoked_because = $3 WHERE id = $1 AND revoked_at IS NULL",
        family_id,
        now,
        because,
    )


async def revoke_all(connection: AsyncConnection, user_id: UUID, because: str, now: datetime) -> None:
    await (await driver(connection)).execute(
        "UPDATE refresh_family SET revoked_at = $2, revoked_because = $3 WHERE user_id = $1 AND revoked_at IS NULL",
        user_id,
        now,
        because,
    )


async def take_sign_in(connection: AsyncConnection, key: str, interval_s: float, burst: int) -> bool:
    """GCRA on the database's clock, shared by all processes: one statement, locks the key's row."""
    allowed = await (await driver(connection)).fetchval(
        "INSERT INTO sign_in_rate AS r (key, theoretical_arrival)"
        " VALUES ($1, clock_timestamp() + make_interval(secs => $2))"
        " ON CONFLICT (key) DO UPDATE"
        " SET theoretical_arrival = greatest(r.theoretical_arrival, clock_timestamp()) + make_interval(secs => $2)"
        " WHERE r.theoretical_arrival <= clock_timestamp() + make_interval(secs => $2 * ($3 - 1)) RETURNING true",
        key,
        interval_s,
        float(burst),
    )
    return bool(allowed)


async def add_api_key(
    connection: AsyncConnection,
    account_id: UUID,
    key_id: UUID,
    *,
    name: str,
    key_hash: bytes,
    hint: str,
    role: str,
    created_by: UUID | None,
    now: datetime,
    expires_at: datetime | None,
) -> None:
    await (await driver(connection)).execute(
        "INSERT INTO api_key (account_id, id, name, key_hash, hint, role, created_by, created_at, expires_at)"
        " VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9)",
        account_id,
        key_id,
        name,
        key_hash,
        hint,
        role,
        created_by,
        now,
        expires_at,
    )


async def api_keys(connection: AsyncConnection) -> Sequence[Row]:
    return await (await driver(connection)).fetch(
        "SELECT id, name, hint, role, created_by, created_at, expires_at, revoked_at FROM api_key ORDER BY created_at"
    )


async def revoke_api_key(connection: AsyncConnection, key_id: UUID, now: datetime) -> bool:
    status = await (await driver(connection)).execute(
        "UPDATE api_key SET revoked_at = $2 WHERE id = $1 AND revoked_at IS NULL", key_id, now
    )
    return str(status).endswith(" 1")


async def find_api_key(connection: AsyncConnection, key_hash: bytes) -> Row | None:
    """Worker's role. Served by the unique index on the hash."""
    return await (await driver(connection)).fetchrow(
        "SELECT account_id, id, role FROM api_key WHERE key_hash = $1 AND revoked_at IS NULL"
        " AND (expires_at IS NULL OR expires_at > now())",
        key_hash,
    )


async def account(connection: AsyncConnection) -> Row | None:
    return await (await driver(connection)).fetchrow(
        "SELECT account_id, name, country, time_zone, stop_words, operators_restricted, created_at FROM account"
    )


async def change_account(connection: AsyncConnection, values: Mapping[str, Any]) -> None:
    """All of the account's settings; row-level security leaves one row."""
    await (await driver(connection)).execute(
        "UPDATE account SET name = $1, country = $2, time_zone = $3, stop_words = $4, operators_restricted = $5",
        values["name"],
        values["country"],
        values["time_zone"],
        values["stop_words"],
        values["operators_restricted"],
    )
