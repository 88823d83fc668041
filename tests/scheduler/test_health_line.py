"""The health line counts what an operator would ask for, on a real PostgreSQL."""

import asyncio

import pytest
import structlog

from chassis.database import driver
from contracts import topics
from contracts.operations import DeadLettersCleared
from scheduler import health_line
from scheduler.health_line import Figures, count, tell_health
from scheduler_parts import (
    ACCOUNT,
    AT_ONCE,
    TWO_STEPS,
    Bench,
    add_instance,
    ambiguous,
    definition,
    failed,
    resolved,
    sent,
    start_campaign,
)

pytestmark = pytest.mark.postgres


async def figures(on: Bench) -> Figures:
    async with on.database.transaction() as connection:
        return await count(await driver(connection))


async def test_it_counts_what_waits_is_out_failed_or_is_to_be_decided(
    on: Bench, monkeypatch: pytest.MonkeyPatch
) -> None:
    instance_id = await add_instance(on)
    plan = definition([instance_id], steps=TWO_STEPS, policy=AT_ONCE.model_copy(update={"max_retries": 0}))
    await start_campaign(on, plan, 5)
    out = await on.turn()
    assert await figures(on) == Figures(pending=5, processing=5, dead_letters=0, unresolved=0)
    await on.tell(
        topics.MESSAGE_SENT,
        sent(out[0], instance_id),
        failed(out[1], instance_id),
        failed(out[2], instance_id, retryable=False),
        ambiguous(out[3], instance_id),
        resolved(out[3], instance_id, "unresolved"),
    )
    # The second steps of the first and the last person wait; those of the others were skipped.
    assert await figures(on) == Figures(pending=2, processing=1, dead_letters=1, unresolved=1)
    await on.tell(topics.OPERATIONS, (ACCOUNT, DeadLettersCleared()))
    assert (await figures(on)).dead_letters == 0
    monkeypatch.setattr(health_line, "COUNTED_MAX", 1)
    assert (await figures(on)).pending == 1


async def test_it_is_told_again_and_again_until_the_process_stops(on: Bench) -> None:
    stopping = asyncio.Event()
    with structlog.testing.capture_logs() as logged:
        async with asyncio.timeout(30), asyncio.TaskGroup() as tasks:
            tasks.create_task(tell_health(on.database, stopping, each_s=0.02))
            while len(logged) < 2:
                await asyncio.sleep(0.01)
            stopping.set()
    assert {line["event"] for line in logged} == {"health"}
    assert 10 < logged[0]["memory_mb"] < 10_000
    assert logged[0].keys() >= {"uptime_s", "memory_mb", "pending", "processing", "dead_letters", "unresolved"}
