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
from chassis.kafka import Encoded
from chassis.telemetry import current_traceparent
from contracts import ids
from contracts.campaigns import CampaignEvent, CampaignStarted, RecipientsAdded
from contracts.envelope import Envelope, write_headers
from contracts.topics import CAMPAIGN_API, CAMPAIGN_RECIPIENTS

CHUNKS_AT_ONCE = 16  # of at most 512 KB each

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
    """All chunks into the outbox as they were stored, with ids that a repetition would repeat."""
    key, traceparent = str(campaign_id), current_traceparent()
    async for chunks in store.chunks(connection, account_id, campaign_id, at_once=CHUNKS_AT_ONCE):
        await outbox.append_encoded(
            connection,
            [
                Encoded(
                    CAMPAIGN_RECIPIENTS.name,
                    key.encode(),
                    chunk.value,
                    write_headers(
                        Envelope(
                            id=ids.event_id(CAMPAIGN_API, key, f"recipients:{chunk.number}"),
                            type=RecipientsAdded.__name__,
                            version=RecipientsAdded.VERSION,
                            source=CAMPAIGN_API,
                            subject=key,
                            time=now,
                            account_id=account_id,
                            traceparent=traceparent,
                        )
                    ),
                )
                for chunk in chunks
            ],
        )
