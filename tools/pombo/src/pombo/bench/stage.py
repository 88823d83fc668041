"""The send stage alone: queued messages to the provider and back, with intents and outcomes on record (G3)."""

import asyncio
import time
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from uuid import UUID, uuid4, uuid5

from chassis.kafka import Outgoing, Producer, outgoing
from chassis.settings import KafkaSettings
from contracts import topics
from contracts.ids import Address
from contracts.messages import Content, MessageQueued
from pombo.bench.arrivals import Arrivals
from pombo.bench.figures import Figure
from pombo.bench.measures import NS
from pombo.bench.running import LATENCY_MS, POLL_S, UNPACED_PER_S, Bench
from pombo.demo.fleet import PoolNumber
from pombo.demo.scenario import Stuck
from pombo.stack import Service
from pombo.stack.services import PARTITIONS_MAX
from pombo.stack.stack import SIMULATOR

FIGURES = ("send_stage_messages_per_second_60ms",)
NUMBERS = 8
PER_WINDOW_S = 300  # messages queued for each second of a window
EDGE = 0.1  # of the arrivals, at both ends: ramping up and running dry
WITHIN_S = 300.0
BATCH = 2000


def measure(bench: Bench) -> Iterator[Figure]:
    """The other services are stopped: they must neither help nor cost. Nobody hears of these messages afterwards."""
    bench.pace()
    bench.settle()
    pool = bench.add_numbers(NUMBERS, UNPACED_PER_S)
    for number in pool:
        bench.simulator.change_number(number.number, callback_url="")
    account_id = UUID(bench.api.get("/api/account")["account_id"])
    bench.wait(2.0)  # until the sender knows the numbers
    bench.stop_services()
    sender = bench.stack.process(Service.SENDER)
    messages = max(4000, int(PER_WINDOW_S * bench.wishes.duration_s))
    asyncio.run(_queue(bench.stack.addresses.kafka_bootstrap, account_id, pool, messages))
    arrivals = bench.arrivals()
    sender.start()
    first = _await(bench, arrivals, 1)
    before_s = bench.cpu_by_process()  # starting is not sending
    times = sorted([*first, *_await(bench, arrivals, messages - len(first))])
    bench.wait(1.0)  # the last outcomes
    after_s = bench.cpu_by_process()
    counted = messages - len(first)
    edge = int(messages * EDGE)
    seconds = (times[-edge] - times[edge]) / NS
    used = {name: round((after_s[name] - before_s[name]) * 1000 / counted, 2) for name in after_s}
    simulator_s = used.pop(SIMULATOR)
    yield bench.figure(
        FIGURES[0],
        (messages - 2 * edge) / seconds,
        "messages/s",
        messages=messages,
        numbers=NUMBERS,
        provider_latency_ms=LATENCY_MS,
        in_flight_mean=round((messages - 2 * edge) / seconds * LATENCY_MS / 1000),
        cpu_seconds_per_1000_messages=round(sum(used.values()), 2),
        by_process=used,
        simulator_beside=simulator_s,
        counted="arrivals at the provider, the first and last tenth left out",
        others="stopped",
    )


def _await(bench: Bench, arrivals: Arrivals, messages: int) -> list[int]:
    """The times of the next arrivals, at least so many. Raises Stuck."""
    times: list[int] = []
    deadline_s = time.monotonic() + WITHIN_S
    while len(times) < messages:
        if time.monotonic() > deadline_s:
            raise Stuck(f"{len(times)} of {messages} messages arrived in {WITHIN_S:.0f} s")
        bench.wait(POLL_S)
        bench.simulator.stats()
        times += [send.at_ns for send in arrivals.read()[0]]
    return times


async def _queue(bootstrap: str, account_id: UUID, pool: list[PoolNumber], messages: int) -> None:
    """In the scheduler's place."""
    producer = Producer(KafkaSettings(bootstrap=bootstrap, partitions_max=PARTITIONS_MAX))
    await producer.start()
    try:
        campaign, now = uuid4(), datetime.now(UTC)
        for first in range(0, messages, BATCH):
            turns = range(first, min(first + BATCH, messages))
            await producer.publish(
                [_queued(UUID(pool[turn % len(pool)].instance_id), account_id, campaign, turn, now) for turn in turns]
            )
    finally:
        await producer.stop()


def _queued(instance_id: UUID, account_id: UUID, campaign_id: UUID, turn: int, now: datetime) -> Outgoing:
    recipient_id = uuid5(campaign_id, f"person:{turn}")
    message = MessageQueued(
        dispatch_id=uuid5(recipient_id, "step"),
        attempt=1,
        release=1,
        campaign_id=campaign_id,
        run_epoch=1,
        recipient_id=recipient_id,
        contact_id=uuid5(recipient_id, "contact"),
        step=0,
        priority="campaign",
        address=Address(phone=f"55119{turn + 10_000_000:08d}"),
        content=Content(kind="text", text=f"Olá {turn}, seu cupom é AURA10."),
        send_before=now + timedelta(hours=1),
    )
    return outgoing(
        topics.MESSAGE_QUEUED, str(instance_id), message, source="scheduler", account_id=account_id, time=now
    )
