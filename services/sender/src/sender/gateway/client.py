"""Calls to providers over HTTP: one request as the provider's module built it, one answer as it reads it.

The client never sends a request again by itself; only what provably did not leave (no connection) is tried anew.
"""

import asyncio
import random
from collections.abc import Callable
from typing import Any

import aiohttp

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
Answer = tuple[int, dict[str, str], bytes]


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
            trace_configs=[_told_departure(), *([self._trace()] if self._settings.test_mode else [])],
        )

    def _trace(self) -> aiohttp.TraceConfig:
        """Tells when the request's bytes have left, a moment later, so that they really have."""
        trace = aiohttp.TraceConfig()

        async def written(*_: object) -> None:
            asyncio.get_running_loop().call_later(0.005, self._on_departure)

        trace.on_request_chunk_sent.append(written)
        return trace

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
            self._egress.check_url(request.url)
        except UnsendableMessage as error:
            return error.rejected
        except ForbiddenAddress:
            return NotSent("address_forbidden")
        total_s = self.timeout_s(message.content.kind)
        try:
            status, headers, body = await self.call(
                request, total_s=total_s, traceparent=traceparent, departed=departed
            )
        except NotConnected:
            return read_transport_failure("connect")
        except (aiohttp.ClientError, TimeoutError, ResponseTooLarge, OSError):
            return read_transport_failure("read")
        return instance.provider.read_response(status, headers, body)

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
        """Raises NotConnected if nothing left; anything else raised leaves it open whether something did."""
        deadline_s = asyncio.get_running_loop().time() + total_s
        delay_s = RETRY_BASE_S
        for left in reversed(range(self._settings.connect_tries)):
            try:
                return await self._try(request, deadline_s, traceparent, departed)
            except NotConnected:
                # Decorrelated jitter, within the one deadline that the ledger's time-out was made from.
                delay_s = min(RETRY_MAX_S, random.uniform(RETRY_BASE_S, delay_s * 3))
                if left == 0 or asyncio.get_running_loop().time() + delay_s >= deadline_s:
                    raise
            await asyncio.sleep(delay_s)
        raise NotConnected

    async def _try(
        self, request: HttpRequest, deadline_s: float, traceparent: str | None, departed: Callable[[], None]
    ) -> Answer:
        if self._session is None:
            raise NotConnected("the client is closed")
        self._egress.check_url(request.url)
        headers = dict(request.headers)
        if traceparent is not None:
            headers["traceparent"] = traceparent
        timeout = aiohttp.ClientTimeout(
            total=max(0.01, deadline_s - asyncio.get_running_loop().time()),
            sock_connect=self._settings.connect_timeout_s,
        )
        try:
            async with self._session.request(
                request.method,
                request.url,
                data=request.body or None,
                headers=headers,
                timeout=timeout,
                allow_redirects=False,
                trace_request_ctx=departed,
            ) as response:
                body = await self._read(response)
                return response.status, {name.lower(): value for name, value in response.headers.items()}, body
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


def _told_departure() -> aiohttp.TraceConfig:
    """Calls the request's own `departed` when its head is written: after waiting for the loop and for a connection."""
    trace = aiohttp.TraceConfig()

    async def written(_: object, context: Any, __: object) -> None:
        context.trace_request_ctx()

    trace.on_request_headers_sent.append(written)
    return trace
