"""The door: verify, keep the raw webhook durably, then 200. Plain ASGI: nothing here may cost more than it must."""

import asyncio
from collections.abc import Awaitable, Callable, Iterable
from datetime import datetime
from typing import Any, Literal, NamedTuple, get_args
from urllib.parse import parse_qsl
from uuid import uuid4

import orjson

from chassis.kafka import PARKED_BYTES_MAX
from chassis.telemetry import counter, is_recorded, log, new_traceparent, span
from providers.registry import PROVIDERS
from webhook_ingest.admission import (
    Admitted,
    Refused,
    Signer,
    admit_evolution,
    admit_meta,
    admit_zapi,
    answer_handshake,
)
from webhook_ingest.directory import Directory
from webhook_ingest.intake import Intake, Kept
from webhook_ingest.raw import raw_webhook

Scope = dict[str, Any]
Receive = Callable[[], Awaitable[dict[str, Any]]]
Send = Callable[[dict[str, Any]], Awaitable[None]]
Provider = Literal["evolution", "meta", "zapi"]
PREFIX = "/api/webhook"
DIALECTS = {
    "evolution": PROVIDERS["evolution_web"],
    "meta": PROVIDERS["meta_cloud"],
    "zapi": PROVIDERS["zapi"],
}


VALUE_MAX_BYTES = PARKED_BYTES_MAX - 64 * 1024  # a record above it would stay in the spool for ever
# Nobody reads more than the status; without a body the answer is one write instead of two.
TAKEN_START = {"type": "http.response.start", "status": 200, "headers": [(b"content-length", b"0")]}
TAKEN_BODY = {"type": "http.response.body", "body": b""}
# They say something about the connection and nothing about the webhook: not kept.
OF_THE_CONNECTION = frozenset({b"host", b"connection", b"content-length", b"accept", b"accept-encoding"})


class TooLarge(Exception):
    """The webhook is larger than the setting BODY_MAX_BYTES allows, or than Kafka takes."""


class Request(NamedTuple):
    """What the provider sent."""

    headers: dict[str, str]
    body: bytes


