"""One request and its answer over a pooled connection.

Connections, TLS, resolving and the parser are aiohttp's. Its session is left out: redirects, cookies, forms, retries
and tracing are nothing that a send may use, and they cost more than all the rest of a request.
"""

import asyncio
from collections.abc import Callable, Mapping
from dataclasses import dataclass

import aiohttp
from aiohttp.http import HttpProcessingError
from aiohttp.http_parser import RawResponseMessage
from aiohttp.streams import StreamReader
from yarl import URL

LINE_MAX = 16_384
BODILESS = frozenset({"GET", "HEAD", "OPTIONS"})
Answer = tuple[int, Mapping[str, str], bytes]


class ResponseTooLarge(Exception):
    """The answer is longer than any provider's: it is not read, so it proves nothing."""


class NotConnected(Exception):
    """There was no connection to write to: no byte of the request left."""


class TooLate(NotConnected):
    """What allowed it to leave was over before there was a connection to write to."""


class BrokenAnswer(aiohttp.ClientError):
    """What came back is no HTTP."""


@dataclass(frozen=True, slots=True)
class Route:
    """An address that was checked. `host`: with its port. `opening`: what the connector knows it by, never sent."""

    url: URL
    host: str
    opening: aiohttp.ClientRequest


def make_route(address: str) -> Route:
    """Needs the running loop. Raises ValueError for a host that is no name, such as one with an empty label."""
    url = URL(address)
    return Route(url, f"{url.host}:{url.port}", aiohttp.ClientRequest("POST", url, loop=asyncio.get_running_loop()))


def write_head(method: str, url: URL, headers: Mapping[str, str], body: bytes) -> bytes:
    """Raises NotConnected where a value would end its line: credentials are what somebody entered."""
    lines = [f"{method} {url.raw_path_qs} HTTP/1.1", f"Host: {url.host_port_subcomponent}"]
    lines += [f"{name}: {value}" for name, value in headers.items()]
    if body or method not in BODILESS:
        lines.append(f"Content-Length: {len(body)}")
    head = "\r\n".join(lines)
    if head.count("\r") != len(lines) - 1 or head.count("\n") != len(lines) - 1 or "\0" in head:
        raise NotConnected("a header holds a line break")
    return f"{head}\r\n\r\n".encode()


async def exchange(
    connector: aiohttp.TCPConnector,
    route: Route,
    request: bytes,
    *,
    within_s: float,
    connect_s: float,
    size_max: int,
    departed: Callable[[], None],
    may_leave: Callable[[], bool],
) -> Answer:
    """`departed` is called as soon as the request is written: never before, and before its answer is read. `may_leave`
    is asked right before the writing, as connecting can take longer than a lease is valid.

    Raises NotConnected (TooLate); TimeoutError, OSError, aiohttp.ClientError or ResponseTooLarge leave it open what
    happened.
    """
    connection: aiohttp.connector.Connection | None = None
    try:
        async with asyncio.timeout(within_s):
            connection = await connector.connect(
                route.opening, [], aiohttp.ClientTimeout(total=None, sock_connect=connect_s)
            )
            if not may_leave():
                raise TooLate
            answer = await _ask(connection, request, size_max, departed)
    except BaseException as error:
        if connection is not None:
            connection.close()
        elif isinstance(error, aiohttp.ClientError | TimeoutError | OSError | ValueError):
            # ValueError: of a name that the resolver cannot even spell.
            raise NotConnected(type(error).__name__) from error
        raise
    connection.release()
    return answer


async def _ask(
    connection: aiohttp.connector.Connection, request: bytes, size_max: int, departed: Callable[[], None]
) -> Answer:
    protocol, transport = connection.protocol, connection.transport
    assert protocol is not None
    if transport is None or transport.is_closing():
        raise NotConnected("the connection was just closed")
    protocol.set_response_params(read_until_eof=True, max_line_size=LINE_MAX, max_field_size=LINE_MAX)
    transport.write(request)
    # uvloop hands what was written to the kernel when all that is ready now has run; what is called soon comes after.
    asyncio.get_running_loop().call_soon(departed)
    try:
        message, content = await protocol.read()
        while 100 <= message.code < 200 and message.code != 101:
            message, content = await protocol.read()
    except HttpProcessingError as error:
        raise BrokenAnswer(type(error).__name__) from error
    return message.code, message.headers, await _read(message, content, size_max)


async def _read(message: RawResponseMessage, content: StreamReader, size_max: int) -> bytes:
    told = message.headers.get("Content-Length", "")
    if told.isdecimal() and int(told) > size_max:
        raise ResponseTooLarge
    body = await content.read(size_max + 1)
    while len(body) <= size_max and not content.at_eof():
        body += await content.read(size_max + 1 - len(body))
    if len(body) > size_max:
        raise ResponseTooLarge
    return body
