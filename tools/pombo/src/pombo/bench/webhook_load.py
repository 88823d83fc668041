"""Posts webhooks in even time over kept connections: `python -m pombo.bench.webhook_load URL PATH BODIES RPS SECONDS`.

Written on asyncio's protocols, because a client library would cost more than the door that is measured. One JSON line
at the end. Latencies count from the moment at which a webhook was due, so a slow answer delays nobody unseen.
"""

import asyncio
import contextlib
import json
import sys
import time
from collections import deque
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import uvloop

from pombo.bench.measures import spread_ms

CONNECTIONS = 128
TICK_S = 0.001
PATIENCE_S = 10.0


@dataclass(slots=True)
class Load:
    """What is due and not yet sent, who could send it, and what came of it."""

    requests: list[bytes]
    due: deque[float] = field(default_factory=deque)
    idle: deque["Connection"] = field(default_factory=deque)
    latencies_s: list[float] = field(default_factory=list)
    refused: int = 0
    broken: int = 0
    sent: int = 0
    total: int = -1
    over: asyncio.Event = field(default_factory=asyncio.Event)

    def dispatch(self) -> None:
        while self.due and self.idle:
            self.idle.popleft().send(self.requests[self.sent % len(self.requests)], self.due.popleft())
            self.sent += 1

    def answered(self, connection: "Connection", due_s: float, status: bytes) -> None:
        self.latencies_s.append(time.monotonic() - due_s)
        self.refused += status != b"200"
        self.idle.append(connection)
        self.dispatch()
        self.look()

    def look(self) -> None:
        """Whether every webhook has its answer, or will have none."""
        if len(self.latencies_s) + self.broken == self.total:
            self.over.set()


class Connection(asyncio.Protocol):
    """One request at a time."""

    def __init__(self, load: Load) -> None:
        self._load = load
        self._due_s: float | None = None
        self._received = b""
        self._transport: Any = None

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = transport
        self._load.idle.append(self)

    def send(self, request: bytes, due_s: float) -> None:
        self._due_s = due_s
        self._transport.write(request)

    def data_received(self, data: bytes) -> None:
        self._received += data
        head, found, rest = self._received.partition(b"\r\n\r\n")
        if not found or self._due_s is None or len(rest) < _length(head):
            return
        due_s, self._due_s, self._received = self._due_s, None, b""
        self._load.answered(self, due_s, head[9:12])

    def connection_lost(self, _: Exception | None) -> None:
        if self._due_s is not None:
            self._load.broken += 1
            self._load.look()
        elif self in self._load.idle:
            self._load.idle.remove(self)


def _length(head: bytes) -> int:
    for line in head.split(b"\r\n"):
        name, _, value = line.partition(b":")
        if name.lower() == b"content-length":
            return int(value)
    return 0


def read_requests(file: Path, host: str, path: str) -> list[bytes]:
    requests = []
    for line in file.read_bytes().splitlines():
        signature, _, body = line.partition(b" ")
        head = (
            f"POST {path} HTTP/1.1\r\nHost: {host}\r\nContent-Type: application/json\r\nContent-Length: {len(body)}\r\n"
        )
        requests.append(head.encode() + b"X-Hub-Signature-256: " + signature + b"\r\n\r\n" + body)
    return requests


async def run(url: str, path: str, file: Path, rps: float, seconds: float) -> dict[str, Any]:
    parts = urlsplit(url)
    load = Load(read_requests(file, parts.netloc, path))
    loop = asyncio.get_running_loop()
    for _ in range(CONNECTIONS):
        await loop.create_connection(lambda: Connection(load), parts.hostname or "", parts.port or 80)
    began_s, asked, total = time.monotonic(), 0, int(rps * seconds)
    while asked < total:
        due = min(total, int((time.monotonic() - began_s) * rps) + 1)
        load.due.extend(began_s + turn / rps for turn in range(asked, due))
        asked = due
        load.dispatch()
        await asyncio.sleep(TICK_S)
    load.total = total
    load.look()
    with contextlib.suppress(TimeoutError):
        async with asyncio.timeout(PATIENCE_S):
            await load.over.wait()
    ended_s = time.monotonic()
    unanswered = total - len(load.latencies_s)
    # An answer that never came took at least until now.
    latencies = load.latencies_s + [ended_s - began_s - turn / rps for turn in range(total - unanswered, total)]
    return {
        "asked_per_second": rps,
        "answered_per_second": round(len(load.latencies_s) / (ended_s - began_s), 1),
        "answered": len(load.latencies_s),
        "unanswered": unanswered,
        "not_200": load.refused,
        "seconds": round(seconds, 1),
        **spread_ms(latencies),
    }


def main() -> None:
    url, path, file, rps, seconds = sys.argv[1:]
    print(json.dumps(uvloop.run(run(url, path, Path(file), float(rps), float(seconds)))))


if __name__ == "__main__":
    main()
