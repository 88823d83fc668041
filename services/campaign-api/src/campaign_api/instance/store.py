"""SQL of instances as they stand now. Written with their events, and by the health consumer."""

from collections.abc import Collection, Mapping, Sequence
from datetime import datetime
from typing import Any, TypeAlias
from uuid import UUID

from asyncpg import Record
from sqlalchemy.ext.asyncio import AsyncConnection

from campaign_api.event_store import Recorded, Stream
from campaign_api.instance.instance import Instance
from chassis.database import driver, hear_latest
from contracts import codec
from contracts.instances import InstanceConfigured
from contracts.topics import INSTANCES

Row: TypeAlias = Record
_COLUMNS = (
    "id, version, name, is_default, gateway_instance, configuration::text AS configuration, connection_status,"
    " connected_phone, qr_code, pairing_code, throttled_rate, warming_up::text AS warming_up, breaker,"
    " breaker_until, quality, trouble, trouble_at,"
    " last_event_at,"
    " created_at, updated_at"
)


def stream(account_id: UUID, instance_id: UUID) -> Stream:
    return Stream(account_id, "instance", instance_id, INSTANCES)


async def write(connection: AsyncConnection, stream: Stream, recorded: Recorded[Instance], now: datetime) -> None:
    """In the transaction of the events. A deleted instance leaves the table, its stream stays."""
    configuration = recorded.state.configuration
    raw = await driver(connection)
    if configuration is None or configuration.deleted:
        await raw.execute("DELETE FROM instance WHERE account_id = $1 AND id = $2", stream.account_id, stream.id)
        return
    await raw.execute(
        "INSERT INTO instance (account_id, id, version, name, is_default, gateway_instance, configuration, created_at,"
        " updated_at) VALUES ($1, $2, $3, $4, $5, $6, $7::text::jsonb, $8, $8)"
        " ON CONFLICT (account_id, id) DO UPDATE SET"
        " version = excluded.version, name = excluded.name, is_default = excluded.is_default,"
        " gateway_instance = excluded.gateway_instance, configuration = excluded.configuration,"
        " updated_at = excluded.updated_at",
        stream.account_id,
        stream.id,
        recorded.version,
        configuration.name,
        configuration.is_default,
        configuration.gateway_instance,
        codec.encode(configuration).decode(),
        now,
    )


def configuration_of(row: Row) -> InstanceConfigured:
    return InstanceConfigured.model_validate_json(row["configuration"], extra="ignore")


async def one(connection: AsyncConnection, instance_id: UUID) -> Row | None:
    return await (await driver(connection)).fetchrow(
        f"SELECT {_COLUMNS} FROM instance WHERE id = $1",  # noqa: S608  our own column list
        instance_id,
    )


async def some(connection: AsyncConnection, after: tuple[datetime, UUID] | None, limit: int) -> Sequence[Row]:
    at, instance_id = after or (None, None)
    return await (await driver(connection)).fetch(
        f"SELECT {_COLUMNS} FROM instance WHERE $1::timestamptz IS NULL OR (created_at, id) > ($1, $2::uuid)"  # noqa: S608
        " ORDER BY created_at, id LIMIT $3",
        at,
        instance_id,
        limit,
    )


async def named(connection: AsyncConnection, gateway_instance: str | None) -> Row | None:
    """By its name at the gateway or here; without a name the account's default one."""
    return await (await driver(connection)).fetchrow(
        f"SELECT {_COLUMNS} FROM instance"  # noqa: S608
        " WHERE CASE WHEN $1::text IS NULL THEN is_default ELSE gateway_instance = $1 OR name = $1 END"
        " ORDER BY created_at LIMIT 1",
        gateway_instance,
    )


async def default_id(connection: AsyncConnection) -> UUID | None:
    """Locks the choice of the default against a second creation at the same moment."""
    raw = await driver(connection)
    await raw.execute(
        "SELECT pg_advisory_xact_lock(hashtextextended('instances ' || current_setting('app.account_id'), 0))"
    )
    found: UUID | None = await raw.fetchval("SELECT id FROM instance WHERE is_default ORDER BY created_at LIMIT 1")
    return found


async def kinds(connection: AsyncConnection, ids: Sequence[UUID]) -> dict[UUID, InstanceConfigured]:
    """Those of `ids` that exist in the account."""
    rows = await (await driver(connection)).fetch(
        "SELECT id, configuration::text AS configuration FROM instance WHERE id = ANY($1::uuid[])", list(ids)
    )
    return {row["id"]: configuration_of(row) for row in rows}


async def heed(
    connection: AsyncConnection, account_id: UUID, instance_id: UUID, kinds: Collection[str], at: datetime
) -> Collection[str]:
    """Notes a word on the instance that was said at `at`; the kinds of which nothing later was heard."""
    raw = await driver(connection)
    return await hear_latest(raw, "instance", "account_id = $3 AND id = $4", kinds, at, account_id, instance_id)


async def note_health(
    connection: AsyncConnection, account_id: UUID, instance_id: UUID, changes: Mapping[str, Any], at: datetime
) -> None:
    """Columns by name. Names come from our own code only."""
    names = sorted(changes)
    assignments = "".join(f"{name} = ${index}, " for index, name in enumerate(names, start=4))
    if "trouble" in changes:
        assignments += f"trouble_at = {'NULL' if changes['trouble'] is None else '$3'}, "
    await (await driver(connection)).execute(
        f"UPDATE instance SET {assignments} last_event_at = greatest(last_event_at, $3)"  # noqa: S608
        " WHERE account_id = $1 AND id = $2",
        account_id,
        instance_id,
        at,
        *(changes[name] for name in names),
    )


async def current_users(connection: AsyncConnection, ids: Sequence[UUID]) -> dict[UUID, int]:
    """People bound to each instance, from the read model."""
    rows = await (await driver(connection)).fetch(
        "SELECT id, current_users FROM projections.whatsapp_instances WHERE id = ANY($1::uuid[])", list(ids)
    )
    return {row["id"]: row["current_users"] or 0 for row in rows}
