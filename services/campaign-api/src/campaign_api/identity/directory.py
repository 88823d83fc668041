"""Tells the read models what an account keeps in plain tables: whole rows, in the transaction of their change."""

from datetime import datetime
from uuid import UUID

from sqlalchemy.ext.asyncio import AsyncConnection

from chassis import outbox
from chassis.kafka import outgoing
from contracts.directory import DirectoryEvent
from contracts.topics import CAMPAIGN_API, DIRECTORY


async def publish(
    connection: AsyncConnection, account_id: UUID, row_id: UUID, event: DirectoryEvent, now: datetime
) -> None:
    record = outgoing(DIRECTORY, str(row_id), event, source=CAMPAIGN_API, account_id=account_id, time=now)
    await outbox.append(connection, [record])
