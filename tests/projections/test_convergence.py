"""However the log is cut, repeated and mixed over topics and partitions, the tables are the same."""

import random

import asyncpg
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from projection_histories import draw_history
from projection_parts import draw_arrived, project, shuffle, split

pytestmark = pytest.mark.postgres
RELAXED = settings(
    max_examples=40, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow]
)


@RELAXED
@given(seed=st.integers(0, 2**32), order=st.integers(0, 2**32), batches=st.integers(1, 12))
async def test_any_order_repetition_and_batching_gives_the_same_tables(
    worker: asyncpg.Connection, seed: int, order: int, batches: int
) -> None:
    rng = random.Random(order)
    history = draw_arrived(draw_history(seed), rng)
    assert len(history) >= 30

    expected = await project(worker, [[record] for record in history])

    assert await project(worker, split(shuffle(history, rng), rng, batches)) == expected
