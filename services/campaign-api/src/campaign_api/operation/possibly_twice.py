"""Messages that may have arrived more than once: every possible duplicate, by name."""

from datetime import datetime
from uuid import UUID

from fastapi import APIRouter
from pydantic import BaseModel

from campaign_api.door import cursors
from campaign_api.door.idempotency import IdempotentRoute
from campaign_api.door.parts import Here
from campaign_api.door.principal import Operator
from campaign_api.door.problems import responses
from chassis.database import driver

router = APIRouter(prefix="/api", tags=["queue"], route_class=IdempotentRoute)

_PAGE = """
SELECT id, campaign_id, recipient_id, contact_id, instance_id, phone_number, name, external_id, order_index, state,
       attempt, sent_at
FROM projections.possibly_twice
WHERE ($1::uuid IS NULL OR campaign_id = $1) AND ($2::uuid IS NULL OR id > $2) ORDER BY id LIMIT $3
"""


class PossiblyTwice(BaseModel):
    """`attempt`: how often it was sent at most. `state`: accepted, or unresolved where nobody knows of the last."""

    id: UUID
    campaign_id: UUID | None
    recipient_id: UUID | None
    contact_id: UUID | None
    instance_id: UUID | None
    phone_number: str | None
    name: str | None
    external_id: str | None
    order_index: int | None
    state: str
    attempt: int | None
    sent_at: datetime | None


@router.get("/whatsapp/queue/possibly-twice", responses=responses(400))
async def possibly_twice(
    principal: Operator, parts: Here, page: cursors.Hundred, campaign_id: UUID | None = None
) -> list[PossiblyTwice]:
    """Sent again although nobody knew what had become of the attempt before: by an `at_least_once` campaign, or because
    a person said so. Each is here, and nothing else is."""
    async with parts.web.transaction(account_id=principal.account_id, session=principal.session) as connection:
        raw = await driver(connection)
        rows = await raw.fetch(_PAGE, campaign_id, page.after(UUID), page.fetched)
    return [PossiblyTwice(**row) for row in page.cut(rows, "id")]
