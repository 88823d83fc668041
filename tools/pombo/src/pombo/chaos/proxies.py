"""All proxies of a stack, in a thread of their own: their links by name, poisoned and healed from anywhere."""

import asyncio
import threading
from collections.abc import Callable, Iterable, Mapping
from concurrent.futures import Future
from dataclasses import dataclass
from types import TracebackType

import uvloop

from pombo.chaos.proxy import Proxy
from pombo.chaos.toxics import Toxic

CALL_WITHIN_S = 10.0


@dataclass(frozen=True, slots=True)
class Link:
    """`port`: where the proxy listens; `target_port`: what is really there."""

    name: str
    port: int
    target_port: int


class Proxies:
    """`with Proxies(links) as proxies:` listens until the end of the block."""

    def __init__(self, links: Iterable[Link], seed: int = 0) -> None:
        self._links = tuple(links)
        self._seed = seed
        self._proxies: Mapping[str, Proxy] = {}
        self._loop: asyncio.AbstractEventLoop | None = None
        self._stopping: asyncio.Event | None = None
        self._thread: threading.Thread | None = None

    def start(self) -> None:
        """Returns when every port is listened on. Raises OSError where one is taken."""
        ready: Future[None] = Future()
        self._thread = threading.Thread(target=lambda: uvloop.run(self._serve(ready)), name="proxies", daemon=True)
        self._thread.start()
        ready.result(CALL_WITHIN_S)

    def stop(self) -> None:
        if self._loop is not None and self._stopping is not None and self._thread is not None:
            self._loop.call_soon_threadsafe(self._stopping.set)
            self._thread.join(CALL_WITHIN_S)
            self._loop = None

    def __enter__(self) -> "Proxies":
        self.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.stop()

    def poison(self, link: str, toxic: Toxic) -> None:
        proxy = self._proxies[link]
        self._call(lambda: proxy.poison(toxic))

    def heal(self, link: str) -> None:
        self._call(self._proxies[link].heal)

    def heal_all(self) -> None:
        for link in self._proxies:
            self.heal(link)

    def hurt(self, link: str) -> int:
        """Connections that a toxic broke since the start."""
        return self._proxies[link].hurt

    def _call(self, what: Callable[[], None]) -> None:
        """On the proxies' thread, done when this returns."""
        assert self._loop is not None, "not started"
        done: Future[None] = Future()

        def run() -> None:
            what()
            done.set_result(None)

        self._loop.call_soon_threadsafe(run)
        done.result(CALL_WITHIN_S)

    async def _serve(self, ready: "Future[None]") -> None:
        self._loop, self._stopping = asyncio.get_running_loop(), asyncio.Event()
        async with asyncio.TaskGroup() as tasks:
            proxies = [Proxy(link.name, link.port, link.target_port, tasks, self._seed) for link in self._links]
            try:
                for proxy in proxies:
                    await proxy.start()
            except OSError as error:
                ready.set_exception(error)
            else:
                self._proxies = {proxy.name: proxy for proxy in proxies}
                ready.set_result(None)
                await self._stopping.wait()
            for proxy in proxies:
                await proxy.stop()
