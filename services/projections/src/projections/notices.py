"""Small notices for live screens: what changed, at most one per row and interval, always with its latest figures."""

import asyncio
from collections.abc import Iterable, Sequence
from datetime import datetime
from typing import Any, Final
from uuid import UUID

import asyncpg
import orjson

from chassis import kafka
from chassis.database import Database, driver, is_passing
from chassis.kafka import Outgoing, Producer, outgoing
from chassis.lifecycle import pause, utc_now
from chassis.telemetry import log
from contracts.changes import ViewChanged
from contracts.topics import CHANGES, PROJECTIONS
from projections.timeline import Place, Touched

# Of more, a screen loads its list anew.
CONTACTS_NAMED_MAX: Final = 100
_CAMPAIGNS: Final = """
SELECT s.account_id, s.campaign_id,
    (to_jsonb(s) - 'account_id' - 'campaign_id' || jsonb_build_object('status', c.status))::text
FROM unnest($1::uuid[], $2::uuid[]) w (account_id, id)
JOIN campaign_statistics s ON s.account_id = w.account_id AND s.campaign_id = w.id
JOIN campaigns c ON c.account_id = w.account_id AND c.id = w.id
"""
_CONVERSATIONS: Final = """
SELECT c.account_id, c.id, jsonb_build_object(
    'last_message_at', c.last_message_at, 'last_message_id', c.last_message_id, 'delivery_status', c.delivery_status,
    'last_message_direction', c.last_message_direction, 'unread_count', c.unread_count, 'state', c.state,
    'assignee_id', c.assignee_id, 'instance_id', c.instance_id)::text
FROM unnest($1::uuid[], $2::uuid[]) w (account_id, id)
JOIN conversations c ON c.account_id = w.account_id AND c.id = w.id
"""
_INSTANCES: Final = """
SELECT i.account_id, i.id, jsonb_build_object('status', i.status, 'connection_status', i.connection_status,
    'breaker', i.breaker, 'messaging_tier', i.messaging_tier)::text
FROM unnest($1::uuid[], $2::uuid[]) w (account_id, id)
JOIN whatsapp_instances i ON i.account_id = w.account_id AND i.id = w.id
"""


async def tell(
    touched: Sequence[Touched], database: Database, producer: Producer, *, every_s: float, stopping: asyncio.Event
) -> None:
    """Publishes what the consumers touched, every `every_s` seconds, until `stopping`; what failed, with the next."""
    changed = Touched()
    while not stopping.is_set():
        await pause(stopping, every_s)
        for one in touched:
            changed.add(one)
            one.clear()
        try:
            await producer.publish(await _read_notices(database, changed, utc_now()))
            changed.clear()
        except Exception as error:
            if not (is_passing(error) or kafka.passes(error)):
                raise
            log.warning("notices_wait", error=type(error).__name__)


async def _read_notices(database: Database, changed: Touched, now: datetime) -> list[Outgoing]:
    if changed.empty:
        return []
    async with database.transaction() as connection:
        raw = await driver(connection)
        notices = [
            *await _summaries(raw, "campaign", _CAMPAIGNS, changed.campaigns),
            *await _summaries(raw, "conversation", _CONVERSATIONS, changed.conversations),
            *await _summaries(raw, "instance", _INSTANCES, changed.instances),
            *contact_notices(changed.contacts),
        ]
    return [
        outgoing(CHANGES, str(account_id), notice, source=PROJECTIONS, account_id=account_id, time=now)
        for account_id, notice in notices
    ]


def contact_notices(places: Iterable[Place]) -> list[tuple[UUID, ViewChanged]]:
    """One of each account, however many contacts a campaign binds: `ids` if they are few, else how many."""
    of_account: dict[UUID, list[UUID]] = {}
    for account_id, contact_id in places:
        of_account.setdefault(account_id, []).append(contact_id)
    notices: list[tuple[UUID, ViewChanged]] = []
    for account_id, ids in of_account.items():
        summary: dict[str, Any] = {"changed": len(ids)}
        if len(ids) <= CONTACTS_NAMED_MAX:
            ids.sort()
            summary["ids"] = [str(contact_id) for contact_id in ids]
        notices.append((account_id, ViewChanged(view="contact", id=ids[0], summary=summary)))
    return notices


async def _summaries(
    connection: asyncpg.Connection, view: Any, statement: str, places: Iterable[Place]
) -> list[tuple[UUID, ViewChanged]]:
    wanted = sorted(places)
    if not wanted:
        return []
    rows = await connection.fetch(statement, *zip(*wanted, strict=True))
    return [(row[0], ViewChanged(view=view, id=row[1], summary=orjson.loads(row[2]))) for row in rows]
