"""How a process lives: signals, its tasks in one group, a drain with a deadline, an exit code."""

import asyncio
import contextlib
import gc
import os
import random
import signal
import sys
from collections import Counter
from collections.abc import Awaitable, Callable, Coroutine, Mapping
from datetime import UTC, datetime
from typing import Any

import uvloop
from aiokafka.conn import AIOKafkaConnection, CloseReason
from aiokafka.errors import KafkaConnectionError, KafkaError

from chassis.telemetry import flush_spans, log

DRAIN_S = 20.0
# Several tasks wait one after the other for what comes back: each adds up to this to the time of a recovery. Some
# hundreds of refused tries a second are nothing to a server that is starting.
BACKOFF_MAX_S = 1.0
# Of a Kafka consumer whose broker is away. Several tasks of it ask, each with a line in the log: at the client's own
# 100 ms five services write a thousand lines a second and take the processor that the broker needs to start.
CONSUMER_RETRY_MS = 400
GARBAGE_THRESHOLDS = (50_000, 20, 50)
_passed: Counter[str] = Counter()


class TaskEnded(Exception):
    """A task that should run until the service stops has ended by itself: look at what it logged last."""


class DrainOverdue(Exception):
    """The service did not stop within its drain deadline and was cut off."""


def utc_now() -> datetime:
    return datetime.now(UTC)


async def run(service: str, start: Callable[[asyncio.Event], Awaitable[None]], *, drain_s: float = DRAIN_S) -> None:
    """Runs `start(stopping)` until SIGTERM or SIGINT sets `stopping`, then gives it `drain_s` to end.

    Raises what `start` raises, TaskEnded if it ends unasked, DrainOverdue if it must be cancelled.
    """
    stopping = asyncio.Event()
    loop = asyncio.get_running_loop()
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, stopping.set)
    log.info("service_starting", pid=os.getpid())
    try:
        async with asyncio.TaskGroup() as tasks:
            work = tasks.create_task(_awaited(start(stopping)), name=service)
            asked = tasks.create_task(stopping.wait(), name="stopping")
            await asyncio.wait({work, asked}, return_when=asyncio.FIRST_COMPLETED)
            if not stopping.is_set():
                asked.cancel()
                if work.cancelled() or work.exception() is None:
                    raise TaskEnded(service)
            else:
                log.info("service_stopping", drain_s=drain_s)
                await asyncio.wait({work}, timeout=drain_s)
                if not work.done():
                    work.cancel()
                    raise DrainOverdue(f"{service} after {drain_s} s")
        log.info("service_stopped")
    finally:
        for number in (signal.SIGTERM, signal.SIGINT):
            loop.remove_signal_handler(number)


async def run_tasks(stopping: asyncio.Event, tasks: Mapping[str, Coroutine[Any, Any, None]]) -> None:
    """Runs the named tasks side by side; if one dies, or ends before `stopping` is set, all are cancelled."""
    async with asyncio.TaskGroup() as group:
        for name, task in tasks.items():
            group.create_task(_lasting(name, task, stopping), name=name)


def main(work: Coroutine[Any, Any, None]) -> None:
    """The end of `__main__`: runs on uvloop, logs what killed the service, exits with 0 or 1."""
    collect_garbage_rarely()
    survive_broken_connections()
    try:
        uvloop.run(work)
    except Exception:  # noqa: BLE001  the outermost edge of the process
        log.exception("service_died")
        flush_spans()
        sys.exit(1)
    flush_spans()


def collect_garbage_rarely() -> None:
    """Services make many objects that live for a batch and hardly a cycle: Python's own thresholds cost them half of
    their time, and what was imported is never garbage."""
    gc.collect()
    gc.freeze()
    gc.set_threshold(*GARBAGE_THRESHOLDS)


def survive_broken_connections() -> None:
    """aiokafka knows a broken connection by OSError, uvloop's closed transport raises RuntimeError. That ended the
    task which reads the cluster's metadata; a consumer that waited for it never read again, alive and ready as it was.
    """
    send = AIOKafkaConnection.send
    if send.__module__ == __name__:
        return

    def send_or_break(connection: Any, request: Any, expect_response: bool = True) -> Any:
        try:
            return send(connection, request, expect_response)
        except RuntimeError as error:
            connection.close(reason=CloseReason.CONNECTION_BROKEN)
            raise KafkaConnectionError(f"connection broken: {error}") from error

    AIOKafkaConnection.send = send_or_break


async def pause(stopping: asyncio.Event, delay_s: float) -> None:
    """Waits, at most until `stopping` is set."""
    if delay_s > 0:
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(delay_s):
                await stopping.wait()


def backoff_s(failures: int) -> float:
    """Full jitter, at most BACKOFF_MAX_S."""
    return random.uniform(0.05, min(BACKOFF_MAX_S, 0.1 * 2 ** min(failures, 10)))


def crash_point(name: str) -> None:
    """Ends the process here, as SIGKILL would, if CRASH_AT=<name>[:<nth>] asks for it. For tests of recovery: without
    TEST_MODE=true nobody is heard."""
    if os.environ.get("TEST_MODE", "").lower() not in ("true", "1"):
        return
    wanted, _, nth = os.environ.get("CRASH_AT", "").partition(":")
    if wanted == name:
        _passed[name] += 1
        if _passed[name] == int(nth or 1):
            os._exit(137)


async def stop_client(client: Any, *, within_s: float = 5) -> None:
    """Stops an aiokafka client whatever state it is in. Its `stop` may raise the CancelledError of a task of its own,
    which would end ours as if somebody had cancelled it."""
    try:
        async with asyncio.timeout(within_s):
            await client.stop()
    except asyncio.CancelledError:
        task = asyncio.current_task()
        if task is None or task.cancelling():
            raise
    except (KafkaError, TimeoutError) as error:
        log.warning("client_stopped_hard", error=type(error).__name__)


async def _lasting(name: str, task: Coroutine[Any, Any, None], stopping: asyncio.Event) -> None:
    try:
        await task
    except asyncio.CancelledError as error:
        own = asyncio.current_task()
        if own is None or own.cancelling():
            raise
        # Some library cancelled a task of its own and let it through: a group would take that for a quiet end.
        raise TaskEnded(name) from error
    if not stopping.is_set():
        raise TaskEnded(name)


async def _awaited(work: Awaitable[None]) -> None:
    await work
