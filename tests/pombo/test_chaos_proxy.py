"""The fault proxy on real sockets: each toxic alone, its end, and what an honest connection sees."""

import contextlib
import socket
import threading
import time
from collections.abc import Iterator

import pytest

from pombo.backing.folders import free_port
from pombo.chaos.proxies import Link, Proxies
from pombo.chaos.toxics import CutAfter, HalfOpen, Latency, Reset, SlowBytes, Toxic

LINK = "echo"


class EchoServer:
    """Answers each piece with itself, and remembers what it heard and how connections ended."""

    def __init__(self) -> None:
        self.heard = b""
        self.ended = 0
        self.mute = False
        self._listener = socket.create_server(("127.0.0.1", 0))
        self.port: int = self._listener.getsockname()[1]
        threading.Thread(target=self._accept, daemon=True).start()

    def close(self) -> None:
        self._listener.close()

    def _accept(self) -> None:
        with contextlib.suppress(OSError):
            while True:
                connection, _ = self._listener.accept()
                threading.Thread(target=self._answer, args=(connection,), daemon=True).start()

    def _answer(self, connection: socket.socket) -> None:
        with contextlib.suppress(OSError), connection:
            while data := connection.recv(65536):
                self.heard += data
                if not self.mute:
                    connection.sendall(data)
            self.ended += 1


@pytest.fixture
def echo() -> Iterator[EchoServer]:
    server = EchoServer()
    yield server
    server.close()


@pytest.fixture
def proxies(echo: EchoServer) -> Iterator[Proxies]:
    with Proxies([Link(LINK, free_port(), echo.port)]) as found:
        yield found


@pytest.fixture
def client(proxies: Proxies) -> Iterator[socket.socket]:
    with connected(proxies) as connection:
        yield connection


def connected(proxies: Proxies) -> socket.socket:
    return socket.create_connection(("127.0.0.1", proxies._proxies[LINK].port), timeout=5)


def said(connection: socket.socket, data: bytes) -> bytes:
    connection.sendall(data)
    answer = b""
    while len(answer) < len(data):
        piece = connection.recv(65536)
        if not piece:
            break
        answer += piece
    return answer


def test_what_was_said_before_the_end_arrives(proxies: Proxies, client: socket.socket, echo: EchoServer) -> None:
    echo.mute = True
    client.sendall(b"x" * 300_000)
    client.close()
    deadline_s = time.monotonic() + 5
    while not echo.ended and time.monotonic() < deadline_s:
        time.sleep(0.01)
    assert echo.ended == 1
    assert len(echo.heard) == 300_000


def test_a_large_answer_is_whole(proxies: Proxies, client: socket.socket) -> None:
    data = bytes(range(256)) * 8_000
    answer = bytearray()

    def read() -> None:
        while len(answer) < len(data):
            answer.extend(client.recv(65536))

    reader = threading.Thread(target=read)
    reader.start()
    client.sendall(data)
    reader.join(20)
    assert bytes(answer) == data


def test_latency_delays_and_keeps_the_order(proxies: Proxies, client: socket.socket, echo: EchoServer) -> None:
    proxies.poison(LINK, Latency(100, 50))
    began_s = time.monotonic()
    for piece in (b"one", b"two", b"three"):
        client.sendall(piece)
        time.sleep(0.01)
    assert _exactly(client, 11) == b"onetwothree"
    assert 0.2 <= time.monotonic() - began_s < 2
    assert echo.heard == b"onetwothree"


def test_latency_ends_with_the_toxic_and_nothing_is_lost(proxies: Proxies, client: socket.socket) -> None:
    proxies.poison(LINK, Latency(10_000))
    client.sendall(b"waits")
    time.sleep(0.1)
    proxies.heal(LINK)
    assert _exactly(client, 5) == b"waits"


def test_a_reset_meets_open_connections_at_once(proxies: Proxies, client: socket.socket) -> None:
    assert said(client, b"before") == b"before"
    proxies.poison(LINK, Reset())
    with pytest.raises(ConnectionResetError):
        client.recv(1)


def test_a_reset_meets_new_connections_before_they_are_heard(proxies: Proxies, echo: EchoServer) -> None:
    proxies.poison(LINK, Reset())
    with connected(proxies) as client:
        client.sendall(b"hello")
        with pytest.raises(ConnectionResetError):
            client.recv(1)
    assert echo.heard == b""
    proxies.heal(LINK)
    with connected(proxies) as client:
        assert said(client, b"again") == b"again"


def test_half_open_accepts_and_never_answers(proxies: Proxies, client: socket.socket, echo: EchoServer) -> None:
    assert said(client, b"before") == b"before"
    proxies.poison(LINK, HalfOpen())
    with connected(proxies) as other:
        for connection in (client, other):
            connection.sendall(b"hello?")
            connection.settimeout(0.3)
            with pytest.raises(TimeoutError):
                connection.recv(1)
        assert echo.heard == b"before"
        proxies.heal(LINK)
        for connection in (client, other):
            connection.settimeout(5)
            with pytest.raises(ConnectionResetError):  # its bytes are gone for good
                connection.recv(1)
    assert proxies.hurt(LINK) == 2


