"""The door: a small HTTP/1.1 server on httptools.

Why not an ASGI server: a simulator must be able to hang, to reset a connection after it has accepted, and
to cost little beside what it witnesses. Handlers are plain functions that answer now, later or never.
"""

import asyncio
import contextlib
import socket
import struct
import time
from collections import deque
from collections.abc import Callable
from typing import Any, cast
from urllib.parse import unquote

import httptools
import orjson

MAX_BODY_BYTES = 140 * 1024 * 1024
STALL_MS = 8  # the kernel's clock for sockets is coarse (4 ms); below this the read time is better
_REASONS = {
    200: "OK", 201: "Created", 204: "No Content", 400: "Bad Request", 401: "Unauthorized", 403: "Forbidden",
    404: "Not Found", 405: "Method Not Allowed", 413: "Content Too Large", 415: "Unsupported Media Type",
    429: "Too Many Requests", 500: "Internal Server Error", 503: "Service Unavailable",
}  # fmt: skip
_HEADS: dict[tuple[int, str], bytes] = {}


def _head(status: int, content_type: str) -> bytes:
    head = _HEADS.get((status, content_type))
    if head is None:
        head = f"HTTP/1.1 {status} {_REASONS.get(status, 'Status')}\r\ncontent-type: {content_type}\r\n".encode()
        _HEADS[(status, content_type)] = head
    return head


class Request:
    """One request. `closed` tells how it ended: answered, client_gone or aborted; None while open."""

    __slots__ = (
        "_connection", "at_ms", "body", "closed", "headers", "keep_alive", "method", "mono_ns", "on_closed",
        "path", "query", "status",
    )  # fmt: skip

    def __init__(self, connection: "Connection", method: str, url: bytes, headers: dict[bytes, bytes]) -> None:
        self._connection = connection
        self.method = method
        path, _, self.query = url.decode("latin-1").partition("?")
        self.path = unquote(path) if "%" in path else path
        self.headers = headers
        self.body = b""
        self.at_ms = 0
        self.mono_ns = 0
        self.keep_alive = True
        self.status = 0
        self.closed: str | None = None
        self.on_closed: Callable[[Request], None] | None = None

    def header(self, name: bytes) -> str:
        """A header's value, or the empty string."""
        return self.headers.get(name, b"").decode("latin-1")

    def json(self) -> Any:
        """The body as JSON; raises orjson.JSONDecodeError (a ValueError)."""
        return orjson.loads(self.body)

    def answer(self, status: int, body: Any = None, *, content_type: str = "application/json") -> None:
        """Write the answer, unless the client has gone."""
        if self.closed is not None:
            return
        data = body if isinstance(body, bytes) else b"" if body is None else orjson.dumps(body)
        parts = [_head(status, content_type), b"content-length: %d\r\n" % len(data)]
        if not self.keep_alive:
            parts.append(b"connection: close\r\n")
        parts += [b"\r\n", data]
        self.status = status
        self._connection.write(b"".join(parts))
        self.finish("answered")

    def abort(self) -> None:
        """Reset the connection without an answer."""
        if self.closed is None:
            self.finish("aborted")
            self._connection.abort()

    def finish(self, how: str) -> None:
        """Record how the request ended and let the connection take its next one."""
        self.closed = how
        if self.on_closed is not None:
            self.on_closed(self)
        self._connection.next_request(self)


