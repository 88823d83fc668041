"""Applies decisions to a campaign: events, and the row beside them. One transaction."""

from collections.abc import Callable, Sequence
from datetime import datetime
from uuid import UUID

from sqlalchemy.ext.asyncio import AsyncConnection

from campaign_api.campaign import campaign as decisions
from campaign_api.campaign import store
from campaign_api.campaign.campaign import Campaign
from campaign_api.event_store import Recorded, decide_in
from contracts.campaigns import CampaignEvent

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
    await store.lock(connection, account_id, campaign_id)
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
    return recorded
