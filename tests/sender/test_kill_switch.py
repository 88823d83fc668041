"""A kill-switch as the provider sees it: the sender's process, real Kafka and PostgreSQL, the simulator's own log."""

import time
from datetime import UTC, datetime
from pathlib import Path
from uuid import UUID

import pytest

from backing import MakeDatabase
from chassis.kafka import outgoing
from contracts import topics
from contracts.messages import MessageAmbiguous, MessageFailed, MessageReturned, MessageSent
from contracts.operations import HoldScope, HoldSet
from contracts.progress import HoldTaken
from sender_parts import ACCOUNT, migrated
from sender_stage import Stage, add_number, staged
from simulated_providers import eventually

pytestmark = [pytest.mark.postgres, pytest.mark.kafka, pytest.mark.stack]
PER_S, MESSAGES = 40, 300
# Intents are made a quarter of a second ahead at most: what was intended before the order may leave.
ON_ITS_WAY = PER_S // 2


async def order(stage: Stage, scope: HoldScope, key: str, *, held: bool, version: int) -> None:
    stage.mine.add(str(ACCOUNT))
    record = outgoing(
        topics.OPERATIONS,
        str(ACCOUNT),
        HoldSet(scope=scope, key=key, held=held, version=version),
        source="tests",
        account_id=ACCOUNT,
        time=datetime.now(UTC),
    )
    await stage.producer.publish([record])
    wanted = HoldTaken(scope=scope, key=key, held=held, version=version)
    await eventually(lambda: wanted in stage.of(HoldTaken), deadline_s=60)


def arrivals(stage: Stage) -> list[float]:
    """When the provider began to read each request, by the clock that this process reads as well."""
    return [line["mono_ns"] / 1e9 for line in stage.simulator.lines("request_open")]


@pytest.mark.parametrize("scope", ["instance", "account"])
async def test_once_a_hold_is_taken_only_what_was_on_its_way_arrives(
    database_factory: MakeDatabase, kafka_bootstrap: str, tmp_path: Path, scope: HoldScope
) -> None:
    async with staged(database_factory(migrated), kafka_bootstrap, tmp_path, None) as stage:
        number: UUID = await add_number(stage, messages_per_second=PER_S, target_per_second=PER_S)
        key = str(number) if scope == "instance" else ""
        stage.senders.start()
        await stage.queue(number, MESSAGES)
        await eventually(lambda: len(arrivals(stage)) >= PER_S // 2, deadline_s=60)
        await order(stage, scope, key, held=True, version=1)
        taken_s = time.monotonic()

        def held() -> set[str]:
            return stage.dispatches(MessageReturned)

        await eventually(lambda: len(stage.dispatches(MessageSent) | held()) == MESSAGES, deadline_s=120)
        assert {event.reason for event in stage.of(MessageReturned)} <= {"held", "expired"}
        assert "held" in {event.reason for event in stage.of(MessageReturned)}
        assert stage.of(MessageFailed, MessageAmbiguous) == []
        seen = arrivals(stage)
        assert len(seen) == len(stage.dispatches(MessageSent)) < MESSAGES
        assert len([at for at in seen if at > taken_s]) <= ON_ITS_WAY

        # More is queued while it holds, and comes back as well; released, what is queued then goes.
        await stage.queue(number, 20)
        await eventually(lambda: len(stage.dispatches(MessageSent) | held()) == MESSAGES + 20, deadline_s=60)
        assert len(arrivals(stage)) == len(seen)
        await order(stage, scope, key, held=False, version=2)
        await stage.queue(number, 5)

        async def gone() -> bool:
            await stage.release_again()
            return len(arrivals(stage)) >= len(seen) + 5

        await eventually(gone, deadline_s=60)
