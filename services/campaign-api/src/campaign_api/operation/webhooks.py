"""Webhooks that could not be translated: how many there are, and what is ordered for them."""

from collections.abc import Sequence
from uuid import UUID

from asyncpg import Record
from sqlalchemy.ext.asyncio import AsyncConnection

from campaign_api.operation.models import DeadLetterFilter, WebhookFigures
from chassis.database import driver
from contracts.instances import UnreadWebhookSettled, WebhookLeftUnread

GROUPS_MAX = 500
# As long as webhook-ingest keeps them.
FORGET = "DELETE FROM unread_webhook WHERE told_at < now() - interval '30 days'"
_NOTE = """
INSERT INTO unread_webhook AS u (account_id, id, instance_id, reason, received_at, told_at)
VALUES ($1, $2, $3, $4, $5, $6) ON CONFLICT (account_id, id) DO UPDATE SET reason = excluded.reason
"""
_FIGURES = """
SELECT count(*) AS dead_letters, extract(epoch FROM now() - min(received_at))::float8 AS oldest_age_s
FROM unread_webhook WHERE $1::uuid IS NULL OR instance_id = $1
"""
_GROUPS = """
SELECT NULL::uuid AS campaign_id, instance_id, reason, 'released' AS fate, count(*) AS count FROM unread_webhook
WHERE ($1::uuid IS NULL OR instance_id = $1) AND (cardinality($2::uuid[]) = 0 OR id = ANY($2))
  AND ($3::text IS NULL OR reason = $3)
GROUP BY instance_id, reason ORDER BY count DESC, instance_id, reason
"""


async def note(
    connection: AsyncConnection, account_id: UUID, instance_id: UUID, event: WebhookLeftUnread | UnreadWebhookSettled
) -> None:
    """Worker's role. The events of one webhook come in order: they are keyed by its number."""
    raw = await driver(connection)
    if isinstance(event, WebhookLeftUnread):
        told = (event.webhook_id, instance_id, event.reason, event.received_at, event.at)
        await raw.execute(_NOTE, account_id, *told)
    else:
        await raw.execute("DELETE FROM unread_webhook WHERE account_id = $1 AND id = $2", account_id, event.webhook_id)


async def figures(connection: AsyncConnection, instance_id: UUID | None) -> WebhookFigures:
    row = await (await driver(connection)).fetchrow(_FIGURES, instance_id)
    assert row is not None
    return WebhookFigures(dead_letters=row["dead_letters"], oldest_age_s=row["oldest_age_s"])


async def groups(connection: AsyncConnection, asked: DeadLetterFilter) -> Sequence[Record]:
    named = list(asked.named())
    rows: Sequence[Record] = await (await driver(connection)).fetch(_GROUPS, asked.instance_id, named, asked.reason)
    return rows