def test_a_connection_that_was_silent_while_half_open_goes_on(proxies: Proxies, client: socket.socket) -> None:
    proxies.poison(LINK, HalfOpen())
    proxies.heal(LINK)
    assert said(client, b"after") == b"after"


def test_slow_bytes_take_their_time(proxies: Proxies, client: socket.socket, echo: EchoServer) -> None:
    proxies.poison(LINK, SlowBytes(1000))
    began_s = time.monotonic()
    client.sendall(b"x" * 500)
    time.sleep(0.2)
    assert 0 < len(echo.heard) < 500
    assert _exactly(client, 500) == b"x" * 500
    assert 0.4 < time.monotonic() - began_s < 3


def test_what_a_client_left_on_a_slow_link_never_arrives(
    proxies: Proxies, client: socket.socket, echo: EchoServer
) -> None:
    proxies.poison(LINK, SlowBytes(100))
    client.sendall(b"x" * 1000)
    time.sleep(0.3)
    client.close()
    time.sleep(0.3)
    heard = len(echo.heard)
    assert 0 < heard < 1000
    proxies.heal(LINK)
    time.sleep(0.2)
    assert len(echo.heard) == heard


def test_a_cut_lets_the_request_through_and_loses_the_answer(
    proxies: Proxies, client: socket.socket, echo: EchoServer
) -> None:
    proxies.poison(LINK, CutAfter(0))
    client.sendall(b"accepted?")
    with pytest.raises(ConnectionResetError):
        client.recv(1)
    assert echo.heard == b"accepted?"


def test_a_cut_comes_within_an_answer(proxies: Proxies, client: socket.socket, echo: EchoServer) -> None:
    assert said(client, b"whole") == b"whole"
    proxies.poison(LINK, CutAfter(4))
    client.sendall(b"abcdefgh")
    assert _exactly(client, 4) == b"abcd"
    with contextlib.suppress(ConnectionResetError):
        assert client.recv(1) == b""
    assert echo.heard == b"wholeabcdefgh"


@pytest.mark.parametrize("toxic", [Latency(5), Reset(), HalfOpen(), SlowBytes(10_000), CutAfter(3)], ids=str)
def test_after_any_toxic_new_connections_are_honest(proxies: Proxies, toxic: Toxic) -> None:
    with connected(proxies) as hurt:
        proxies.poison(LINK, toxic)
        hurt.settimeout(0.2)
        with contextlib.suppress(OSError):
            said(hurt, b"something")
        proxies.heal(LINK)
    with connected(proxies) as client:
        assert said(client, b"fine") == b"fine"


def test_while_the_target_is_away_clients_are_refused(echo: EchoServer) -> None:
    target_port = free_port()
    with Proxies([Link(LINK, free_port(), target_port)]) as proxies:
        assert _is_refused(proxies)
        with socket.create_server(("127.0.0.1", target_port)) as target:
            client = _patiently_connected(proxies)
            client.sendall(b"back")
            target.settimeout(5)
            heard = b""
            while heard != b"back":  # the proxy's own look comes first
                connection, _ = target.accept()
                heard = connection.recv(4)
            client.close()


def _is_refused(proxies: Proxies) -> bool:
    """The first one finds out that the target is away, and is reset; the port is given up a moment later."""
    for _ in range(100):
        try:
            with connected(proxies) as client:
                client.recv(1)
        except ConnectionRefusedError:
            return True
        except ConnectionResetError:
            time.sleep(0.01)
    return False


def _patiently_connected(proxies: Proxies) -> socket.socket:
    for _ in range(100):
        with contextlib.suppress(ConnectionRefusedError, ConnectionResetError):
            return connected(proxies)
        time.sleep(0.05)
    raise AssertionError("nobody listens again")


def test_connections_that_ended_are_forgotten(proxies: Proxies) -> None:
    for _ in range(5):
        with connected(proxies) as client:
            assert said(client, b"x") == b"x"
    deadline_s = time.monotonic() + 5
    while proxies._proxies[LINK]._connections and time.monotonic() < deadline_s:
        time.sleep(0.01)
    assert not proxies._proxies[LINK]._connections


def test_a_taken_port_is_told() -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        proxies = Proxies([Link(LINK, taken.getsockname()[1], free_port())])
        with pytest.raises(OSError, match="in use"):
            proxies.start()


def _exactly(connection: socket.socket, count: int) -> bytes:
    found = b""
    while len(found) < count:
        piece = connection.recv(count - len(found))
        if not piece:
            break
        found += piece
    return found
