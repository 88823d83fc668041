"""Messages by quarter of an hour (so that every time zone has its days), of each campaign and each instance.

The statement that changes rows counts them too: nothing of the rows before and after has to leave the database.
"""

from collections.abc import Iterable
from typing import Final
from uuid import UUID

import asyncpg

# Thousands of rows move between a few quarters: they are grouped by these before each is looked at as what it counts.
_COUNTED: Final = """counted AS (
    INSERT INTO volume AS v (account_id, scope, scope_id, quarter, measure, value)
    SELECT t.account_id, s.scope, e.scope_id, e.quarter, s.measure, sum(e.rows)
    FROM (SELECT account_id, {columns}, count(*) AS rows FROM moved GROUP BY account_id, {columns}) t
    CROSS JOIN LATERAL (VALUES {moments}
    ) s (scope, new_id, old_id, measure, new_quarter, old_quarter)
    CROSS JOIN LATERAL (VALUES (s.new_id, s.new_quarter, t.rows), (s.old_id, s.old_quarter, -t.rows))
        e (scope_id, quarter, rows)
    WHERE (s.new_id, s.new_quarter) IS DISTINCT FROM (s.old_id, s.old_quarter) AND e.scope_id IS NOT NULL
        AND e.quarter IS NOT NULL
    GROUP BY 1, 2, 3, 4, 5 HAVING sum(e.rows) <> 0
    ON CONFLICT (account_id, scope, scope_id, quarter, measure) DO UPDATE SET value = v.value + excluded.value
    RETURNING new.account_id, new.value
)"""
# A count that came back to nothing leaves no row: whether it was ever more depends on the batches. Rare, so that the
# accounts' rows may be looked through.
_CLEAR: Final = "DELETE FROM volume WHERE account_id = ANY($1::uuid[]) AND value = 0"


def quarter(moment: str) -> str:
    """The beginning of the quarter of an hour of a moment, in SQL."""
    return f"date_bin('15 minutes', {moment}, '2000-01-01 00:00+00')"


def count_moved(columns: str, moments: str) -> str:
    """The part `counted` of a statement whose part `moved` tells the changed rows.

    `columns` of it that `moments` need; those are rows (scope, its id now, its id before, measure, the quarter in which
    it counts now, and before).
    """
    return _COUNTED.format(columns=columns, moments=moments)


async def clear(connection: asyncpg.Connection, account_ids: Iterable[UUID]) -> None:
    """After a statement whose `counted` has values of nothing."""
    await connection.execute(_CLEAR, sorted(set(account_ids)))
