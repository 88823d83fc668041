"""The HTTP client against a server of raw sockets: what it proves, and that it never sends anything twice."""

import asyncio
import socket
import ssl
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime, timedelta
from functools import partial
from pathlib import Path
from typing import Any, cast
from uuid import UUID

import pytest
import uvloop
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID

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
async def serving(answer: Answer, tls: ssl.SSLContext | None = None) -> AsyncIterator[Server]:
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

    server = await asyncio.start_server(connected, "127.0.0.1", 0, ssl=tls)
    here.port = server.sockets[0].getsockname()[1]
    try:
        yield here
    finally:
        server.close()


def meta_number(account: Account) -> Instance:
    return Instance(
        UUID(int=3), ACCOUNT, InstanceConfigured(name="n", provider="meta_cloud", server_url=account.server_url),
        account, PROVIDERS["meta_cloud"], Rate(1, 0), Rate(1, 0), 8, "instance:3", None, True, None, 1,
    )  # fmt: skip


@asynccontextmanager
async def sending(
    port: int, *, scheme: str = "http", token: str = "t", **changes: object
) -> AsyncIterator[Callable[..., Awaitable[SendOutcome]]]:
    fields = {"allowed_hosts": (f"127.0.0.1:{port}",), "text_timeout_s": 0.5, **changes}
    gateway = Gateway(settings(**fields))
    await gateway.open()
    url = f"{scheme}://127.0.0.1:{port}"
    account = Account("meta_cloud", server_url=url, phone_number_id="1", credentials={"access_token": token})
    try:
        yield partial(gateway.send, meta_number(account), MESSAGE, "00-" + "1" * 32 + "-" + "2" * 16 + "-01")
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


def test_a_departure_is_told_when_the_request_has_really_left() -> None:
    """On the loop of the services, which keeps what is written until all that is ready has run: the limiter counts
    from the departure on, and a request that leaves later than it was told makes a window too full."""
    found: list[bytes] = []

    async def send(provider: socket.socket) -> SendOutcome:
        def departed() -> None:
            connection, _ = provider.accept()
            found.append(connection.recv(65_536, socket.MSG_DONTWAIT))
            connection.sendall(reply("200 OK", ACCEPTED))

        async with sending(provider.getsockname()[1]) as post:
            return await post(departed)

    with socket.create_server(("127.0.0.1", 0)) as provider:
        assert isinstance(uvloop.run(send(provider)), Accepted)
    assert len(found) == 1
    assert found[0].startswith(b"POST ")


@pytest.mark.parametrize("still_allowed", [0, 1, 2])
async def test_what_may_not_leave_any_more_when_there_is_a_connection_does_not_leave(still_allowed: int) -> None:
    """Asked before a connection is made and again before anything is written to it."""
    answers = [True] * still_allowed + [False] * 2
    async with serving(accept) as server, sending(server.port, connect_tries=5) as send:
        outcome = await send(may_leave=lambda: answers.pop(0))
        await asyncio.sleep(0)
        assert isinstance(outcome, Accepted) if still_allowed == 2 else outcome == NotSent("too_late")
        assert len(server.requests) == (1 if still_allowed == 2 else 0)


@pytest.mark.parametrize("host", ["gateway..example.com", "a" * 64 + ".example.com", "xn--", "a b.example.com"])
async def test_a_host_that_is_no_name_harms_only_its_own_number(host: str) -> None:
    gateway = Gateway(settings(text_timeout_s=5.0, connect_tries=1))
    await gateway.open()
    account = Account(
        "meta_cloud", server_url=f"https://{host}", phone_number_id="1", credentials={"access_token": "t"}
    )
    try:
        assert await gateway.send(meta_number(account), MESSAGE, None) == NotSent("connect_failed")
    finally:
        await gateway.close()


async def test_a_fault_of_ours_is_an_uncertain_outcome_and_no_exception() -> None:
    async def odd(_: asyncio.StreamReader, writer: asyncio.StreamWriter, __: int) -> None:
        writer.write(reply("200 OK", ACCEPTED))

    class Faulty:
        build_request = staticmethod(PROVIDERS["meta_cloud"].build_request)

        def read_response(self, *_: object) -> SendOutcome:
            raise KeyError("a fault")

    async with serving(odd) as server:
        gateway = Gateway(settings(allowed_hosts=(f"127.0.0.1:{server.port}",)))
        await gateway.open()
        url = f"http://127.0.0.1:{server.port}"
        account = Account("meta_cloud", server_url=url, phone_number_id="1", credentials={"access_token": "t"})
        number = replace(meta_number(account), provider=cast(Any, Faulty()))
        try:
            assert await gateway.send(number, MESSAGE, None) == Ambiguous("no_answer")
        finally:
            await gateway.close()


