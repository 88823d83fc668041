"""The HTTP client against a server of raw sockets: what it proves, and that it never sends anything twice."""

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from uuid import UUID

import pytest

from contracts.instances import InstanceConfigured
from providers.protocol import Accepted, Account, Ambiguous, Content, NotSent, OutboundMessage, SendOutcome
from providers.protocol import Address as ProviderAddress
from providers.registry import PROVIDERS
from sender.gateway.client import Gateway
from sender.lane.throttle import Rate
from sender.work import Instance
from sender_parts import ACCOUNT, settings

ACCEPTED = b'{"messages":[{"id":"wamid.1"}],"contacts":[{"input":"1","wa_id":"1"}]}'
MESSAGE = OutboundMessage(ProviderAddress(phone="5511987654321"), Content("text", text="Olá"), "ref:1")
Answer = Callable[[asyncio.StreamReader, asyncio.StreamWriter, int], Awaitable[None]]


@dataclass(slots=True)
class Server:
    """Counts whole requests and connections."""

    port: int = 0
    requests: list[bytes] = field(default_factory=list)
    connections: int = 0


@asynccontextmanager
async def serving(answer: Answer) -> AsyncIterator[Server]:
    here = Server()

    async def connected(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        here.connections += 1
        try:
            while head := await reader.readuntil(b"\r\n\r\n"):
                length = next(
                    int(line.split(b":")[1]) for line in head.lower().split(b"\r\n") if b"content-length" in line
                )
                here.requests.append(head + await reader.readexactly(length))
                await answer(reader, writer, len(here.requests))
        except (asyncio.IncompleteReadError, ConnectionError):
            pass
        finally:
            writer.close()

    server = await asyncio.start_server(connected, "127.0.0.1", 0)
    here.port = server.sockets[0].getsockname()[1]
    try:
        yield here
    finally:
        server.close()


@asynccontextmanager
async def sending(port: int, **changes: object) -> AsyncIterator[Callable[[], Awaitable[SendOutcome]]]:
    fields = {"allowed_hosts": (f"127.0.0.1:{port}",), "text_timeout_s": 0.5, **changes}
    gateway = Gateway(settings(**fields))
    await gateway.open()
    url = f"http://127.0.0.1:{port}"
    number = Instance(
        UUID(int=3), ACCOUNT, InstanceConfigured(name="n", provider="meta_cloud", server_url=url),
        Account("meta_cloud", server_url=url, phone_number_id="1", credentials={"access_token": "t"}),
        PROVIDERS["meta_cloud"], Rate(1, 0), Rate(1, 0), 8, "instance:3", None, True, None, 1,
    )  # fmt: skip
    try:
        yield lambda: gateway.send(number, MESSAGE, "00-" + "1" * 32 + "-" + "2" * 16 + "-01")
    finally:
        await gateway.close()


def reply(status: str, body: bytes, *headers: str) -> bytes:
    lines = [f"HTTP/1.1 {status}", f"Content-Length: {len(body)}", "Content-Type: application/json", *headers]
    return "\r\n".join(lines).encode() + b"\r\n\r\n" + body


async def accept(_: asyncio.StreamReader, writer: asyncio.StreamWriter, __: int) -> None:
    writer.write(reply("200 OK", ACCEPTED))


async def test_an_accepted_message_carries_label_and_trace() -> None:
    async with serving(accept) as server, sending(server.port) as send:
        outcome = await send()
    assert isinstance(outcome, Accepted)
    assert outcome.provider_message_id == "wamid.1"
    assert b"ref:1" in server.requests[0]
    assert b"traceparent: 00-" + b"1" * 32 in server.requests[0].lower()


async def test_a_connection_is_used_again() -> None:
    async with serving(accept) as server, sending(server.port) as send:
        for _ in range(5):
            await send()
    assert (server.connections, len(server.requests)) == (1, 5)


async def test_a_post_is_not_sent_again_when_a_kept_connection_dies() -> None:
    """aiohttp repeats idempotent methods only; this pins that it leaves our POST alone."""

    async def close_on_second(_: asyncio.StreamReader, writer: asyncio.StreamWriter, nth: int) -> None:
        if nth == 2:
            writer.transport.abort()
        else:
            writer.write(reply("200 OK", ACCEPTED))

    async with serving(close_on_second) as server, sending(server.port) as send:
        assert isinstance(await send(), Accepted)
        assert isinstance(await send(), Ambiguous)
        assert len(server.requests) == 2
        assert isinstance(await send(), Accepted)
    assert len(server.requests) == 3


@pytest.mark.parametrize("how", ["silence", "reset", "end", "half", "too long", "endless"])
async def test_bytes_that_left_without_a_whole_answer_prove_nothing(how: str) -> None:
    async def fail(_: asyncio.StreamReader, writer: asyncio.StreamWriter, __: int) -> None:
        match how:
            case "silence":
                await asyncio.sleep(2)
            case "reset":
                writer.transport.abort()
            case "end":
                writer.close()
            case "half":
                writer.write(reply("200 OK", ACCEPTED)[:-10])
                writer.close()
            case "too long":
                writer.write(reply("200 OK", b'"' + b"x" * 70_000 + b'"'))
            case "endless":
                writer.write(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n")
                for _chunk in range(50):
                    writer.write(b"1000\r\n" + b"x" * 4096 + b"\r\n")

    async with serving(fail) as server, sending(server.port) as send:
        assert isinstance(await send(), Ambiguous)
    assert len(server.requests) == 1


async def test_no_connection_proves_that_nothing_left() -> None:
    async with serving(accept) as server:
        port = server.port
    async with sending(port, connect_tries=2) as send:
        assert await send() == NotSent("connect_failed")


async def test_a_redirect_is_not_followed() -> None:
    async def redirect(_: asyncio.StreamReader, writer: asyncio.StreamWriter, __: int) -> None:
        writer.write(reply("307 Temporary Redirect", b"{}", "Location: http://169.254.169.254/"))

    async with serving(redirect) as server, sending(server.port) as send:
        assert not isinstance(await send(), Accepted)
    assert len(server.requests) == 1


async def test_a_private_address_that_is_not_listed_is_never_connected_to() -> None:
    async with serving(accept) as server, sending(server.port, allowed_hosts=()) as send:
        assert await send() == NotSent("address_forbidden")
    assert server.connections == 0
