"""Questions at the API in even time, whatever becomes of the ones before: waiting is part of the answer's latency."""

import asyncio
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import aiohttp
import orjson

from pombo.bench.measures import NS

TIMEOUT_S = 30.0
FAILED = 0


@dataclass(frozen=True, slots=True)
class Probe:
    """`path` is asked `per_second` times a second; several paths in turn."""

    paths: Sequence[str]
    per_second: float


@dataclass(frozen=True, slots=True)
class Answer:
    """`due_ns`: when it was to be asked. `status` 0: nobody answered."""

    path: str
    due_ns: int
    answered_ns: int
    status: int
    body: Any

    @property
    def latency_s(self) -> float:
        return (self.answered_ns - self.due_ns) / NS


def ask_evenly(address: str, token: str, probes: Sequence[Probe], over: Callable[[int], bool]) -> list[Answer]:
    """Until `over(now_ns)`; every question that was asked is waited for."""
    return asyncio.run(_ask_evenly(address, token, probes, over))


async def _ask_evenly(address: str, token: str, probes: Sequence[Probe], over: Callable[[int], bool]) -> list[Answer]:
    answers: list[Answer] = []
    async with (
        aiohttp.ClientSession(
            address,
            headers={"Authorization": f"Bearer {token}"},
            connector=aiohttp.TCPConnector(limit=0),
            timeout=aiohttp.ClientTimeout(total=TIMEOUT_S),
        ) as client,
        asyncio.TaskGroup() as tasks,
    ):
        for probe in probes:
            tasks.create_task(_repeat(client, probe, over, answers, tasks))
    return sorted(answers, key=lambda answer: answer.answered_ns)


async def _repeat(
    client: aiohttp.ClientSession,
    probe: Probe,
    over: Callable[[int], bool],
    answers: list[Answer],
    tasks: asyncio.TaskGroup,
) -> None:
    began_ns, turn = time.monotonic_ns(), 0
    while True:
        due_ns = began_ns + round(turn / probe.per_second * NS)
        await asyncio.sleep(max(0.0, (due_ns - time.monotonic_ns()) / NS))
        if over(time.monotonic_ns()):
            return
        path = probe.paths[turn % len(probe.paths)]
        tasks.create_task(_ask(client, path, due_ns, answers))
        turn += 1


async def _ask(client: aiohttp.ClientSession, path: str, due_ns: int, answers: list[Answer]) -> None:
    try:
        async with client.get(path) as response:
            data = await response.read()
            status = response.status
    except (aiohttp.ClientError, TimeoutError):
        data, status = b"", FAILED
    answered_ns = time.monotonic_ns()
    body = orjson.loads(data) if status == 200 and path.endswith("/statistics") else None
    answers.append(Answer(path, due_ns, answered_ns, status, body))
