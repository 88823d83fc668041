"""One TCP proxy: a listening port, where it leads to, and the toxic that its connections meet at the moment."""

import asyncio
import random
import socket
import struct
from typing import assert_never, cast

from pombo.chaos.stream import Stream
from pombo.chaos.toxics import CutAfter, HalfOpen, Latency, Reset, SlowBytes, Toxic

HOST = "127.0.0.1"
LOOK_FOR_TARGET_S = 0.1
_RESET_ON_CLOSE = struct.pack("ii", 1, 0)


class Proxy:
    """Passes everything on until `poison`; `heal` ends it. All methods belong to the loop's thread.

    While nobody listens at the target nobody listens here: clients are refused, as they would be there.
    """

    def __init__(self, name: str, port: int, target_port: int, tasks: asyncio.TaskGroup, seed: int = 0) -> None:
        self.name = name
        self.port = port
        self.toxic: Toxic | None = None
        self.hurt = 0  # connections that met a toxic which breaks them
        self.chance = random.Random(f"{seed}|{name}")
        self._target_port = target_port
        self._tasks = tasks
        self._connections: set[Connection] = set()
        self._server: asyncio.Server | None = None
        self._looking: asyncio.Task[None] | None = None

    async def start(self) -> None:
        await self._listen()

    async def stop(self) -> None:
        if self._looking is not None:
            self._looking.cancel()
        if self._server is not None:
            self._server.close()
        for connection in tuple(self._connections):
            connection.reset()

    def poison(self, toxic: Toxic) -> None:
        self.toxic = toxic
        for connection in tuple(self._connections):
            connection.begin(toxic)

    def heal(self) -> None:
        self.toxic = None
        for connection in tuple(self._connections):
            connection.end_toxic()

    def opened(self, connection: "Connection") -> asyncio.Task[None]:
        """The task that connects it to the target."""
        self._connections.add(connection)
        if self.toxic is not None and not isinstance(self.toxic, Reset):
            connection.begin(self.toxic)
        return self._tasks.create_task(self._reach_target(connection))

    def closed(self, connection: "Connection") -> None:
        self._connections.discard(connection)

    async def _reach_target(self, connection: "Connection") -> None:
        loop = asyncio.get_running_loop()
        try:
            await loop.create_connection(lambda: Server(connection), HOST, self._target_port)
        except OSError:
            connection.reset()
            if self._server is not None and self._looking is None:
                self._server.close()
                self._looking = self._tasks.create_task(self._look_for_target())

    async def _look_for_target(self) -> None:
        while not await self._target_listens():  # noqa: ASYNC110  nobody tells us: there is nothing but to look
            await asyncio.sleep(LOOK_FOR_TARGET_S)
        await self._listen()
        self._looking = None

    async def _target_listens(self) -> bool:
        loop = asyncio.get_running_loop()
        try:
            transport, _ = await loop.create_connection(asyncio.Protocol, HOST, self._target_port)
        except OSError:
            return False
        transport.close()
        return True

    async def _listen(self) -> None:
        loop = asyncio.get_running_loop()
        self._server = await loop.create_server(lambda: Client(self), HOST, self.port, backlog=1024)


