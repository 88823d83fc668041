"""Messages by quarter of an hour (so that every time zone has its days), of each campaign and each instance."""

from collections import Counter
from collections.abc import Iterable, Iterator, Mapping
from datetime import UTC, datetime
from typing import Final
from uuid import UUID

import asyncpg

from projections.campaign.dispatches import effective_state
from projections.conversation.messages import DELIVERED
from projections.moves import DispatchMove, DispatchSide, MessageMove, MessageSide

Place = tuple[UUID, str, UUID, datetime, str]
# The same with the quarter as a number: cheaper to find and to compare.
_Slot = tuple[UUID, str, UUID, int, str]

QUARTER_S: Final = 15 * 60


def count_moves(messages: Iterable[MessageMove], dispatches: Iterable[DispatchMove]) -> dict[Place, int]:
    """Differences of what the rows contribute before and after."""
    change: Counter[_Slot] = Counter()
    for message in messages:
        old, new = set(_of_message(message.account_id, message.old)), set(_of_message(message.account_id, message.new))
        change.update(new - old)
        change.subtract(old - new)
    for dispatch in dispatches:
        if dispatch.old != dispatch.new:
            change.update(_of_dispatch(dispatch.account_id, dispatch.new))
            change.subtract(_of_dispatch(dispatch.account_id, dispatch.old))
    return {(*slot[:3], _begin(slot[3]), slot[4]): count for slot, count in change.items() if count}


def quarter(at: datetime) -> int:
    return int(at.timestamp()) // QUARTER_S


def _begin(number: int) -> datetime:
    return datetime.fromtimestamp(number * QUARTER_S, UTC)


def _of_message(account_id: UUID, message: MessageSide) -> Iterator[_Slot]:
    """Nothing until it is known what the message is: a status may come first."""
    if message.at is None or message.instance_id is None:
        return
    if message.direction == "in" and message.sent_at is None:
        yield account_id, "instance", message.instance_id, quarter(message.at), "received"
        return
    failed_at = message.failed_at if message.delivery < DELIVERED else None
    moments = (("sent", message.at), ("delivered", message.delivered_at), ("read", message.read_at))
    for measure, at in (*moments, ("failed", failed_at)):
        if at is not None:
            slot = quarter(at)
            yield account_id, "instance", message.instance_id, slot, measure
            if message.campaign_id is not None and measure != "failed":
                yield account_id, "campaign", message.campaign_id, slot, measure


def _of_dispatch(account_id: UUID, dispatch: DispatchSide) -> Iterator[_Slot]:
    """A campaign's failures are dispatches that ended failed, whether or not a message existed."""
    if dispatch.subject_id is None or dispatch.changed_at is None:
        return
    if effective_state(dispatch.state, dispatch.delivery) == "failed":
        yield account_id, "campaign", dispatch.subject_id, quarter(dispatch.changed_at), "failed"


_ADD: Final = """
INSERT INTO volume AS v (account_id, scope, scope_id, quarter, measure, value)
SELECT * FROM unnest($1::uuid[], $2::text[], $3::uuid[], $4::timestamptz[], $5::text[], $6::bigint[])
ON CONFLICT (account_id, scope, scope_id, quarter, measure) DO UPDATE SET value = v.value + excluded.value
RETURNING new.value = 0
"""
_CLEAR: Final = """
DELETE FROM volume v USING unnest($1::uuid[], $2::text[], $3::uuid[], $4::timestamptz[], $5::text[])
    w (account_id, scope, scope_id, quarter, measure)
WHERE v.account_id = w.account_id AND v.scope = w.scope AND v.scope_id = w.scope_id AND v.quarter = w.quarter
    AND v.measure = w.measure AND v.value = 0
"""


async def add(connection: asyncpg.Connection, change: Mapping[Place, int]) -> None:
    """Moves the counters, in the transaction of the transitions. By primary key, in its order."""
    if not change:
        return
    places = sorted(change)
    columns = [list(column) for column in zip(*places, strict=True)]
    emptied = await connection.fetch(_ADD, *columns, [change[place] for place in places])
    if any(row[0] for row in emptied):
        await connection.execute(_CLEAR, *columns)
