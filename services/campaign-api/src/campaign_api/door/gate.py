"""The outermost layer of every request: size, who asks, how often, headers. Plain ASGI, no body is held."""

import hmac
import time
from collections.abc import Awaitable, Callable
from http.cookies import CookieError, SimpleCookie

from starlette.datastructures import Headers, MutableHeaders
from starlette.exceptions import HTTPException
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from campaign_api.door import problems
from campaign_api.door.limits import Limiter, Taken
from campaign_api.door.principal import Principal
from campaign_api.settings import Settings
from chassis.telemetry import span

SESSION_COOKIE = "pombo_session"
CSRF_COOKIE = "pombo_csrf"
SAFE_METHODS = ("GET", "HEAD", "OPTIONS")
HEADERS = {
    "X-Content-Type-Options": "nosniff",
    "Referrer-Policy": "no-referrer",
    "X-Frame-Options": "DENY",
    "Cache-Control": "no-store",
}
BURST_S = 4

# Turns a bearer's credential and the caller's address into a principal; None where it is not valid.
Authenticate = Callable[[str, str | None], Awaitable[Principal | None]]


class Gate:
    """Refuses what is too large or too often, and puts the principal into the scope."""

    def __init__(self, app: ASGIApp, *, settings: Settings, authenticate: Authenticate) -> None:
        self._app = app
        self._settings = settings
        self._authenticate = authenticate
        rate = settings.requests_per_second
        self._limiter = Limiter(rate, max(1, int(rate * BURST_S)))

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        headers = Headers(scope=scope)
        cap = self._cap(headers)
        if _declared(headers) > cap:
            await problems.answer(scope["path"], 413, f"The request is larger than {cap} bytes")(scope, receive, send)
            return
        if b"%00" in scope.get("query_string", b"") or "\x00" in scope["path"]:
            await problems.answer(scope["path"].replace("\x00", ""), 400, "The address contains the character U+0000")(
                scope, receive, send
            )
            return
        address = scope["client"][0] if scope.get("client") else None
        credential = _credential(scope["method"], headers)
        principal = await self._authenticate(credential, address) if credential else None
        scope["principal"] = principal
        taken = self._limiter.take(principal.account_id if principal else address, time.monotonic())
        send = self._with_headers(send, taken)
        if not taken.allowed:
            retry = {"Retry-After": str(int(taken.wait_s) + 1)}
            await problems.answer(scope["path"], 429, "Too many requests: slow down", headers=retry)(
                scope, receive, send
            )
            return
        with span("request", method=scope["method"], route=scope["path"]):
            await self._app(scope, _capped(receive, cap), send)

    def _cap(self, headers: Headers) -> int:
        multipart = headers.get("content-type", "").startswith("multipart/")
        return self._settings.upload_max_bytes if multipart else self._settings.json_max_bytes

    def _with_headers(self, send: Send, taken: Taken) -> Send:
        async def send_with_headers(message: Message) -> None:
            if message["type"] == "http.response.start":
                headers = MutableHeaders(scope=message)
                for name, value in HEADERS.items():
                    headers.setdefault(name, value)
                headers["RateLimit-Policy"] = f'"account";q={self._limiter.burst};w={BURST_S}'
                headers["RateLimit"] = f'"account";r={taken.remaining};t={int(taken.wait_s) + 1}'
            await send(message)

        return send_with_headers


def _declared(headers: Headers) -> int:
    try:
        return int(headers.get("content-length", "0"))
    except ValueError:
        return 0


def _capped(receive: Receive, cap: int) -> Receive:
    """Counts what really comes: a chunked body declares nothing."""
    received = 0

    async def receive_capped() -> Message:
        nonlocal received
        message = await receive()
        received += len(message.get("body", b""))
        if received > cap:
            raise HTTPException(413, f"The request is larger than {cap} bytes")
        return message

    return receive_capped


def _credential(method: str, headers: Headers) -> str | None:
    """The bearer's token; else the panel's cookie, which changes things only with the CSRF token in a header."""
    scheme, _, token = headers.get("authorization", "").partition(" ")
    if scheme.lower() == "bearer" and token.strip():
        return token.strip()
    if "cookie" not in headers:
        return None
    try:
        cookies = SimpleCookie(headers["cookie"])
    except CookieError:
        return None
    if SESSION_COOKIE not in cookies:
        return None
    if method in SAFE_METHODS:
        return cookies[SESSION_COOKIE].value
    expected = cookies[CSRF_COOKIE].value if CSRF_COOKIE in cookies else ""
    given = headers.get("x-csrf-token", "")
    return (
        cookies[SESSION_COOKIE].value if expected and hmac.compare_digest(expected.encode(), given.encode()) else None
    )
