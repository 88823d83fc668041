"""Calls to providers over HTTP: one request as the provider's module built it, one answer as it reads it.

The client never sends a request again by itself; only what provably did not leave (no connection) is tried anew.
"""

import asyncio
import random
from collections import Counter
from collections.abc import Callable

import aiohttp

from chassis.telemetry import log
from providers.protocol import (
    HttpRequest,
    NotSent,
    OutboundMessage,
    SendOutcome,
    UnsendableMessage,
    read_transport_failure,
)
from sender.gateway.egress import CheckedResolver, Egress, ForbiddenAddress
from sender.gateway.exchange import (
    Answer,
    NotConnected,
    ResponseTooLarge,
    Route,
    TooLate,
    exchange,
    make_route,
    write_head,
)
from sender.settings import Settings
from sender.work import Instance

RETRY_BASE_S = 0.05
RETRY_MAX_S = 1.0
ROUTES_KEPT = 10_000
HOST_FULL = "host_full"
TOO_LATE = "too_late"


class HostFull(NotConnected):
    """As many requests are under way to the host as may be: nothing left, and nothing is known against it."""


class Gateway:
    """One pool of connections for the process. Each lane bounds its own requests, this one those to a host: one that
    hangs takes no more of the process's sockets than that, whatever number of lanes leads there."""

    def __init__(self, settings: Settings, on_departure: Callable[[], None] = lambda: None) -> None:
        self._settings = settings
        self._on_departure = on_departure
        self._egress = Egress(settings.allowed_hosts)
        self._routes: dict[str, Route] = {}
        self._under_way: Counter[str] = Counter()  # by host and port
        self._connector: aiohttp.TCPConnector | None = None

    async def open(self) -> None:
        self._connector = aiohttp.TCPConnector(
            limit=0,
            keepalive_timeout=self._settings.keep_alive_s,
            resolver=CheckedResolver(self._egress),
            ttl_dns_cache=10,
            happy_eyeballs_delay=None,
        )

    async def close(self) -> None:
        if self._connector is not None:
            await self._connector.close()
            self._connector = None

    async def send(
        self,
        instance: Instance,
        message: OutboundMessage,
        traceparent: str | None,
        departed: Callable[[], None] = lambda: None,
        may_retry: Callable[[], bool] = lambda: True,
        may_leave: Callable[[], bool] = lambda: True,
    ) -> SendOutcome:
        """One attempt. Every ending is an outcome; only cancellation is raised. `departed` hears when it is written,
        `may_leave` is asked before anything is."""
        request: HttpRequest | None = None
        try:
            request = instance.provider.build_request(message, instance.account)
            answer = await self.call(
                request,
                total_s=self.timeout_s(message.content.kind),
                traceparent=traceparent,
                departed=departed,
                may_retry=may_retry,
                may_leave=may_leave,
            )
            return instance.provider.read_response(*answer)
        except UnsendableMessage as error:
            return error.rejected
        except ForbiddenAddress:
            return NotSent("address_forbidden")
        except HostFull:
            return NotSent(HOST_FULL)
        except TooLate:
            return NotSent(TOO_LATE)
        except NotConnected:
            return read_transport_failure("connect")
        except (aiohttp.ClientError, TimeoutError, ResponseTooLarge, OSError):
            return read_transport_failure("read")
        except Exception as error:  # noqa: BLE001  one message's trouble, also a fault of ours, is no other's
            log.error("send_failed", instance_id=str(instance.instance_id), exc_info=error)
            return read_transport_failure("connect" if request is None else "read")

    def timeout_s(self, kind: str) -> float:
        return self._settings.text_timeout_s if kind in ("text", "template") else self._settings.media_timeout_s

    async def call(
        self,
        request: HttpRequest,
        *,
        total_s: float,
        traceparent: str | None = None,
        departed: Callable[[], None] = lambda: None,
        may_retry: Callable[[], bool] = lambda: True,
        may_leave: Callable[[], bool] = lambda: True,
    ) -> Answer:
        """Raises ForbiddenAddress, and NotConnected if nothing left; anything else leaves it open whether something
        did. `may_retry`: asked before each further try."""
        headers = request.headers if traceparent is None else {**request.headers, "traceparent": traceparent}
        try:
            route = self._route(request.url)
            content = write_head(request.method, route.url, headers, request.body) + request.body
        except ValueError as error:
            raise NotConnected("the address or a header cannot be written") from error
        deadline_s = asyncio.get_running_loop().time() + total_s
        delay_s, left_s = RETRY_BASE_S, total_s
        for left in reversed(range(self._settings.connect_tries)):
            try:
                return await self._try(route, content, left_s, departed, may_leave)
            except TooLate:
                raise
            except NotConnected:
                # Decorrelated jitter, within the one deadline that the ledger's time-out was made from.
                delay_s = min(RETRY_MAX_S, random.uniform(RETRY_BASE_S, delay_s * 3))
                left_s = deadline_s - asyncio.get_running_loop().time() - delay_s
                if left == 0 or left_s <= 0 or not may_retry():
                    raise
            await asyncio.sleep(delay_s)
        raise NotConnected

    def _route(self, address: str) -> Route:
        """The rule looks at the text alone, so once is enough; names are checked whenever they are resolved."""
        route = self._routes.get(address)
        if route is None:
            self._egress.check_url(address)
            if len(self._routes) >= ROUTES_KEPT:
                self._routes.clear()
            route = self._routes[address] = make_route(address)
        return route

    async def _try(
        self,
        route: Route,
        content: bytes,
        left_s: float,
        departed: Callable[[], None],
        may_leave: Callable[[], bool],
    ) -> Answer:
        if self._connector is None:
            raise NotConnected("the client is closed")

        def leave() -> None:
            departed()
            self._on_departure()

        if not may_leave():
            raise TooLate
        if self._under_way[route.host] >= self._settings.sockets_per_host_max:
            raise HostFull
        self._under_way[route.host] += 1
        try:
            return await exchange(
                self._connector,
                route,
                content,
                within_s=left_s,
                connect_s=self._settings.connect_timeout_s,
                size_max=self._settings.response_max_bytes,
                departed=leave,
                may_leave=may_leave,
            )
        finally:
            self._under_way[route.host] -= 1
            if not self._under_way[route.host]:
                del self._under_way[route.host]
