"""Applies decisions to a campaign: events, the row beside them, and the audience once it starts. One transaction."""

from collections.abc import Callable, Sequence
from datetime import datetime
from uuid import UUID

from sqlalchemy.ext.asyncio import AsyncConnection

from campaign_api.campaign import campaign as decisions
from campaign_api.campaign import store
from campaign_api.campaign.campaign import Campaign
from campaign_api.event_store import Recorded, decide_in
from chassis import outbox
from chassis.kafka import outgoing
from contracts import ids
from contracts.campaigns import CampaignEvent, CampaignStarted
from contracts.topics import CAMPAIGN_API, CAMPAIGN_RECIPIENTS

Decide = Callable[[Campaign], Sequence[CampaignEvent]]


async def apply(
    connection: AsyncConnection,
    account_id: UUID,
    campaign_id: UUID,
    decide: Decide,
    *,
    now: datetime,
    expected_version: int | None = None,
) -> Recorded[Campaign]:
    """Raises Refused, VersionMismatch, Conflict."""
    stream = store.stream(account_id, campaign_id)
    recorded = await decide_in(
        connection,
        stream,
        decisions.evolve,
        decisions.INITIAL,
        decide,
        now=now,
        expected_version=expected_version,
    )
    if recorded.events:
        await store.write(connection, stream, recorded, now)
        if any(isinstance(event, CampaignStarted) for event in recorded.events):
            await _publish_audience(connection, account_id, campaign_id, now)
    return recorded


async def _publish_audience(connection: AsyncConnection, account_id: UUID, campaign_id: UUID, now: datetime) -> None:
    """All chunks into the outbox, with ids that a repetition would repeat."""
    async for chunk in store.chunks(connection, account_id, campaign_id):
        record = outgoing(
            CAMPAIGN_RECIPIENTS,
            str(campaign_id),
            chunk,
            source=CAMPAIGN_API,
            account_id=account_id,
            time=now,
            event_id=ids.event_id(CAMPAIGN_API, str(campaign_id), f"recipients:{chunk.chunk}"),
        )
        await outbox.append(connection, [record])
