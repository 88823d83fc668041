"""Calls to providers over HTTP: one request as the provider's module built it, one answer as it reads it.

The client never sends a request again by itself; only what provably did not leave (no connection) is tried anew.
"""

import asyncio
import random
from collections.abc import Callable, Mapping

import aiohttp
from aiohttp.abc import AbstractStreamWriter
from yarl import URL

from providers.protocol import (
    HttpRequest,
    NotSent,
    OutboundMessage,
    SendOutcome,
    UnsendableMessage,
    read_transport_failure,
)
from sender.gateway.egress import CheckedResolver, Egress, ForbiddenAddress
from sender.settings import Settings
from sender.work import Instance

RETRY_BASE_S = 0.05
RETRY_MAX_S = 1.0
URLS_KEPT = 10_000
Answer = tuple[int, Mapping[str, str], bytes]


class ResponseTooLarge(Exception):
    """The answer is longer than any provider's: it is not read, so it proves nothing."""


class NotConnected(Exception):
    """No connection was made: no byte of the request left."""


class Gateway:
    """One pool of connections for the process; each lane bounds its own requests."""

    def __init__(self, settings: Settings, on_departure: Callable[[], None] = lambda: None) -> None:
        self._settings = settings
        self._on_departure = on_departure
        self._egress = Egress(settings.allowed_hosts)
        self._checked: dict[str, URL] = {}
        self._session: aiohttp.ClientSession | None = None

    async def open(self) -> None:
        connector = aiohttp.TCPConnector(
            limit=0,
            keepalive_timeout=self._settings.keep_alive_s,
            resolver=CheckedResolver(self._egress),
            ttl_dns_cache=10,
            happy_eyeballs_delay=None,
        )
        self._session = aiohttp.ClientSession(
            connector=connector,
            cookie_jar=aiohttp.DummyCookieJar(),
            auto_decompress=True,
            trust_env=False,
            skip_auto_headers=("User-Agent", "Accept", "Accept-Encoding"),
            max_line_size=16_384,
            max_field_size=16_384,
        )

    async def close(self) -> None:
        if self._session is not None:
            await self._session.close()
            self._session = None

    async def send(
        self,
        instance: Instance,
        message: OutboundMessage,
        traceparent: str | None,
        departed: Callable[[], None] = lambda: None,
    ) -> SendOutcome:
        """One attempt. Every ending is an outcome; only cancellation is raised. `departed` hears when it is written."""
        try:
            request = instance.provider.build_request(message, instance.account)
            answer = await self.call(
                request, total_s=self.timeout_s(message.content.kind), traceparent=traceparent, departed=departed
            )
        except UnsendableMessage as error:
            return error.rejected
        except ForbiddenAddress:
            return NotSent("address_forbidden")
        except NotConnected:
            return read_transport_failure("connect")
        except (aiohttp.ClientError, TimeoutError, ResponseTooLarge, OSError):
            return read_transport_failure("read")
        return instance.provider.read_response(*answer)

    def timeout_s(self, kind: str) -> float:
        return self._settings.text_timeout_s if kind in ("text", "template") else self._settings.media_timeout_s

    async def call(
        self,
        request: HttpRequest,
        *,
        total_s: float,
        traceparent: str | None = None,
        departed: Callable[[], None] = lambda: None,
    ) -> Answer:
        """Raises ForbiddenAddress, and NotConnected if nothing left; anything else leaves it open whether something
        did."""
        url = self._check(request.url)
        headers = dict(request.headers)
        if traceparent is not None:
            headers["traceparent"] = traceparent
        deadline_s = asyncio.get_running_loop().time() + total_s
        delay_s, left_s = RETRY_BASE_S, total_s
        for left in reversed(range(self._settings.connect_tries)):
            try:
                return await self._try(request, url, headers, left_s, departed)
            except NotConnected:
                # Decorrelated jitter, within the one deadline that the ledger's time-out was made from.
                delay_s = min(RETRY_MAX_S, random.uniform(RETRY_BASE_S, delay_s * 3))
                left_s = deadline_s - asyncio.get_running_loop().time() - delay_s
                if left == 0 or left_s <= 0:
                    raise
            await asyncio.sleep(delay_s)
        raise NotConnected

    def _check(self, address: str) -> URL:
        """The rule looks at the text alone, so once is enough; names are checked whenever they are resolved."""
        url = self._checked.get(address)
        if url is None:
            self._egress.check_url(address)
            if len(self._checked) >= URLS_KEPT:
                self._checked.clear()
            url = self._checked[address] = URL(address)
        return url

    async def _try(
        self, request: HttpRequest, url: URL, headers: dict[str, str], left_s: float, departed: Callable[[], None]
    ) -> Answer:
        if self._session is None:
            raise NotConnected("the client is closed")
        body = _Body(request.body, departed, self._on_departure) if request.body else None
        timeout = aiohttp.ClientTimeout(total=left_s, sock_connect=self._settings.connect_timeout_s)
        try:
            async with self._session.request(
                request.method, url, data=body, headers=headers, timeout=timeout, allow_redirects=False
            ) as response:
                return response.status, response.headers, await self._read(response)
        except (aiohttp.ClientConnectorError, aiohttp.ConnectionTimeoutError, ForbiddenAddress) as error:
            raise NotConnected(type(error).__name__) from error

    async def _read(self, response: aiohttp.ClientResponse) -> bytes:
        limit = self._settings.response_max_bytes
        if response.content_length is not None and response.content_length > limit:
            raise ResponseTooLarge
        body = await response.content.read(limit + 1)
        while len(body) <= limit and not response.content.at_eof():
            body += await response.content.read(limit + 1 - len(body))
        if len(body) > limit:
            raise ResponseTooLarge
        return body


class _Body(aiohttp.BytesPayload):
    """Calls `departed` just before it is written with the head: after waiting for the loop and for a connection."""

    def __init__(self, body: bytes, departed: Callable[[], None], written: Callable[[], None]) -> None:
        super().__init__(body, content_type="application/json")
        self._departed = departed
        self._written = written  # by us: the loop sends the bytes a moment later

    async def write_with_length(self, writer: AbstractStreamWriter, content_length: int | None) -> None:
        self._departed()
        await super().write_with_length(writer, content_length)
        self._written()
