"""The health line: every half minute, what an operator would ask first."""

import asyncio
import time

from chassis.health import resident_mb
from chassis.lifecycle import pause
from chassis.telemetry import gauge, log
from sender.worker import Worker

EACH_S = 30.0


async def tell_health(worker: Worker, stopping: asyncio.Event) -> None:
    began_s = time.monotonic()
    waiting = gauge("pombo_lanes_waiting_records", "Messages that wait in lanes.")
    in_flight = gauge("pombo_lanes_in_flight", "Messages between their intent and their answer.")
    open_breakers = gauge("pombo_breakers_open", "Numbers that their own breaker or their host's keeps from sending.")
    told_s = began_s
    while not stopping.is_set():
        pending = worker.waiting
        processing = sum(lane.departures.in_flight for lane in worker.lanes.values())
        waiting.set(pending)
        in_flight.set(processing)
        stopped = sum(lane.departures.circuit.is_open for lane in worker.lanes.values())
        open_breakers.set(stopped)
        if time.monotonic() - told_s >= EACH_S:
            told_s = time.monotonic()
            log.info(
                "health",
                uptime_s=int(told_s - began_s),
                lanes=len(worker.lanes),
                pending=pending,
                processing=processing,
                breakers_open=stopped,
                memory_mb=resident_mb(),
            )
        await pause(stopping, 1.0)
