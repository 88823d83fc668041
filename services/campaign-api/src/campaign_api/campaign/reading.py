"""Figures and recipients of campaigns, from the read models' views."""

from collections.abc import Sequence
from typing import TypeAlias
from uuid import UUID

from asyncpg import Record
from sqlalchemy.ext.asyncio import AsyncConnection

from chassis.database import driver

Row: TypeAlias = Record
RATE_WINDOW_S = 60


async def figures(connection: AsyncConnection, ids: Sequence[UUID]) -> dict[UUID, Row]:
    rows = await (await driver(connection)).fetch(
        "SELECT * FROM projections.campaign_statistics WHERE campaign_id = ANY($1::uuid[])", list(ids)
    )
    return {row["campaign_id"]: row for row in rows}


async def possibly_twice(connection: AsyncConnection, campaign_id: UUID) -> int:
    """Messages that may have arrived more than once; there are few (index dispatch_twice)."""
    count: int = await (await driver(connection)).fetchval(
        "SELECT count(*) FROM projections.possibly_twice WHERE campaign_id = $1", campaign_id
    )
    return count


async def sent_lately(connection: AsyncConnection, campaign_id: UUID) -> int:
    """Messages accepted in the last RATE_WINDOW_S seconds: found by the read model's index on times."""
    count: int = await (await driver(connection)).fetchval(
        "SELECT count(*) FROM projections.messages WHERE campaign_id = $1"
        " AND sent_at > now() - make_interval(secs => $2)",
        campaign_id,
        float(RATE_WINDOW_S),
    )
    return count


async def recipients(
    connection: AsyncConnection,
    campaign_id: UUID,
    after: UUID | None,
    limit: int,
    *,
    states: Sequence[str] = (),
    search: str | None = None,
) -> Sequence[Row]:
    """In the order of their ids; served by the read model's index on campaign and id."""
    return await (await driver(connection)).fetch(
        "SELECT id AS recipient_id, contact_id, external_id, phone_number, name, custom_fields, status, state, reason,"
        " delivery_status, sent_at, replied_at, error_message,"
        " id IN (SELECT recipient_id FROM projections.possibly_twice WHERE campaign_id = $1) AS possibly_twice"
        " FROM projections.campaign_contacts"
        " WHERE campaign_id = $1 AND ($2::uuid IS NULL OR id > $2)"
        " AND (cardinality($3::text[]) = 0 OR state = ANY($3) OR status = ANY($3) OR delivery_status = ANY($3))"
        " AND ($4::text IS NULL OR strpos(lower(coalesce(name, '')), lower($4)) > 0 OR strpos(phone_number, $4) > 0"
        " OR external_id = $4) ORDER BY id LIMIT $5",
        campaign_id,
        after,
        list(states),
        search,
        limit,
    )
