"""The provider simulator as a process of a test, and a small receiver for its webhooks."""

import asyncio
import json
import subprocess
import sys
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import aiohttp
from aiohttp import web


async def eventually(condition: Callable[[], Any], *, deadline_s: float = 20.0) -> Any:
    """Wait until the condition gives something true, and return it."""
    deadline = time.monotonic() + deadline_s
    while True:
        result = condition()
        if isinstance(result, Awaitable):
            result = await result
        if result:
            return result
        if time.monotonic() > deadline:
            raise AssertionError(f"did not happen within {deadline_s} s")
        await asyncio.sleep(0.02)


@dataclass(slots=True)
class Received:
    """One webhook as it came."""

    path: str
    headers: dict[str, str]
    raw: bytes
    body: Any


@dataclass(slots=True)
class Receiver:
    """Takes webhooks; `answers` are the statuses of the next ones, then 200."""

    url: str = ""
    received: list[Received] = field(default_factory=list)
    answers: list[int] = field(default_factory=list)

    def statuses(self) -> list[tuple[str, str]]:
        """(id, status) of every Meta status received, in order."""
        return [
            (status["id"], status["status"])
            for hook in self.received
            for entry in hook.body.get("entry", ())
            for change in entry["changes"]
            for status in change["value"].get("statuses", ())
        ]

    def events(self, name: str) -> list[dict[str, Any]]:
        """Evolution events or Z-API callbacks of this name."""
        return [hook.body for hook in self.received if name in (hook.body.get("event"), hook.body.get("type"))]


@asynccontextmanager
async def receiver() -> AsyncIterator[Receiver]:
    """A receiver on a free port."""
    here = Receiver()

    async def take(request: web.Request) -> web.Response:
        if request.method == "GET":
            return web.Response(text=request.query.get("hub.challenge", ""))
        raw = await request.read()
        here.received.append(Received(request.path, dict(request.headers), raw, json.loads(raw)))
        return web.Response(status=here.answers.pop(0) if here.answers else 200)

    app = web.Application()
    app.router.add_route("*", "/{tail:.*}", take)
    runner = web.AppRunner(app)
    await runner.setup()
    site = web.TCPSite(runner, "127.0.0.1", 0)
    await site.start()
    here.url = f"http://127.0.0.1:{runner.addresses[0][1]}"
    try:
        yield here
    finally:
        await runner.cleanup()


@dataclass(slots=True)
class Simulator:
    """A running simulator."""

    url: str
    log: Path
    process: subprocess.Popen[bytes]
    http: aiohttp.ClientSession

    async def call(
        self, method: str, path: str, body: Any = None, headers: dict[str, str] | None = None
    ) -> tuple[int, Any]:
        """Status and JSON (or text) of one request."""
        async with self.http.request(method, self.url + path, json=body, headers=headers) as response:
            text = await response.text()
            try:
                return response.status, json.loads(text) if text else None
            except ValueError:
                return response.status, text

    async def control(self, method: str, path: str, body: Any = None) -> Any:
        """A control call that must succeed."""
        status, answer = await self.call(method, f"/_control/{path}", body)
        assert status < 300, answer
        return answer

    def lines(self, event: str | None = None, **fields: Any) -> list[dict[str, Any]]:
        """The witness log's lines of this event with these fields."""
        found = [json.loads(line) for line in self.log.read_bytes().splitlines()]
        return [
            line
            for line in found
            if (event is None or line["event"] == event) and all(line.get(k) == v for k, v in fields.items())
        ]


@asynccontextmanager
async def simulator(folder: Path, config: dict[str, Any] | None = None, *extra: str) -> AsyncIterator[Simulator]:
    """Start a simulator on a free port, and stop it afterwards."""
    path, log = folder / "config.json", folder / "witness.jsonl"
    path.write_text(json.dumps(config or {}))
    command = [sys.executable, "-m", "provider_simulator", "--config", str(path), "--log", str(log), *extra]
    process = await asyncio.to_thread(subprocess.Popen[bytes], command, stdout=subprocess.PIPE)
    try:
        assert process.stdout is not None
        first = await asyncio.to_thread(process.stdout.readline)
        url = json.loads(first)["listening"]
        async with aiohttp.ClientSession(timeout=aiohttp.ClientTimeout(total=30)) as http:
            yield Simulator(url, log, process, http)
    finally:
        process.terminate()
        try:
            await asyncio.to_thread(process.wait, 10)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()
        if process.stdout is not None:
            process.stdout.close()
