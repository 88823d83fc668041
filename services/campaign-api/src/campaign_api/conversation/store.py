"""Conversations and messages from the read models; their streams are written here."""

from collections.abc import Sequence
from datetime import datetime
from typing import TypeAlias
from uuid import UUID

from asyncpg import Record
from sqlalchemy.ext.asyncio import AsyncConnection

from campaign_api.event_store import Stream
from chassis.database import driver
from contracts.topics import CONVERSATIONS

Row: TypeAlias = Record


def stream(account_id: UUID, conversation_id: UUID) -> Stream:
    return Stream(account_id, "conversation", conversation_id, CONVERSATIONS)


async def one(connection: AsyncConnection, conversation_id: UUID) -> Row | None:
    return await (await driver(connection)).fetchrow(
        "SELECT * FROM projections.conversations WHERE id = $1", conversation_id
    )


async def some(
    connection: AsyncConnection,
    before: tuple[datetime, UUID] | None,
    limit: int,
    *,
    state: str | None,
    assignee_id: UUID | None,
    search: str | None,
) -> Sequence[Row]:
    """The latest message first. Chosen by the columns that the filters need; only what is chosen is shown in full."""
    at, conversation_id = before or (None, None)
    return await (await driver(connection)).fetch(
        "SELECT v.* FROM (SELECT id FROM projections.conversations WHERE last_message_at IS NOT NULL"
        " AND ($1::timestamptz IS NULL OR (last_message_at, id) < ($1, $2::uuid))"
        " AND ($3::text IS NULL OR state = $3) AND ($4::uuid IS NULL OR assignee_id = $4)"
        " AND ($5::text IS NULL OR strpos(lower(coalesce(contact_name, '')), lower($5)) > 0"
        " OR strpos(coalesce(phone_number, ''), $5) > 0)"
        " ORDER BY last_message_at DESC, id DESC LIMIT $6) chosen"
        " JOIN projections.conversations v USING (id) ORDER BY v.last_message_at DESC, v.id DESC",
        at,
        conversation_id,
        state,
        assignee_id,
        search,
        limit,
    )


async def messages(
    connection: AsyncConnection, conversation_id: UUID, before: tuple[datetime, UUID] | None, limit: int
) -> Sequence[Row]:
    """The newest first."""
    at, message_id = before or (None, None)
    return await (await driver(connection)).fetch(
        "SELECT * FROM projections.messages WHERE conversation_id = $1"
        " AND ($2::timestamptz IS NULL OR (created_at, id) < ($2, $3::uuid))"
        " ORDER BY created_at DESC, id DESC LIMIT $4",
        conversation_id,
        at,
        message_id,
        limit,
    )


async def instance_of(connection: AsyncConnection, contact_id: UUID) -> UUID | None:
    """The instance that the contact is bound to, else the account's default one."""
    found: UUID | None = await (await driver(connection)).fetchval(
        "SELECT coalesce((SELECT p.instance_id FROM projections.contacts p JOIN instance i ON i.id = p.instance_id"
        " WHERE $1 = ANY(p.contact_ids) LIMIT 1), (SELECT id FROM instance WHERE is_default LIMIT 1))",
        contact_id,
    )
    return found
