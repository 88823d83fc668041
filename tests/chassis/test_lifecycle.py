"""chassis.lifecycle and chassis.health: a process starts, tells how it is, drains, and never dies quietly."""

import asyncio
import os
import signal
import socket
import sys
import time
from collections.abc import Awaitable

import aiohttp
import pytest
import structlog
import uvloop
from aiokafka.conn import AIOKafkaConnection, create_conn
from aiokafka.errors import KafkaConnectionError
from aiokafka.protocol.metadata import MetadataRequest

from chassis.health import Readiness, serve_health
from chassis.lifecycle import DrainOverdue, TaskEnded, backoff_s, pause, run, run_tasks, survive_broken_connections
from chassis.settings import HealthSettings
from chassis_parts import until


async def _stop_self() -> None:
    os.kill(os.getpid(), signal.SIGTERM)


async def test_a_signal_lets_the_service_finish_its_work() -> None:
    finished = []

    async def start(stopping: asyncio.Event) -> None:
        await _stop_self()
        await stopping.wait()
        await asyncio.sleep(0.05)
        finished.append("drained")

    await run("tests", start)
    assert finished == ["drained"]


async def test_a_drain_that_takes_too_long_is_cut_off_and_told() -> None:
    async def start(stopping: asyncio.Event) -> None:
        await _stop_self()
        await asyncio.sleep(30)

    began = time.monotonic()
    with pytest.raises(ExceptionGroup) as told:
        await run("tests", start, drain_s=0.1)
    assert told.group_contains(DrainOverdue)
    assert time.monotonic() - began < 5


async def test_a_failure_of_the_service_is_raised() -> None:
    async def start(stopping: asyncio.Event) -> None:
        raise ZeroDivisionError

    with pytest.raises(ExceptionGroup) as told:
        await run("tests", start)
    assert told.group_contains(ZeroDivisionError)


async def test_a_service_that_ends_unasked_is_a_failure() -> None:
    async def start(stopping: asyncio.Event) -> None:
        return

    with pytest.raises(ExceptionGroup) as told:
        await run("tests", start)
    assert told.group_contains(TaskEnded)


@pytest.mark.parametrize("way", ["dies", "ends"])
async def test_one_task_that_dies_or_ends_stops_all(way: str) -> None:
    others_cancelled = asyncio.Event()
    stopping = asyncio.Event()

    async def side() -> None:
        await asyncio.sleep(0.01)
        if way == "dies":
            raise ZeroDivisionError

    async def other() -> None:
        try:
            await stopping.wait()
        except asyncio.CancelledError:
            others_cancelled.set()
            raise

    with pytest.raises(ExceptionGroup) as told:
        await run_tasks(stopping, {"side": side(), "other": other()})
    assert told.group_contains(ZeroDivisionError if way == "dies" else TaskEnded)
    assert others_cancelled.is_set()


async def test_tasks_that_end_because_of_stopping_are_fine() -> None:
    stopping = asyncio.Event()

    async def task() -> None:
        await stopping.wait()

    async with asyncio.TaskGroup() as tasks:
        tasks.create_task(run_tasks(stopping, {"one": task(), "two": task()}))
        stopping.set()


async def test_a_pause_ends_with_stopping() -> None:
    stopping = asyncio.Event()
    asyncio.get_running_loop().call_later(0.02, stopping.set)
    await asyncio.wait_for(pause(stopping, 30), 5)
    await pause(asyncio.Event(), 0)
    await pause(asyncio.Event(), -1)


def test_backing_off_has_a_bound() -> None:
    assert all(0 < backoff_s(failures) <= 5 for failures in range(1, 2000, 7))


@pytest.mark.parametrize(("body", "code"), [("raise ValueError('no')", 1), ("pass", 0)])
async def test_the_exit_code_tells_how_it_ended(body: str, code: int) -> None:
    program = f"from chassis.lifecycle import main\nasync def work():\n    {body}\nmain(work())"
    process = await asyncio.create_subprocess_exec(
        sys.executable, "-c", program, stderr=asyncio.subprocess.PIPE, stdout=asyncio.subprocess.PIPE
    )
    out, err = await process.communicate()
    assert process.returncode == code
    assert (b"service_died" in out + err) == (code == 1)


async def test_health_ready_and_metrics_are_answered(unused_port: int) -> None:
    stopping, readiness = asyncio.Event(), Readiness("database", "kafka")
    url = f"http://127.0.0.1:{unused_port}"
    async with aiohttp.ClientSession() as client, asyncio.TaskGroup() as tasks:
        tasks.create_task(serve_health(HealthSettings(port=unused_port), readiness, stopping))

        async def status(path: str) -> int:
            try:
                async with client.get(url + path) as answer:
                    return answer.status
            except aiohttp.ClientConnectionError:
                return 0

        await until(lambda: _is(status("/health"), 200))
        assert await status("/ready") == 503
        readiness.set("database", True)
        assert await status("/ready") == 503
        readiness.set("kafka", True)
        assert await status("/ready") == 200
        async with client.get(url + "/metrics") as answer:
            assert "text/plain" in answer.headers["Content-Type"]
        readiness.set("kafka", False)
        assert await status("/ready") == 503
        stopping.set()


async def test_any_free_port_is_taken_for_0_and_logged() -> None:
    stopping = asyncio.Event()
    with structlog.testing.capture_logs() as logged:
        async with asyncio.TaskGroup() as tasks:
            tasks.create_task(serve_health(HealthSettings(), Readiness(), stopping))
            await until(lambda: any(line["event"] == "health_listening" for line in logged))
            stopping.set()
    assert next(line for line in logged if line["event"] == "health_listening")["port"] > 0


async def _is(answer: Awaitable[int], wanted: int) -> bool:
    return await answer == wanted


@pytest.fixture
def unused_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


@pytest.mark.parametrize(("test_mode", "code"), [("", 0), ("false", 0), ("true", 137)])
async def test_a_crash_point_is_heeded_in_test_mode_only(test_mode: str, code: int) -> None:
    program = "from chassis.lifecycle import crash_point; crash_point('here'); crash_point('here')"
    environment = {**os.environ, "CRASH_AT": "here:2", "TEST_MODE": test_mode}
    process = await asyncio.create_subprocess_exec(sys.executable, "-c", program, env=environment)
    assert await process.wait() == code


@pytest.mark.kafka
def test_a_connection_that_breaks_under_uvloop_is_a_broken_connection(kafka_bootstrap: str) -> None:
    async def send_on_broken() -> None:
        host, _, port = kafka_bootstrap.partition(":")
        connection = await create_conn(host, int(port))
        writer = connection._writer
        writer.transport.abort()
        await asyncio.sleep(0.05)
        # As between the end of the transport and the moment in which its reader hears of it.
        connection._writer = writer
        connection.send(MetadataRequest([]))

    # What aiokafka does not expect, and what is made of it.
    with pytest.raises(RuntimeError, match="closed"):
        uvloop.run(send_on_broken())
    original = AIOKafkaConnection.send
    try:
        survive_broken_connections()
        survive_broken_connections()
        with pytest.raises(KafkaConnectionError, match="closed"):
            uvloop.run(send_on_broken())
    finally:
        AIOKafkaConnection.send = original