async def test_a_connection_is_used_again() -> None:
    async with serving(accept) as server, sending(server.port) as send:
        for _ in range(5):
            await send()
    assert (server.connections, len(server.requests)) == (1, 5)


async def test_a_host_gets_no_more_sockets_than_it_may_and_the_rest_did_not_leave() -> None:
    waiting, go = asyncio.Event(), asyncio.Event()

    async def hold(_: asyncio.StreamReader, writer: asyncio.StreamWriter, nth: int) -> None:
        if nth == 3:
            waiting.set()
        await go.wait()
        writer.write(reply("200 OK", ACCEPTED))

    limits: dict[str, Any] = {"sockets_per_host_max": 3, "connect_tries": 2, "text_timeout_s": 30.0}
    async with serving(hold) as server, sending(server.port, **limits) as send:
        held = [asyncio.ensure_future(send()) for _ in range(3)]
        await waiting.wait()
        assert await asyncio.gather(*(send() for _ in range(5))) == [NotSent("host_full")] * 5
        assert (server.connections, len(server.requests)) == (3, 3)
        go.set()
        assert all(isinstance(one, Accepted) for one in await asyncio.gather(*held))
        assert isinstance(await send(), Accepted), "what ended makes room"


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


@pytest.mark.parametrize("kept", [b"", b"HTTP/1.1 100 Continue\r\n\r\n"])
async def test_an_answer_in_chunks_or_after_an_interim_one_is_read_whole(kept: bytes) -> None:
    async def in_chunks(_: asyncio.StreamReader, writer: asyncio.StreamWriter, __: int) -> None:
        writer.write(kept + b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n")
        for part in (ACCEPTED[:20], ACCEPTED[20:]):
            await asyncio.sleep(0.01)
            writer.write(f"{len(part):x}\r\n".encode() + part + b"\r\n")
        writer.write(b"0\r\n\r\n")

    async with serving(in_chunks) as server, sending(server.port) as send:
        assert isinstance(await send(), Accepted)
        assert isinstance(await send(), Accepted)
    assert (server.connections, len(server.requests)) == (1, 2)


async def test_an_answer_that_is_no_http_proves_nothing() -> None:
    async def babble(_: asyncio.StreamReader, writer: asyncio.StreamWriter, __: int) -> None:
        writer.write(b"220 mail.example.org ESMTP\r\n\r\n")

    async with serving(babble) as server, sending(server.port) as send:
        assert isinstance(await send(), Ambiguous)
    assert len(server.requests) == 1


async def test_an_answer_that_nobody_asked_for_is_not_taken_for_the_next_one() -> None:
    async def twice(_: asyncio.StreamReader, writer: asyncio.StreamWriter, __: int) -> None:
        writer.write(reply("200 OK", ACCEPTED) + reply("200 OK", ACCEPTED.replace(b"wamid.1", b"wamid.2")))

    async with serving(twice) as server, sending(server.port) as send:
        for _ in range(2):
            outcome = await send()
            assert isinstance(outcome, Accepted)
            assert outcome.provider_message_id == "wamid.1"
    assert server.connections == 2


async def test_credentials_with_a_line_break_never_leave() -> None:
    async with serving(accept) as server, sending(server.port, token="t\r\nX-Injected: 1") as send:
        assert await send() == NotSent("connect_failed")
    assert server.connections == 0


async def test_a_server_whose_certificate_nobody_vouches_for_gets_nothing(tmp_path: Path) -> None:
    async with (
        serving(accept, self_signed(tmp_path)) as server,
        sending(server.port, scheme="https", connect_tries=1) as send,
    ):
        assert await send() == NotSent("connect_failed")
    assert server.requests == []


def self_signed(folder: Path) -> ssl.SSLContext:
    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "127.0.0.1")])
    now = datetime.now(UTC)
    certificate = (
        x509.CertificateBuilder()
        .subject_name(name)
        .issuer_name(name)
        .public_key(key.public_key())
        .serial_number(1)
        .not_valid_before(now - timedelta(days=1))
        .not_valid_after(now + timedelta(days=1))
        .sign(key, hashes.SHA256())
    )
    (folder / "key.pem").write_bytes(
        key.private_bytes(serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption())
    )
    (folder / "certificate.pem").write_bytes(certificate.public_bytes(serialization.Encoding.PEM))
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(folder / "certificate.pem", folder / "key.pem")
    return context
