"""Rows of one batch, folded to one per (account, id), in every writer's order, and the statement that takes them.

A fold is a least upper bound: the order of the rows and repetitions change nothing.
"""

from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any, Final, TypeVar
from uuid import UUID

import asyncpg
from asyncpg.pgproto import pgproto

R = TypeVar("R", bound=tuple[Any, ...])
# Account and id as whole numbers: these are hashed and compared much faster than UUIDs.
Key = tuple[int, int]
# The driver's UUID equals uuid.UUID and is read from text, hashed and written ten times as fast.
read_id: Final[Callable[[str], UUID]] = pgproto.UUID


def fold(rows: Iterable[R], join: Callable[[R, R], R]) -> dict[Key, R]:
    """`rows` begin with account and id; `join` makes one of two rows of one id."""
    folded: dict[Key, R] = {}
    for row in rows:
        key = row[0].int, row[1].int
        known = folded.get(key)
        folded[key] = row if known is None else join(known, row)
    return folded


def in_order(folded: Mapping[Key, R]) -> list[R]:
    """Every writer's order: no two batches can wait for each other's rows crosswise."""
    return [folded[key] for key in sorted(folded)]


def least(place: int) -> Callable[[R, R], R]:
    """A join that keeps the row with the smaller value at `place`."""
    return lambda one, other: other if other[place] < one[place] else one


def greatest(place: int) -> Callable[[R, R], R]:
    """A join that keeps the row with the greater value at `place`."""
    return lambda one, other: other if other[place] > one[place] else one


async def run(connection: asyncpg.Connection, statement: str, rows: Sequence[tuple[Any, ...]]) -> list[Any]:
    """Runs a statement over `rows`, a list of one of the given_… types; nothing if there are none.

    One row per key, sorted by key. A list of rows and not a list a column: the driver looks at each cell of those, to
    see whether it is a list itself.
    """
    if not rows:
        return []
    found: list[Any] = await connection.fetch(statement, rows)
    return found
