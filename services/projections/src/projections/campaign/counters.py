"""Campaign statistics: counts of recipients, moved only by transitions of their rows.

Those of dispatches (`dispatches_…`) are moved by the statement that changes dispatches: dispatches.UPSERT.
"""

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from typing import Any, Final
from uuid import UUID

import asyncpg

from projections.conversation.messages import DELIVERED, READ

Measure = tuple[str, str]
Place = tuple[UUID, UUID, str, str]

_WITH_REASON: Final = ("failed", "skipped")
_NAMES: Final = {"accepted": "sent"}


def contribute(
    added: bool,
    state: str,
    queued: bool,
    reason: str | None,
    delivery: int,
    replied: bool,
) -> dict[Measure, int]:
    """What one recipient adds to its campaign's figures: nothing until it is known as imported."""
    if not added:
        return {}
    counts: dict[Measure, int] = {("total", ""): 1}
    counts[_NAMES.get(state, state), (reason or "") if state in _WITH_REASON else ""] = 1
    if queued:
        counts["queued", ""] = 1
    if state == "accepted" and delivery >= DELIVERED:
        counts["delivered", ""] = 1
    if state == "accepted" and delivery >= READ:
        counts["read", ""] = 1
    if replied:
        counts["replied", ""] = 1
    return counts


def count_moves(moves: Iterable[Sequence[Any]]) -> dict[Place, int]:
    """Differences of what rows contribute, from the transitions that recipients' statements return, with how many."""
    change: Counter[Place] = Counter()
    for account_id, campaign_id, *sides, rows in moves:
        for side, sign in ((sides[:6], -rows), (sides[6:], rows)):
            for (measure, reason), count in contribute(*side).items():
                change[account_id, campaign_id, measure, reason] += sign * count
    return {place: count for place, count in change.items() if count}


_ADD: Final = """
INSERT INTO campaign_counter AS c (account_id, campaign_id, measure, reason, value)
SELECT * FROM unnest($1::uuid[], $2::uuid[], $3::text[], $4::text[], $5::bigint[])
ON CONFLICT (account_id, campaign_id, measure, reason) DO UPDATE SET value = c.value + excluded.value
RETURNING new.value = 0
"""
# A count that came back to nothing leaves no row: whether it was ever more depends on the batches. A few per campaign.
_CLEAR: Final = """
DELETE FROM campaign_counter c USING unnest($1::uuid[], $2::uuid[]) w (account_id, campaign_id)
WHERE c.account_id = w.account_id AND c.campaign_id = w.campaign_id AND c.value = 0
"""


async def add(connection: asyncpg.Connection, change: Mapping[Place, int]) -> None:
    """Moves the counters, in the transaction of the transitions. By primary key, in its order."""
    if not change:
        return
    places = sorted(change)
    columns = [list(column) for column in zip(*places, strict=True)]
    emptied = await connection.fetch(_ADD, *columns, [change[place] for place in places])
    if any(row[0] for row in emptied):
        await clear(connection, {place[:2] for place in places})


async def clear(connection: asyncpg.Connection, campaigns: Iterable[tuple[UUID, UUID]]) -> None:
    """After counts of these campaigns, (account, id), came to nothing."""
    places = sorted(campaigns)
    if places:
        await connection.execute(
            _CLEAR, [account_id for account_id, _ in places], [campaign_id for _, campaign_id in places]
        )