class Door:
    """One ASGI application. `verify_tokens` are the installation's; instances may add their own."""

    def __init__(
        self,
        directory: Directory,
        intake: Intake,
        *,
        now: Callable[[], datetime],
        body_max_bytes: int,
        verify_tokens: tuple[str, ...] = (),
        trust_traceparent: bool = False,
    ) -> None:
        self._directory = directory
        self._intake = intake
        self._now = now
        self._body_max_bytes = body_max_bytes
        self._verify_tokens = verify_tokens
        self._trust_traceparent = trust_traceparent
        received = counter("pombo_webhooks_received_total", "Webhooks by where they are safe.", ("provider", "kept"))
        self._received = {(name, kept): received.labels(name, kept) for name in DIALECTS for kept in get_args(Kept)}
        self._refused = counter("pombo_webhooks_refused_total", "Webhooks turned away at the door.", ("reason",))

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            return
        path: str = scope["path"].rstrip("/")
        if path != PREFIX and not path.startswith(PREFIX + "/"):
            await answer(send, 404, {"success": False, "error": "no such address: webhooks go to /api/webhook/…"})
            return
        parts = path[len(PREFIX) :].strip("/").split("/")
        if scope["method"] == "GET" and parts[0] == "meta":
            await self._handshake(scope, parts[1:], send)
        elif scope["method"] == "POST":
            await self._take(scope, parts, receive, send)
        else:
            await answer(send, 405, {"success": False, "error": "webhooks are POSTed"})

    async def _handshake(self, scope: Scope, rest: list[str], send: Send) -> None:
        query = dict(parse_qsl(scope["query_string"].decode("latin-1")))
        challenge = answer_handshake(query, self._meta_verify_tokens(rest))
        if challenge is None:
            await answer(send, 403, {"success": False, "error": "hub.verify_token is not the one that was set"})
            return
        headers = [(b"content-type", b"text/plain; charset=utf-8")]
        await send({"type": "http.response.start", "status": 200, "headers": headers})
        await send({"type": "http.response.body", "body": challenge.encode()})

    async def _take(self, scope: Scope, parts: list[str], receive: Receive, send: Send) -> None:
        try:
            status, problem = await self._receive(scope, parts, receive)
        except TooLarge as error:
            status, problem = 413, str(error)
        if problem is None:
            await send(TAKEN_START)
            await send(TAKEN_BODY)
        else:
            await answer(send, status, {"success": False, "error": problem})

    async def _receive(self, scope: Scope, parts: list[str], receive: Receive) -> tuple[int, str | None]:
        """The answer's status, and what is wrong if anything is. Raises TooLarge."""
        headers = {
            name.decode("latin-1"): value.decode("latin-1")
            for name, value in scope["headers"]
            if name not in OF_THE_CONNECTION
        }
        request = Request(headers, await read_body(receive, self._body_max_bytes))
        provider, decision = self._admit(parts, request)
        if isinstance(decision, Refused) and decision.reason != "unreadable":
            await self._directory.refresh_if_older()
            provider, decision = self._admit(parts, request)
        if isinstance(decision, Refused):
            self._refused.labels(decision.reason).inc()
            return decision.status, decision.reason
        kept = await self._keep(provider, decision, request)
        self._received[provider, kept].inc()
        return (503, "try again: the webhook could not be stored") if kept == "nowhere" else (200, None)

    def _admit(self, parts: list[str], request: Request) -> tuple[Provider, Admitted | Refused]:
        headers, body = request
        match parts:
            case ["meta"]:
                return "meta", admit_meta(self._directory.meta_signers(body), headers, body)
            case ["meta", key]:
                return "meta", admit_meta(self._meta_signers(key), headers, body)
            case ["zapi", secret]:
                return "zapi", admit_zapi(self._directory.of_kind("zapi"), headers, body, secret)
            case ["evolution", instance, *_]:  # byEvents appends the event's name to the path
                known = self._directory.find(instance)
                return "evolution", admit_evolution((known,) if known else (), headers, body)
            case [""]:
                name = read_instance_name(body)
                if name is None:
                    return "evolution", Refused(400, "unreadable")
                return "evolution", admit_evolution(self._directory.by_gateway_name(name), headers, body)
            case _:
                return "evolution", Refused(404, "unknown_instance")

    async def _keep(self, provider: Provider, admitted: Admitted, request: Request) -> Kept:
        """Raises TooLarge."""
        incoming = request.headers.get("traceparent") if self._trust_traceparent else None
        traceparent = incoming or new_traceparent()
        if incoming is None and not is_recorded(traceparent):  # nearly all
            return await self._accept(provider, admitted, request, traceparent)
        with span("webhook received", traceparent, provider=provider) as own:
            return await self._accept(provider, admitted, request, own)

    def _accept(
        self, provider: Provider, admitted: Admitted, request: Request, traceparent: str
    ) -> "asyncio.Future[Kept]":
        headers, body = DIALECTS[provider].redact(request.headers, request.body)
        webhook = raw_webhook(
            uuid4(), provider, admitted, headers, body, traceparent=traceparent, received_at=self._now()
        )
        if len(webhook.value) > VALUE_MAX_BYTES:
            raise TooLarge(f"the webhook is larger than the {VALUE_MAX_BYTES} bytes that can be kept of one")
        return self._intake.accept(webhook)

    def _meta_signers(self, key: str) -> tuple[Signer, ...]:
        """One instance's own app."""
        known = self._directory.find(key)
        return (Signer(known.keys, (known.account_id,)),) if known else ()

    def _meta_verify_tokens(self, rest: list[str]) -> Iterable[str]:
        if rest:
            known = self._directory.find(rest[0])
            return (known.verify_token,) if known and known.verify_token else ()
        own = (known.verify_token for known in self._directory.of_kind("meta_cloud") if known.verify_token)
        return (*self._verify_tokens, *own)


async def read_body(receive: Receive, max_bytes: int) -> bytes:
    """Raises TooLarge as soon as the limit is passed, without reading on."""
    chunks: list[bytes] = []
    size = 0
    while True:
        message = await receive()
        chunk: bytes = message.get("body", b"")
        size += len(chunk)
        if size > max_bytes:
            raise TooLarge(f"the body is larger than {max_bytes} bytes: send fewer events in one webhook")
        chunks.append(chunk)
        if not message.get("more_body"):
            return b"".join(chunks)


async def answer(send: Send, status: int, body: dict[str, Any]) -> None:
    payload = orjson.dumps(body)
    headers = [(b"content-type", b"application/json"), (b"content-length", str(len(payload)).encode())]
    await send({"type": "http.response.start", "status": status, "headers": headers})
    await send({"type": "http.response.body", "body": payload})
    if status >= 500:
        log.warning("webhook_postponed", status=status)


def read_instance_name(body: bytes) -> str | None:
    """The gateway's instance name, for the common address."""
    try:
        payload = orjson.loads(body)
    except orjson.JSONDecodeError:
        return None
    name = payload.get("instance") if isinstance(payload, dict) else None
    return name if isinstance(name, str) else None
