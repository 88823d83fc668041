"""The audience of a campaign as it comes in, chunk by chunk."""

from collections.abc import Sequence
from uuid import UUID

import orjson
from sqlalchemy.ext.asyncio import AsyncConnection

from chassis.database import driver
from chassis.kafka import Received
from contracts import ids
from contracts.campaigns import RecipientsAdded
from scheduler.campaign.campaigns import account_of
from scheduler.plan.assignment import position

_CHUNKS = """
INSERT INTO chunk (campaign_id, account_id, chunk)
SELECT * FROM unnest($1::uuid[], $2::uuid[], $3::int[]) ON CONFLICT DO NOTHING RETURNING campaign_id, chunk
"""
_COLUMNS = (
    "campaign_id", "account_id", "recipient_id", "position", "contact_id", "recipient_key", "phone", "name",
    "custom_fields",
)  # fmt: skip
_STAGING = """
CREATE TEMPORARY TABLE IF NOT EXISTS recipient_staging (campaign_id uuid, account_id uuid, recipient_id uuid,
    position bigint, contact_id uuid, recipient_key text, phone text, name text, custom_fields text)
ON COMMIT DELETE ROWS
"""
# Index of recipient's positions: nobody of the audience before, when the first chunk of another one is in.
_REPLACE = "DELETE FROM recipient WHERE campaign_id = $1 AND position < $2"
# Of a draft that was deleted before its audience came in.
_DELETED = """
INSERT INTO chore (campaign_id, account_id, kind)
SELECT campaign_id, account_id, 'delete'
FROM (SELECT campaign_id, account_id, status FROM campaign WHERE campaign_id = ANY($1::uuid[])
      ORDER BY campaign_id FOR SHARE) c
WHERE status = 'deleted' ON CONFLICT DO NOTHING
"""
# The same person twice in an audience: the first place counts.
_INSERT = f"""
INSERT INTO recipient ({", ".join(_COLUMNS)}) SELECT {", ".join(_COLUMNS)} FROM recipient_staging
ON CONFLICT DO NOTHING
"""  # noqa: S608


async def add_recipients(connection: AsyncConnection, batch: Sequence[Received]) -> None:
    """An audience's chunks in any order, before or after the start; the same chunk again changes nothing.

    Those of an audience that was replaced are in before those of the next: one key, one order.
    """
    raw = await driver(connection)
    chunks = [(UUID(one.envelope.subject), account_of(one), one.event) for one in batch]
    added = [(campaign, account, event) for campaign, account, event in chunks if isinstance(event, RecipientsAdded)]
    if not added:
        return
    rows = await raw.fetch(
        _CHUNKS,
        [campaign for campaign, _, _ in added],
        [account for _, account, _ in added],
        [event.chunk for _, _, event in added],
    )
    new = {(row["campaign_id"], row["chunk"]) for row in rows}
    firsts: dict[UUID, int] = {}
    for campaign, _, event in added:
        if (campaign, event.chunk) in new and event.first_chunk > firsts.get(campaign, 0):
            firsts[campaign] = event.first_chunk
    for campaign in sorted(firsts):
        await raw.execute(_REPLACE, campaign, position(firsts[campaign], 0))
    recipients: list[tuple[object, ...]] = []
    for campaign, account, event in added:
        if (campaign, event.chunk) in new:
            new.remove((campaign, event.chunk))
            if event.chunk >= firsts.get(campaign, 0):
                recipients.extend(_rows(campaign, account, event))
    if recipients:
        await raw.execute(_DELETED, list({campaign for campaign, _, _ in added}))
        await raw.execute(_STAGING)
        await raw.copy_records_to_table("recipient_staging", records=recipients, columns=_COLUMNS)
        await raw.execute(_INSERT)


def _rows(campaign_id: UUID, account_id: UUID, event: RecipientsAdded) -> list[tuple[object, ...]]:
    first, phone_key, dumps = position(event.chunk, 0), ids.phone_key, orjson.dumps
    return [
        (
            campaign_id,
            account_id,
            person.recipient_id,
            first + index,
            person.contact_id,
            phone_key(person.phone),
            person.phone,
            person.name,
            dumps(person.custom_fields).decode() if person.custom_fields else "{}",
        )
        for index, person in enumerate(event.recipients)
    ]
