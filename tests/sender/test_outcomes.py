"""Outcomes reach the ledger whatever Kafka does; they are told once it is back."""

import asyncio
from collections.abc import Sequence

import pytest

from chassis.kafka import Outgoing
from sender.ledger.attempt import WasAccepted
from sender.ledger.outcomes import PUBLISHING_MAX, Outcome, OutcomeWriter
from sender_ledger import Ledger, works
from sender_parts import queued
from simulated_providers import eventually

pytestmark = pytest.mark.postgres
MESSAGES = PUBLISHING_MAX + 3


class AwayProducer:
    """Publishes once `back` is set."""

    def __init__(self) -> None:
        self.back = asyncio.Event()
        self.published: list[Outgoing] = []

    async def publish(self, records: Sequence[Outgoing]) -> None:
        await self.back.wait()
        self.published += records


async def test_outcomes_are_in_the_ledger_while_kafka_is_away(ledger: Ledger) -> None:
    messages = [queued(number) for number in range(MESSAGES)]
    epoch, producer, stopping = await ledger.own(), AwayProducer(), asyncio.Event()
    await ledger.intend(messages, epoch)
    writer = OutcomeWriter(
        ledger.database, producer, finish=ledger.finished.append, linger_s=0, every_s=0, batch_max=1,  # type: ignore[arg-type]
        crash_point=lambda _: None,
    )  # fmt: skip

    async def written() -> bool:
        rows = await ledger.read("SELECT count(*)::int AS n FROM attempt WHERE state = 'accepted'")
        return bool(rows[0]["n"] == MESSAGES)

    async with asyncio.TaskGroup() as tasks:
        tasks.create_task(writer.run(stopping))
        for number, work in enumerate(works(messages)):
            writer.put(Outcome(work, epoch, WasAccepted(f"wamid.{number}", by="answer")))
        await eventually(written, deadline_s=60)
        assert (producer.published, ledger.finished) == ([], [])
        stopping.set()
        producer.back.set()
    assert len(producer.published) == len(ledger.finished) == MESSAGES


async def test_an_answer_that_the_database_refuses_stops_no_other(ledger: Ledger) -> None:
    messages = [queued(number) for number in range(5)]
    epoch, producer, stopping = await ledger.own(), AwayProducer(), asyncio.Event()
    producer.back.set()
    await ledger.intend(messages, epoch)
    writer = OutcomeWriter(
        ledger.database, producer, finish=ledger.finished.append, linger_s=0, every_s=0, batch_max=100,  # type: ignore[arg-type]
        crash_point=lambda _: None,
    )  # fmt: skip
    for number, work in enumerate(works(messages)):
        identity = {2: "wamid.\0", 3: "".join(map(chr, range(200, 6000)))}.get(number, f"wamid.{number}")
        writer.put(Outcome(work, epoch, WasAccepted(identity, by="answer")))
    stopping.set()
    await writer.run(stopping)
    rows = await ledger.read("SELECT state, count(*)::int AS n FROM attempt GROUP BY 1 ORDER BY 1")
    assert [(row["state"], row["n"]) for row in rows] == [("accepted", 3), ("ambiguous", 2)]
    assert len(producer.published) == len(ledger.finished) == 5
