"""SQL of campaigns as they stand now (written with their events) and of their audiences."""

from collections.abc import AsyncIterator, Collection, Sequence
from datetime import datetime
from typing import TypeAlias
from uuid import UUID

import orjson
from asyncpg import Record
from sqlalchemy.ext.asyncio import AsyncConnection

from campaign_api.campaign.campaign import Audience, Campaign
from campaign_api.campaign.recipients import Audience as Assembled
from campaign_api.campaign.recipients import Chunk
from campaign_api.event_store import Recorded, Stream
from chassis.database import driver
from contracts.campaigns import CampaignStarted, Definition
from contracts.topics import CAMPAIGNS

Row: TypeAlias = Record
FINAL = ("completed", "failed", "cancelled")
_COLUMNS = (
    "id, version, status, name, owner_id, run_epoch, definition::text AS definition, failure, failure_detail,"
    " scheduled_at, started_at, completed_at, created_at, updated_at,"
    " coalesce((SELECT a.recipient_count FROM audience a WHERE a.account_id = c.account_id AND a.campaign_id = c.id),"
    " 0) AS recipient_count"
)


def stream(account_id: UUID, campaign_id: UUID) -> Stream:
    return Stream(account_id, "campaign", campaign_id, CAMPAIGNS)


async def write(connection: AsyncConnection, stream: Stream, recorded: Recorded[Campaign], now: datetime) -> None:
    """In the transaction of the events. `completed_at` is the time of the last end, none while it goes on."""
    campaign = recorded.state
    started = any(isinstance(event, CampaignStarted) for event in recorded.events)
    await (await driver(connection)).execute(
        "INSERT INTO campaign AS c (account_id, id, version, status, name, owner_id, run_epoch, definition, failure,"
        " failure_detail, scheduled_at, started_at, completed_at, created_at, updated_at)"
        " VALUES ($1, $2, $3, $4, $5, $6, $7, $8::text::jsonb, $9, $10, $11, $12, $13, $14, $14)"
        " ON CONFLICT (account_id, id) DO UPDATE SET version = excluded.version, status = excluded.status,"
        " name = excluded.name, run_epoch = excluded.run_epoch, definition = excluded.definition,"
        " failure = excluded.failure, failure_detail = excluded.failure_detail, scheduled_at = excluded.scheduled_at,"
        " started_at = coalesce(c.started_at, excluded.started_at), completed_at = excluded.completed_at,"
        " updated_at = excluded.updated_at",
        stream.account_id,
        stream.id,
        recorded.version,
        campaign.status,
        campaign.definition.name,
        campaign.definition.owner_id,
        campaign.run_epoch,
        campaign.definition.model_dump_json(),
        campaign.failure,
        campaign.failure_detail,
        campaign.scheduled_at,
        now if started else None,
        now if campaign.status in FINAL else None,
        now,
    )


def definition_of(row: Row) -> Definition:
    return Definition.model_validate_json(row["definition"], extra="ignore")


async def one(connection: AsyncConnection, campaign_id: UUID) -> Row | None:
    return await (await driver(connection)).fetchrow(
        f"SELECT {_COLUMNS} FROM campaign c WHERE id = $1 AND status <> 'deleted'",  # noqa: S608  our own columns
        campaign_id,
    )


async def seen(connection: AsyncConnection, campaign_ids: Collection[UUID]) -> frozenset[UUID]:
    """Those of them that whoever asks may see."""
    raw = await driver(connection)
    rows = await raw.fetch("SELECT id FROM campaign WHERE id = ANY($1::uuid[])", list(campaign_ids))
    return frozenset(row["id"] for row in rows)


async def status(connection: AsyncConnection, campaign_id: UUID) -> str | None:
    found: str | None = await (await driver(connection)).fetchval(
        "SELECT status FROM campaign WHERE id = $1", campaign_id
    )
    return found


async def some(
    connection: AsyncConnection,
    before: tuple[datetime, UUID] | None,
    limit: int,
    *,
    statuses: Sequence[str],
    search: str | None,
) -> Sequence[Row]:
    """Newest first; served by campaign_newest."""
    at, campaign_id = before or (None, None)
    return await (await driver(connection)).fetch(
        f"SELECT {_COLUMNS} FROM campaign c WHERE status <> 'deleted'"  # noqa: S608
        " AND ($1::timestamptz IS NULL OR (created_at, id) < ($1, $2::uuid))"
        " AND (cardinality($3::text[]) = 0 OR status = ANY($3))"
        " AND ($4::text IS NULL OR strpos(lower(name), lower($4)) > 0) ORDER BY created_at DESC, id DESC LIMIT $5",
        at,
        campaign_id,
        list(statuses),
        search,
        limit,
    )


