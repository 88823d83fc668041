"""Messages by quarter of an hour (so that every time zone has its days), of each campaign and each instance.

The statement that changes rows counts them too: nothing of the rows before and after has to leave the database.
"""

from collections.abc import Iterable
from typing import Final
from uuid import UUID

import asyncpg

_COUNTED: Final = """counted AS (
    INSERT INTO volume AS v (account_id, scope, scope_id, quarter, measure, value)
    SELECT moved.account_id, s.scope, e.scope_id, date_bin('15 minutes', e.at, '2000-01-01 00:00+00'), s.measure,
        sum(e.sign)
    FROM moved CROSS JOIN LATERAL (VALUES {moments}
    ) s (scope, new_id, old_id, measure, new_at, old_at)
    CROSS JOIN LATERAL (VALUES (s.new_id, s.new_at, 1), (s.old_id, s.old_at, -1)) e (scope_id, at, sign)
    WHERE (s.new_id, s.new_at) IS DISTINCT FROM (s.old_id, s.old_at) AND e.scope_id IS NOT NULL AND e.at IS NOT NULL
    GROUP BY 1, 2, 3, 4, 5 HAVING sum(e.sign) <> 0
    ON CONFLICT (account_id, scope, scope_id, quarter, measure) DO UPDATE SET value = v.value + excluded.value
    RETURNING new.value
)"""
# A count that came back to nothing leaves no row: whether it was ever more depends on the batches. Rare, so that the
# accounts' rows may be looked through.
_CLEAR: Final = "DELETE FROM volume WHERE account_id = ANY($1::uuid[]) AND value = 0"


def count_moved(moments: str) -> str:
    """The part `counted` of a statement whose part `moved` tells the changed rows.

    `moments`: rows (scope, its id now, its id before, measure, when it counts now, when it counted before).
    """
    return _COUNTED.format(moments=moments)


async def clear(connection: asyncpg.Connection, account_ids: Iterable[UUID]) -> None:
    """After a statement whose `counted` has values of nothing."""
    await connection.execute(_CLEAR, sorted(set(account_ids)))
