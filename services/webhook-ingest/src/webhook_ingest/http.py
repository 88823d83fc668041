"""The door: verify, keep the raw webhook durably, then 200. Plain ASGI: nothing here may cost more than it must."""

import base64
from collections.abc import Awaitable, Callable, Iterable
from datetime import datetime
from typing import Any, Literal
from urllib.parse import parse_qsl
from uuid import uuid4

import orjson

from chassis.telemetry import counter, log, span
from contracts.webhooks import WebhookReceived
from providers.registry import PROVIDERS
from webhook_ingest.admission import (
    Admitted,
    Refused,
    admit_evolution,
    admit_meta,
    admit_zapi,
    answer_handshake,
)
from webhook_ingest.directory import Directory
from webhook_ingest.intake import Intake

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


class TooLarge(Exception):
    """The body is larger than the setting BODY_MAX_BYTES allows."""


class Door:
    """One ASGI application. `verify_tokens` and `app_secrets` are the installation's; instances may add their own."""

    def __init__(
        self,
        directory: Directory,
        intake: Intake,
        *,
        now: Callable[[], datetime],
        body_max_bytes: int,
        verify_tokens: tuple[str, ...] = (),
        app_secrets: tuple[str, ...] = (),
        trust_traceparent: bool = False,
    ) -> None:
        self._directory = directory
        self._intake = intake
        self._now = now
        self._body_max_bytes = body_max_bytes
        self._verify_tokens = verify_tokens
        self._app_secrets = app_secrets
        self._trust_traceparent = trust_traceparent
        self._received = counter(
            "pombo_webhooks_received_total", "Webhooks by where they are safe.", ("provider", "kept")
        )
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
        headers = {name.decode("latin-1"): value.decode("latin-1") for name, value in scope["headers"]}
        try:
            body = await read_body(receive, self._body_max_bytes)
        except TooLarge as error:
            await answer(send, 413, {"success": False, "error": str(error)})
            return
        provider, decision = self._admit(parts, headers, body)
        if isinstance(decision, Refused) and decision.reason != "unreadable":
            await self._directory.refresh_if_older()
            provider, decision = self._admit(parts, headers, body)
        if isinstance(decision, Refused):
            self._refused.labels(decision.reason).inc()
            await answer(send, decision.status, {"success": False, "error": decision.reason})
            return
        kept = await self._keep(provider, decision, headers, body)
        self._received.labels(provider, kept).inc()
        if kept == "nowhere":
            await answer(send, 503, {"success": False, "error": "try again: the webhook could not be stored"})
        else:
            await answer(send, 200, {"success": True})

    def _admit(self, parts: list[str], headers: dict[str, str], body: bytes) -> tuple[Provider, Admitted | Refused]:
        match parts:
            case ["meta"]:
                return "meta", admit_meta(self._meta_secrets(None), headers, body)
            case ["meta", key]:
                return "meta", admit_meta(self._meta_secrets(key), headers, body)
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

    async def _keep(self, provider: Provider, admitted: Admitted, headers: dict[str, str], body: bytes) -> str:
        instance = admitted.instance
        incoming = headers.get("traceparent") if self._trust_traceparent else None
        with span("webhook received", traceparent=incoming, provider=provider) as traceparent:
            redacted_headers, redacted_body = DIALECTS[provider].redact(headers, body)
            text, encoding = as_text(redacted_body)
            webhook = WebhookReceived(
                provider=provider,
                instance_id=instance.id if instance else None,
                headers=redacted_headers,
                body=text,
                encoding=encoding,
                received_at=self._now(),
            )
            account_id = instance.account_id if instance else None
            return await self._intake.accept(webhook, account_id, traceparent, correlation_id=str(uuid4()))

    def _meta_secrets(self, key: str | None) -> Iterable[str]:
        """One instance's own app secret, or every active one of the installation."""
        if key is not None:
            known = self._directory.find(key)
            return known.keys.signing_secrets if known else ()
        own = (secret for known in self._directory.of_kind("meta_cloud") for secret in known.keys.signing_secrets)
        return dict.fromkeys((*self._app_secrets, *own))

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


def as_text(body: bytes) -> tuple[str, Literal["utf-8", "base64"]]:
    try:
        return body.decode(), "utf-8"
    except UnicodeDecodeError:
        return base64.b64encode(body).decode(), "base64"


def read_instance_name(body: bytes) -> str | None:
    """The gateway's instance name, for the common address."""
    try:
        payload = orjson.loads(body)
    except orjson.JSONDecodeError:
        return None
    name = payload.get("instance") if isinstance(payload, dict) else None
    return name if isinstance(name, str) else None