class Connection(asyncio.Protocol):
    """One client's connection; its requests are served one after another."""

    def __init__(self, door: "Door") -> None:
        self._door = door
        self._parser = httptools.HttpRequestParser(self)
        self._transport: asyncio.Transport | None = None
        self._socket: Any = None
        self._url = b""
        self._headers: dict[bytes, bytes] = {}
        self._body: list[bytes] = []
        self._size = 0
        self._current: Request | None = None
        self._waiting: deque[Request] = deque()

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """A client came."""
        self._transport = cast(asyncio.Transport, transport)
        # The loop's own socket object hides socket options; a second descriptor of it does not.
        self._socket = transport.get_extra_info("socket").dup()
        self._door.connections.add(self)

    def connection_lost(self, _exc: Exception | None) -> None:
        """The client left: its open requests will not be answered."""
        self._door.connections.discard(self)
        self._transport = None
        self._socket.close()
        self._waiting.clear()
        if self._current is not None:
            self._current.finish("client_gone")

    def data_received(self, data: bytes) -> None:
        """Bytes from the client."""
        try:
            self._parser.feed_data(data)
        except (httptools.HttpParserError, httptools.HttpParserUpgrade):
            if self._transport is not None:
                self._transport.write(b"HTTP/1.1 400 Bad Request\r\ncontent-length: 0\r\n\r\n")
                self._transport.close()

    def on_message_begin(self) -> None:
        """httptools: a request starts."""
        self._url, self._headers, self._body, self._size = b"", {}, [], 0

    def on_url(self, url: bytes) -> None:
        """httptools: a piece of the URL."""
        self._url += url

    def on_header(self, name: bytes, value: bytes) -> None:
        """httptools: one header."""
        self._headers[name.lower()] = value

    def on_headers_complete(self) -> None:
        """httptools: the body follows."""
        if self._headers.get(b"expect", b"").lower() == b"100-continue":
            self.write(b"HTTP/1.1 100 Continue\r\n\r\n")

    def on_body(self, body: bytes) -> None:
        """httptools: a piece of the body."""
        self._size += len(body)
        if self._size > MAX_BODY_BYTES:
            self.abort()
        else:
            self._body.append(body)

    def on_message_complete(self) -> None:
        """httptools: the request is whole."""
        request = Request(self, self._parser.get_method().decode(), self._url, self._headers)
        request.body = self._body[0] if len(self._body) == 1 else b"".join(self._body)
        request.keep_alive = self._parser.should_keep_alive() and not self._door.closing
        waited_ms = self._waited_ms()
        request.at_ms = time.time_ns() // 1_000_000 - waited_ms
        request.mono_ns = time.monotonic_ns() - waited_ms * 1_000_000
        if self._current is None:
            self._current = request
            self._door.handle(request)
        else:
            self._waiting.append(request)

    def _waited_ms(self) -> int:
        """How long the bytes lay in the kernel before we read them, so that our own stalls do not look
        like the client's bursts."""
        try:
            info = self._socket.getsockopt(socket.IPPROTO_TCP, socket.TCP_INFO, 56)
        except (OSError, AttributeError):
            return 0
        waited: int = struct.unpack_from("I", info, 52)[0] if len(info) >= 56 else 0
        return waited if waited >= STALL_MS else 0

    def write(self, data: bytes) -> None:
        """Send bytes if the client is still there."""
        if self._transport is not None:
            self._transport.write(data)

    def abort(self) -> None:
        """Reset."""
        if self._transport is not None:
            # Linger 0 makes the kernel send a reset instead of an orderly end.
            self._socket.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
            self._transport.abort()

    def next_request(self, done: Request) -> None:
        """The current request ended; take the next."""
        self._current = None
        self._door.ended.set()
        if self._transport is not None and done.closed == "answered" and not done.keep_alive:
            self._transport.close()
        elif self._waiting:
            self._current = self._waiting.popleft()
            self._door.handle(self._current)

    def close_if_idle(self) -> bool:
        """Close when nothing is being answered."""
        if self._current is None and self._transport is not None:
            self._transport.close()
        return self._current is None


class Door:
    """Listens and hands requests to `handle`."""

    def __init__(self, handle: Callable[[Request], None]) -> None:
        self.handle = handle
        self.connections: set[Connection] = set()
        self.closing = False
        self.ended = asyncio.Event()  # set whenever a request ends
        self._server: asyncio.Server | None = None

    async def open(self, host: str, port: int) -> str:
        """Listen; returns the base URL."""
        loop = asyncio.get_running_loop()
        self._server = await loop.create_server(lambda: Connection(self), host, port, backlog=1024)
        bound = self._server.sockets[0].getsockname()[1]
        return f"http://{host}:{bound}"

    async def close(self, drain_s: float) -> None:
        """Stop listening and give open requests some time to be answered."""
        self.closing = True
        if self._server is not None:
            self._server.close()
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(drain_s):
                while self._busy():
                    self.ended.clear()
                    await self.ended.wait()
        for connection in list(self.connections):
            connection.abort()

    def _busy(self) -> bool:
        """Close what is idle; whether something is still being answered."""
        idle = [connection.close_if_idle() for connection in list(self.connections)]
        return not all(idle)
