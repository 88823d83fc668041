"""The postman: an HTTP/1.1 client for callbacks on httptools, with keep-alive and bounded connections.

General clients cost several times what a callback may cost beside the system under test; this one only
posts (and gets, for handshakes), reads a status and a short body, and calls back.
"""

import asyncio
import ssl
import time
from collections import deque
from collections.abc import Callable
from typing import cast

import httptools

from provider_simulator.targets import Address, Target

IDLE_S = 20.0
MAX_ANSWER_BYTES = 64 * 1024
Done = Callable[[int, bytes, str | None], None]  # status (0: none), body, what went wrong


class Letter:
    """One request on its way."""

    __slots__ = ("deadline", "done", "resent", "timeout_s", "wire")

    def __init__(self, wire: bytes, done: Done, timeout_s: float) -> None:
        self.wire = wire
        self.done = done
        self.timeout_s = timeout_s  # counted from the moment of sending
        self.deadline = 0.0
        self.resent = False


class Line(asyncio.Protocol):
    """One connection to a receiver."""

    def __init__(self, office: "Office") -> None:
        self._office = office
        self._parser = httptools.HttpResponseParser(self)
        self.transport: asyncio.Transport | None = None
        self.letter: Letter | None = None
        self.idle_since = 0.0
        self._used = False
        self._bytes_seen = False
        self._body = b""

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Connected."""
        self.transport = cast(asyncio.Transport, transport)

    def send(self, letter: Letter) -> None:
        """Write a request; only when free."""
        assert self.transport is not None
        self.letter, self._bytes_seen, self._body = letter, False, b""
        letter.deadline = time.monotonic() + letter.timeout_s
        self.transport.write(letter.wire)

    def data_received(self, data: bytes) -> None:
        """Bytes of the answer."""
        self._bytes_seen = True
        try:
            self._parser.feed_data(data)
        except (httptools.HttpParserError, httptools.HttpParserUpgrade):
            self.close()

    def on_body(self, body: bytes) -> None:
        """httptools: a piece of the answer's body."""
        if len(self._body) < MAX_ANSWER_BYTES:
            self._body += body

    def on_message_complete(self) -> None:
        """httptools: the answer is whole."""
        letter, self.letter = self.letter, None
        status, reusable = self._parser.get_status_code(), self._parser.should_keep_alive()
        self._used = True
        if not reusable:
            self.close()
        if letter is not None:
            letter.done(status, self._body, None)
        if reusable:
            self._office.on_free(self)

    def connection_lost(self, exc: Exception | None) -> None:
        """The receiver closed, or we did."""
        self.transport = None
        letter, self.letter = self.letter, None
        self._office.on_lost(self)
        if letter is None:
            return
        if self._used and not self._bytes_seen and not letter.resent:
            letter.resent = True  # the receiver closed an idle connection just as we wrote
            self._office.post(letter)
        else:
            letter.done(0, b"", f"connection lost: {exc or 'closed'}")

    def close(self) -> None:
        """Drop the connection."""
        if self.transport is not None:
            self.transport.abort()


class Office:
    """All connections to one receiver, and what waits for one."""

    def __init__(self, address: Address, limit: int, spawn: Callable[..., object]) -> None:
        self._address = address
        self._limit = limit
        self._spawn = spawn
        self._free: list[Line] = []
        self._lines: set[Line] = set()
        self._opening = 0
        self.waiting: deque[Letter] = deque()
        self.closed = False

    def post(self, letter: Letter) -> None:
        """Send now on a free connection, or wait for one."""
        while self._free:
            line = self._free.pop()
            if line.transport is not None and not line.transport.is_closing():
                line.send(letter)
                return
        self.waiting.append(letter)
        if len(self._lines) + self._opening < self._limit and self._opening < len(self.waiting):
            self._opening += 1
            self._spawn(self._open())

    async def _open(self) -> None:
        loop = asyncio.get_running_loop()
        tls = ssl.create_default_context() if self._address.tls else None
        try:
            async with asyncio.timeout(5):
                _, line = await loop.create_connection(
                    lambda: Line(self), self._address.host, self._address.port, ssl=tls
                )
        except (OSError, TimeoutError) as error:
            self._opening -= 1
            if not self._lines:  # nobody else will take what waits
                refused, self.waiting = self.waiting, deque()
                for letter in refused:
                    letter.done(0, b"", f"connect: {error or 'timed out'}")
            return
        self._opening -= 1
        self._lines.add(line)
        self.on_free(line)

    def on_free(self, line: Line) -> None:
        """A connection has nothing to do: give it what waits."""
        if line.transport is None or line.transport.is_closing():
            return
        if self.waiting:
            line.send(self.waiting.popleft())
        else:
            line.idle_since = time.monotonic()
            self._free.append(line)

    def on_lost(self, line: Line) -> None:
        """A connection is gone; open another if something waits."""
        self._lines.discard(line)
        if line in self._free:
            self._free.remove(line)
        if self.waiting and not self._lines and not self._opening and not self.closed:
            self._opening += 1
            self._spawn(self._open())

    def busy(self) -> int:
        """Connections with a request on them."""
        return sum(line.letter is not None for line in self._lines)

    def close(self) -> None:
        """Drop every connection."""
        self.closed = True
        for line in list(self._lines):
            line.close()

    def sweep(self, now: float) -> None:
        """Give up on requests past their deadline and close connections idle for long."""
        for line in list(self._lines):
            if line.letter is not None and line.letter.deadline < now:
                letter, line.letter = line.letter, None
                line.close()
                letter.done(0, b"", "timed out")
            elif line.letter is None and line.idle_since < now - IDLE_S:
                line.close()


class Postman:
    """Posts to any receiver. `spawn` starts a coroutine in the owner's task group."""

    def __init__(self, spawn: Callable[..., object], *, connections: int, timeout_s: float) -> None:
        self._spawn = spawn
        self.connections = connections
        self.timeout_s = timeout_s
        self._offices: dict[Address, Office] = {}
        self._closed = False

    def post(self, target: Target, headers: bytes, body: bytes, done: Done) -> None:
        """POST; `headers` are whole header lines, each ended by CR LF."""
        wire = b"POST %b%bcontent-length: %d\r\n\r\n%b" % (target.head, headers, len(body), body)
        self._send(target, wire, done)

    def get(self, target: Target, done: Done) -> None:
        """GET."""
        self._send(target, b"GET %b\r\n" % target.head, done)

    def _send(self, target: Target, wire: bytes, done: Done) -> None:
        if self._closed:
            return
        office = self._offices.get(target.address)
        if office is None:
            office = self._offices[target.address] = Office(target.address, self.connections, self._spawn)
        office.post(Letter(wire, done, self.timeout_s))

    def sweep(self) -> None:
        """Called about once a second."""
        now = time.monotonic()
        for office in self._offices.values():
            office.sweep(now)

    def under_way(self) -> int:
        """Requests sent and not yet answered."""
        return sum(office.busy() for office in self._offices.values())

    def waiting(self) -> int:
        """Requests that wait for a connection."""
        return sum(len(office.waiting) for office in self._offices.values())

    def close(self) -> None:
        """Drop every connection and post nothing more."""
        self._closed = True
        for office in self._offices.values():
            office.close()
