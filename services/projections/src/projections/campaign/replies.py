"""Who replied: the first inbound within 72 h of the latest accepted campaign message of the same conversation."""

from bisect import bisect_right
from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from datetime import datetime, timedelta
from typing import Final, NamedTuple
from uuid import UUID

import asyncpg

WINDOW: Final = timedelta(hours=72)
Place = tuple[UUID, UUID]


class CampaignSend(NamedTuple):
    sent_at: datetime
    message_id: UUID
    recipient_id: UUID | None


def find_replies(sends: Iterable[CampaignSend], inbound: Iterable[datetime]) -> dict[CampaignSend, datetime | None]:
    """When each campaign message was replied to, None if it was not."""
    ordered = sorted(sends)
    times = [send.sent_at for send in ordered]
    replied: dict[CampaignSend, datetime | None] = dict.fromkeys(ordered)
    for at in sorted(inbound):
        latest = bisect_right(times, at) - 1
        if latest < 0:
            continue
        send = ordered[latest]
        if at - send.sent_at <= WINDOW and replied[send] is None:
            replied[send] = at
    return replied


# By message_conversation, as in recipients.SUMMARIES. `at` is the later of sent_at and the echo's time: an hour more
# covers their difference.
_EXCHANGE: Final = """
SELECT w.account_id, w.conversation_id, m.id, m.recipient_id, m.sent_at, m.message_at
FROM unnest($1::uuid[], $2::uuid[], $3::timestamptz[], $4::timestamptz[]) w (account_id, conversation_id, low, high)
CROSS JOIN LATERAL (SELECT * FROM message
    WHERE conversation_id = w.conversation_id AND account_id IS NOT DISTINCT FROM w.account_id
        AND at BETWEEN w.low - interval '1 hour' AND w.high + interval '1 hour'
        AND (campaign_id IS NOT NULL OR (direction = 'in' AND send_event IS NULL)) OFFSET 0) m
"""
_SET: Final = """
INSERT INTO reply AS r (account_id, message_id, conversation_id, recipient_id, replied_at)
SELECT * FROM unnest($1::uuid[], $2::uuid[], $3::uuid[], $4::uuid[], $5::timestamptz[])
ON CONFLICT (account_id, message_id) DO UPDATE SET conversation_id = excluded.conversation_id,
    recipient_id = excluded.recipient_id, replied_at = excluded.replied_at
WHERE (r.conversation_id, r.recipient_id, r.replied_at)
    IS DISTINCT FROM (excluded.conversation_id, excluded.recipient_id, excluded.replied_at)
RETURNING new.account_id, new.recipient_id
"""
_UNSET: Final = """
DELETE FROM reply r USING unnest($1::uuid[], $2::uuid[]) w (account_id, message_id)
WHERE r.account_id = w.account_id AND r.message_id = w.message_id
RETURNING r.account_id, r.recipient_id
"""


async def refresh(
    connection: asyncpg.Connection, touched: Mapping[Place, Sequence[datetime]]
) -> set[tuple[UUID, UUID]]:
    """Finds the replies of conversations around the given times again; answers the recipients that changed."""
    places = sorted(touched)
    if not places:
        return set()
    lows = [min(touched[place]) - WINDOW for place in places]
    highs = [max(touched[place]) + WINDOW for place in places]
    rows = await connection.fetch(
        _EXCHANGE, [account_id for account_id, _ in places], [chat_id for _, chat_id in places], lows, highs
    )
    sends: dict[Place, list[CampaignSend]] = defaultdict(list)
    inbound: dict[Place, list[datetime]] = defaultdict(list)
    for account_id, chat_id, message_id, recipient_id, sent_at, message_at in rows:
        if sent_at is not None:
            sends[account_id, chat_id].append(CampaignSend(sent_at, message_id, recipient_id))
        else:
            inbound[account_id, chat_id].append(message_at)
    replied, unreplied = [], []
    for place, low, high in zip(places, lows, highs, strict=True):
        for send, at in find_replies(sends[place], inbound[place]).items():
            # Only those whose whole 72 hours were read.
            if not low <= send.sent_at <= high - WINDOW:
                continue
            if at is None:
                unreplied.append((place[0], send.message_id))
            else:
                replied.append((place[0], send.message_id, place[1], send.recipient_id, at))
    changed = []
    if replied:
        changed += await connection.fetch(_SET, *zip(*sorted(replied, key=lambda row: row[:2]), strict=True))
    if unreplied:
        changed += await connection.fetch(_UNSET, *zip(*sorted(unreplied), strict=True))
    return {(account_id, recipient_id) for account_id, recipient_id in changed if recipient_id is not None}
