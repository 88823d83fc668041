"""Orders to other services: written in the transaction of what they follow from."""

from uuid import UUID

from sqlalchemy.ext.asyncio import AsyncConnection

from campaign_api.door.parts import Parts
from campaign_api.door.principal import Principal
from chassis import outbox
from chassis.kafka import outgoing
from contracts.envelope import Event
from contracts.topics import CAMPAIGN_API, OPERATIONS


async def give(
    connection: AsyncConnection, parts: Parts, principal: Principal, event: Event, event_id: UUID | None = None
) -> None:
    record = outgoing(
        OPERATIONS,
        str(principal.account_id),
        event,
        source=CAMPAIGN_API,
        account_id=principal.account_id,
        time=parts.now(),
        event_id=event_id,
    )
    await outbox.append(connection, [record])
