"""The health line: every half minute, what an operator would ask first. The same figures are metrics."""

import asyncio
import time
from typing import NamedTuple

import asyncpg

from chassis.database import Database, driver, is_passing
from chassis.health import resident_mb
from chassis.telemetry import gauge, log

EACH_S = 30.0
# A queue of millions is not counted out for a line of the log: at this number it says "so many or more".
COUNTED_MAX = 100_000
# Indexes dispatch_open, dispatch_dead, dispatch_people.
_FIGURES = """
SELECT
    (SELECT count(*) FROM (SELECT FROM dispatch WHERE ended_at IS NULL AND state = 'pending' LIMIT $1) p) AS pending,
    (SELECT coalesce(sum(in_flight), 0)::bigint FROM lane) AS processing,
    (SELECT count(*) FROM (
        SELECT FROM dispatch WHERE state IN ('failed', 'unresolved') AND state = 'failed' AND retryable LIMIT $1
    ) d) AS dead_letters,
    (SELECT count(*) FROM (
        SELECT FROM dispatch WHERE state IN ('failed', 'unresolved') AND state = 'unresolved' LIMIT $1
    ) u) AS unresolved
"""


class Figures(NamedTuple):
    """Of all accounts. `dead_letters`: those that could be tried again."""

    pending: int
    processing: int
    dead_letters: int
    unresolved: int


async def count(raw: asyncpg.Connection) -> Figures:
    row = await raw.fetchrow(_FIGURES, COUNTED_MAX)
    assert row is not None
    return Figures(*row)


async def tell_health(database: Database, stopping: asyncio.Event, each_s: float = EACH_S) -> None:
    """Until `stopping`. While PostgreSQL is away there is no line: that is another alarm's."""
    began_s = time.monotonic()
    gauges = [
        gauge("pombo_queue_pending", "Dispatches that wait, up to 100,000."),
        gauge("pombo_queue_processing", "Dispatches that are out and have no outcome."),
        gauge("pombo_queue_dead_letters", "Failed dispatches that could be tried again, up to 100,000."),
        gauge("pombo_queue_unresolved", "Dispatches that a person is to decide on, up to 100,000."),
    ]
    while not stopping.is_set():
        try:
            async with asyncio.timeout(each_s):
                await stopping.wait()
                return
        except TimeoutError:
            pass
        try:
            async with database.transaction() as connection:
                figures = await count(await driver(connection))
        except Exception as error:
            if not is_passing(error):
                raise
            log.warning("health_unknown", error=type(error).__name__)
            continue
        for metric, figure in zip(gauges, figures, strict=True):
            metric.set(figure)
        log.info(
            "health",
            uptime_s=int(time.monotonic() - began_s),
            memory_mb=resident_mb(),
            **figures._asdict(),
        )