class Connection:
    """Both legs of one connection and what waits between them."""

    def __init__(self, proxy: Proxy, client: asyncio.Transport) -> None:
        self.proxy = proxy
        self.client = client
        self.server: asyncio.Transport | None = None
        self.to_server = Stream(lambda: self.client)
        self.to_client = Stream(lambda: self.server)
        self._swallowed = False
        self._answer_bytes_left: int | None = None
        self._answer_passed = False
        self._one_end_left = False
        self._over = False
        self.to_client.lead_to(client)
        self._reaching = proxy.opened(self)

    def begin(self, toxic: Toxic) -> None:
        self._answer_bytes_left = toxic.answer_bytes if isinstance(toxic, CutAfter) else None
        if isinstance(toxic, Reset):
            self.reset()

    def end_toxic(self) -> None:
        self._answer_bytes_left = None
        if self._swallowed:
            self.reset()
            return
        self.to_server.hurry()
        self.to_client.hurry()

    def said(self, data: bytes, by_client: bool) -> None:
        stream = self.to_server if by_client else self.to_client
        match self.proxy.toxic:
            case None | CutAfter():
                self._pass(stream, data, by_client)
            case Latency(delay_ms, jitter_ms):
                stream.put(data, delay_s=(delay_ms + jitter_ms * self.proxy.chance.random()) / 1000)
            case SlowBytes(bytes_per_s):
                stream.put_slowly(data, bytes_per_s)
            case Reset():
                self.proxy.hurt += 1
                self.reset()
            case HalfOpen():
                self.proxy.hurt += not self._swallowed
                self._swallowed = True
            case never:
                assert_never(never)

    def _pass(self, stream: "Stream", data: bytes, by_client: bool) -> None:
        if by_client or self._answer_bytes_left is None:
            stream.put(data)
            return
        self._answer_passed = self._answer_passed or self._answer_bytes_left > 0
        stream.put(data[: self._answer_bytes_left])
        self._answer_bytes_left -= len(data)
        if self._answer_bytes_left < 0:
            self.proxy.hurt += 1
            self.reset(keep_client_data=self._answer_passed)

    def left(self, by_client: bool, broken: bool) -> None:
        """One end closed: what it said before still arrives, unless it broke off."""
        if self._over:
            return
        if self._one_end_left:
            self._end()
            return
        self._one_end_left = True
        if broken or (by_client and self.server is None) or self.to_server.is_slow or self._swallowed:
            self.reset()
            return
        (self.to_server if by_client else self.to_client).close_when_empty()

    def reset(self, keep_client_data: bool = False) -> None:
        """Both ends see a reset, not an end. `keep_client_data`: what the client got so far reaches it first."""
        if self._over:
            return
        self._end()
        if keep_client_data:
            self.client.close()
        else:
            _reset(self.client)
        if self.server is not None:
            _reset(self.server)

    def _end(self) -> None:
        self._over = True
        self._reaching.cancel()
        self.to_server.drop()
        self.to_client.drop()
        self.proxy.closed(self)


class Client(asyncio.Protocol):
    """The leg towards whoever connected to us."""

    def __init__(self, proxy: Proxy) -> None:
        self._proxy = proxy
        self._connection: Connection | None = None

    @property
    def connection(self) -> Connection:
        assert self._connection is not None, "not connected"
        return self._connection

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._connection = Connection(self._proxy, cast(asyncio.Transport, transport))

    def data_received(self, data: bytes) -> None:
        self.connection.said(data, by_client=True)

    def connection_lost(self, error: Exception | None) -> None:
        self.connection.left(by_client=True, broken=error is not None)

    def pause_writing(self) -> None:
        self.connection.to_client.brake_target_full(True)

    def resume_writing(self) -> None:
        self.connection.to_client.brake_target_full(False)


class Server(asyncio.Protocol):
    """The leg towards the target."""

    def __init__(self, connection: Connection) -> None:
        self._connection = connection

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._connection.server = cast(asyncio.Transport, transport)
        self._connection.to_server.lead_to(self._connection.server)

    def data_received(self, data: bytes) -> None:
        self._connection.said(data, by_client=False)

    def connection_lost(self, error: Exception | None) -> None:
        self._connection.left(by_client=False, broken=error is not None)

    def pause_writing(self) -> None:
        self._connection.to_server.brake_target_full(True)

    def resume_writing(self) -> None:
        self._connection.to_server.brake_target_full(False)


def _reset(transport: asyncio.Transport) -> None:
    """Closes with RST instead of FIN."""
    connection: socket.socket | None = transport.get_extra_info("socket")
    if connection is not None and not transport.is_closing():
        connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, _RESET_ON_CLOSE)
    transport.abort()
