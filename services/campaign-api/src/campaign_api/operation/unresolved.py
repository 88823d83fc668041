"""Messages of which nobody can tell whether they were sent: for a person to look at and to decide."""

from collections.abc import Sequence
from datetime import datetime
from uuid import UUID

from asyncpg import Record
from fastapi import APIRouter
from pydantic import BaseModel
from sqlalchemy.ext.asyncio import AsyncConnection

from campaign_api.door import cursors
from campaign_api.door.idempotency import IdempotentRoute
from campaign_api.door.parts import Here
from campaign_api.door.principal import Operator
from campaign_api.door.problems import responses
from chassis.database import driver

router = APIRouter(prefix="/api", tags=["queue"], route_class=IdempotentRoute)

_UNRESOLVED = """
SELECT id, campaign_id, instance_id, contact_id, phone_number, name, order_index, content_type, content, attempt,
       updated_at AS since
FROM projections.message_queue
WHERE state = 'unresolved' AND ($1::uuid IS NULL OR campaign_id = $1) AND ($2::uuid IS NULL OR instance_id = $2)
  AND ($3::timestamptz IS NULL OR (updated_at, id) > ($3, $4::uuid))
ORDER BY updated_at, id LIMIT $5
"""


class Unresolved(BaseModel):
    """One message. `attempt`: the one that may have arrived; sending it again may be a duplicate."""

    id: UUID
    campaign_id: UUID | None
    instance_id: UUID | None
    contact_id: UUID | None
    phone_number: str | None
    name: str | None
    order_index: int | None
    content_type: str | None
    content: str | None
    attempt: int | None
    since: datetime


@router.get("/whatsapp/queue/unresolved", responses=responses(400))
async def unresolved(
    principal: Operator,
    parts: Here,
    page: cursors.Hundred,
    campaign_id: UUID | None = None,
    instance_id: UUID | None = None,
) -> list[Unresolved]:
    """The oldest first. `POST /api/whatsapp/queue/unresolved/{id}` decides about one."""
    async with parts.web.transaction(account_id=principal.account_id, session=principal.session) as connection:
        rows = await _load(connection, page, campaign_id, instance_id)
    return [Unresolved(**row) for row in page.cut(rows, "since", "id")]


async def _load(
    connection: AsyncConnection, page: cursors.Page, campaign_id: UUID | None, instance_id: UUID | None
) -> Sequence[Record]:
    since, last_id = page.after_moment() or (None, None)
    raw = await driver(connection)
    return await raw.fetch(_UNRESOLVED, campaign_id, instance_id, since, last_id, page.fetched)
