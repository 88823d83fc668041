"""Known instances and the spool."""

import json
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import NamedTuple
from uuid import UUID

from sqlalchemy.ext.asyncio import AsyncConnection

from chassis.database import driver
from contracts.envelope import Headers
from contracts.instances import InstanceConfigured, ProviderKind


@dataclass(frozen=True, slots=True)
class InstanceRow:
    """As stored: credentials are ciphertext by field."""

    account_id: UUID
    id: UUID
    provider: ProviderKind
    gateway_instance: str | None
    phone_number_id: str | None
    phone_number: str | None
    key_hashes: tuple[str, ...]
    credentials: dict[str, str]


class Spooled(NamedTuple):
    """A webhook as it will be published, and as it waits for Kafka in the spool."""

    id: UUID
    headers: Headers
    value: bytes
    received_at: datetime


async def save_instances(
    connection: AsyncConnection, configured: Sequence[tuple[UUID, UUID, int, InstanceConfigured]]
) -> None:
    """(account, id, version, configuration); the highest version wins. Row locks in id order."""
    raw = await driver(connection)
    await raw.executemany(
        """
        INSERT INTO instance AS known
            (account_id, id, version, provider, gateway_instance, phone_number_id, phone_number,
             key_hashes, credentials, deleted)
        VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9::jsonb, $10)
        ON CONFLICT (account_id, id) DO UPDATE SET
            version = excluded.version, provider = excluded.provider, gateway_instance = excluded.gateway_instance,
            phone_number_id = excluded.phone_number_id, phone_number = excluded.phone_number,
            key_hashes = excluded.key_hashes,
            credentials = excluded.credentials, deleted = excluded.deleted, revision = DEFAULT
        WHERE known.version <= excluded.version
        """,
        [
            (
                account,
                instance,
                version,
                event.provider,
                event.gateway_instance,
                event.phone_number_id,
                event.phone_number,
                list(event.webhook_key_hashes),
                json.dumps(event.credentials),
                event.deleted,
            )
            for account, instance, version, event in sorted(configured, key=lambda row: (row[1], row[2]))
        ],
    )


async def load_instances(connection: AsyncConnection) -> list[InstanceRow]:
    raw = await driver(connection)
    rows = await raw.fetch(
        "SELECT account_id, id, provider, gateway_instance, phone_number_id, phone_number, key_hashes,"
        " credentials::text AS credentials FROM instance WHERE NOT deleted"
    )
    return [
        InstanceRow(
            row["account_id"],
            row["id"],
            row["provider"],
            row["gateway_instance"],
            row["phone_number_id"],
            row["phone_number"],
            tuple(row["key_hashes"]),
            json.loads(row["credentials"]),
        )
        for row in rows
    ]


async def latest_revision(connection: AsyncConnection) -> int:
    """Changes with every change of an instance (a sum, not a maximum: two writers may commit out of order)."""
    raw = await driver(connection)
    return int(await raw.fetchval("SELECT coalesce(sum(revision), 0) FROM instance"))


async def spool(connection: AsyncConnection, webhooks: Sequence[Spooled]) -> None:
    raw = await driver(connection)
    await raw.execute(
        """
        INSERT INTO spool (id, headers, value, received_at)
        SELECT * FROM unnest($1::uuid[], $2::jsonb[], $3::bytea[], $4::timestamptz[])
        ON CONFLICT DO NOTHING
        """,
        [webhook.id for webhook in webhooks],
        [json.dumps([(name, value.decode()) for name, value in webhook.headers]) for webhook in webhooks],
        [webhook.value for webhook in webhooks],
        [webhook.received_at for webhook in webhooks],
    )


async def take_spooled(connection: AsyncConnection, limit: int) -> list[Spooled]:
    """Oldest first; rows stay until `forget_spooled`, so a crash repeats rather than loses."""
    raw = await driver(connection)
    rows = await raw.fetch(
        "SELECT id, headers::text AS headers, value, received_at FROM spool ORDER BY received_at LIMIT $1",
        limit,
    )
    return [
        Spooled(
            row["id"],
            [(name, value.encode()) for name, value in json.loads(row["headers"])],
            bytes(row["value"]),
            row["received_at"],
        )
        for row in rows
    ]


async def forget_spooled(connection: AsyncConnection, ids: Sequence[UUID]) -> None:
    raw = await driver(connection)
    await raw.execute("DELETE FROM spool WHERE id = ANY($1::uuid[])", list(ids))