async def lock(connection: AsyncConnection, account_id: UUID, campaign_id: UUID) -> None:
    """Who decides about a campaign or changes its audience waits for whoever does so already."""
    await (await driver(connection)).execute(
        "SELECT FROM campaign WHERE account_id = $1 AND id = $2 FOR NO KEY UPDATE", account_id, campaign_id
    )


async def clear_audience(connection: AsyncConnection, account_id: UUID, campaign_id: UUID) -> int:
    """The number of the next chunk: those of an audience that was published are not used again."""
    await lock(connection, account_id, campaign_id)
    before = await _audience(connection, account_id, campaign_id)
    raw = await driver(connection)
    for table in ("audience", "audience_chunk"):
        await raw.execute(f"DELETE FROM {table} WHERE account_id = $1 AND campaign_id = $2", account_id, campaign_id)  # noqa: S608
    return before.first_chunk + before.chunk_count


async def add_chunks(connection: AsyncConnection, account_id: UUID, campaign_id: UUID, chunks: Sequence[Chunk]) -> None:
    if chunks:
        await (await driver(connection)).execute(
            "INSERT INTO audience_chunk (account_id, campaign_id, chunk, value)"
            " SELECT $1, $2, * FROM unnest($3::int[], $4::bytea[])",
            account_id,
            campaign_id,
            [chunk.number for chunk in chunks],
            [chunk.value for chunk in chunks],
        )


async def write_audience(connection: AsyncConnection, audience: Assembled, rejected: int) -> None:
    await (await driver(connection)).execute(
        "INSERT INTO audience (account_id, campaign_id, recipient_count, chunk_count, filled, duplicates, opted_out,"
        " rejected, first_chunk) VALUES ($1, $2, $3, $4, $5::text::jsonb, $6, $7, $8, $9)",
        audience.account_id,
        audience.campaign_id,
        audience.recipient_count,
        audience.chunk_count,
        orjson.dumps(dict(audience.filled())).decode(),
        audience.duplicates,
        audience.opted_out_count,
        rejected,
        audience.first_chunk,
    )


async def audience(connection: AsyncConnection, account_id: UUID, campaign_id: UUID) -> Audience:
    """As it stays until the end of the transaction, for a decision that names it."""
    await lock(connection, account_id, campaign_id)
    return await _audience(connection, account_id, campaign_id)


async def _audience(connection: AsyncConnection, account_id: UUID, campaign_id: UUID) -> Audience:
    row = await audience_row(connection, account_id, campaign_id)
    return Audience(row["chunk_count"], row["recipient_count"], row["first_chunk"]) if row else Audience()


async def audience_row(connection: AsyncConnection, account_id: UUID, campaign_id: UUID) -> Row | None:
    return await (await driver(connection)).fetchrow(
        "SELECT recipient_count, chunk_count, first_chunk, filled, duplicates, opted_out, rejected FROM audience"
        " WHERE account_id = $1 AND campaign_id = $2",
        account_id,
        campaign_id,
    )


async def chunks(connection: AsyncConnection, account_id: UUID, campaign_id: UUID) -> AsyncIterator[Chunk]:
    """In order, one at a time: a million recipients are never held."""
    raw = await driver(connection)
    first = 0
    while True:
        row = await raw.fetchrow(
            "SELECT chunk, value FROM audience_chunk WHERE account_id = $1 AND campaign_id = $2 AND chunk >= $3"
            " ORDER BY chunk LIMIT 1",
            account_id,
            campaign_id,
            first,
        )
        if row is None:
            return
        yield Chunk(row["chunk"], row["value"])
        first = row["chunk"] + 1


async def opted_out(connection: AsyncConnection) -> frozenset[str]:
    """Recipient keys of the account that get no campaign; served by contact_opted_out."""
    rows = await (await driver(connection)).fetch("SELECT recipient_key FROM contact WHERE opted_out")
    return frozenset(row["recipient_key"] for row in rows)
