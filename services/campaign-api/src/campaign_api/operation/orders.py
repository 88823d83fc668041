"""Orders to other services: written in the transaction of what they follow from."""

from datetime import datetime
from uuid import UUID

from sqlalchemy.ext.asyncio import AsyncConnection

from chassis import outbox
from chassis.kafka import outgoing
from contracts.envelope import Event
from contracts.topics import CAMPAIGN_API, OPERATIONS


async def give(
    connection: AsyncConnection, account_id: UUID, event: Event, now: datetime, event_id: UUID | None = None
) -> None:
    record = outgoing(
        OPERATIONS,
        str(account_id),
        event,
        source=CAMPAIGN_API,
        account_id=account_id,
        time=now,
        event_id=event_id,
    )
    await outbox.append(connection, [record])
