"""`Idempotency-Key`: the first request with a key is done, its repetitions get the same answer.

Scoped by account, route and body. What crashed in between is done again after IN_PROGRESS_S under the same derived id.
"""

import hashlib
from collections.abc import Callable, Coroutine
from typing import Any
from uuid import UUID, uuid5

import orjson
from fastapi import Request, Response
from fastapi.routing import APIRoute

from campaign_api.door.parts import Parts
from campaign_api.door.principal import Principal
from campaign_api.door.problems import Problem
from chassis.database import driver

KEY_MAX_CHARS = 255
IN_PROGRESS_S = 60.0
KEPT_HEADERS = ("content-type", "location", "etag", "link")


class IdempotentRoute(APIRoute):
    """A route that honours the key where it is given and somebody is signed in."""

    def get_route_handler(self) -> Callable[[Request], Coroutine[Any, Any, Response]]:
        handle = super().get_route_handler()

        async def handle_once(request: Request) -> Response:
            await _refuse_nul(request)
            key = request.headers.get("idempotency-key")
            principal = request.scope.get("principal")
            if key is None or request.method not in ("POST", "PUT", "PATCH") or not isinstance(principal, Principal):
                return await handle(request)
            if not 0 < len(key) <= KEY_MAX_CHARS:
                raise Problem(400, f"Idempotency-Key must have 1 to {KEY_MAX_CHARS} characters")
            parts: Parts = request.app.state.parts
            route = f"{request.method} {request.url.path}"
            fingerprint = await _fingerprint(request)
            stored = await _claim(parts, principal.account_id, route, key, fingerprint)
            if stored is not None:
                return stored
            request.scope["derived_id"] = uuid5(principal.account_id, f"{route}|{key}|{fingerprint.hex()}")
            return await _finish(handle, request, parts, principal.account_id, route, key)

        return handle_once


async def _refuse_nul(request: Request) -> None:
    """U+0000 is valid in JSON, but no text of PostgreSQL can hold it."""
    multipart = request.headers.get("content-type", "").startswith("multipart/")
    if request.method in ("POST", "PUT", "PATCH") and not multipart and b"\\u0000" in await request.body():
        raise Problem(422, "The request contains the character U+0000")


async def _fingerprint(request: Request) -> bytes:
    """Of the query and the body; files are told apart by their length only, they are not held in memory."""
    content_type = request.headers.get("content-type", "")
    multipart = content_type.startswith("multipart/")
    body = request.headers.get("content-length", "").encode() if multipart else await request.body()
    return hashlib.sha256(request.url.query.encode() + b"\n" + body).digest()


async def _claim(parts: Parts, account_id: UUID, route: str, key: str, fingerprint: bytes) -> Response | None:
    """None: it is ours to do. Otherwise the stored answer. Raises 409 while the first one is at work, 422 on misuse."""
    async with parts.web.transaction(account_id=account_id) as connection:
        raw = await driver(connection)
        claimed = await raw.fetchval(
            "INSERT INTO idempotency AS i (account_id, route, key, request_hash) VALUES ($1, $2, $3, $4)"
            " ON CONFLICT (account_id, route, key) DO UPDATE SET created_at = now()"
            " WHERE i.status IS NULL AND i.request_hash = excluded.request_hash"
            " AND i.created_at < now() - make_interval(secs => $5) RETURNING true",
            account_id,
            route,
            key,
            fingerprint,
            IN_PROGRESS_S,
        )
        if claimed:
            return None
        row = await raw.fetchrow(
            "SELECT request_hash, status, headers::text AS headers, body FROM idempotency"
            " WHERE account_id = $1 AND route = $2 AND key = $3",
            account_id,
            route,
            key,
        )
    if row is None:
        raise Problem(409, "A request with this Idempotency-Key has just failed: try again")
    if row["request_hash"] != fingerprint:
        raise Problem(422, "This Idempotency-Key was used with another request")
    if row["status"] is None:
        raise Problem(409, "A request with this Idempotency-Key is still at work", headers={"Retry-After": "1"})
    headers = orjson.loads(row["headers"]) | {"Idempotency-Replayed": "true"}
    return Response(row["body"], row["status"], headers=headers)


async def _finish(
    handle: Callable[[Request], Coroutine[Any, Any, Response]],
    request: Request,
    parts: Parts,
    account_id: UUID,
    route: str,
    key: str,
) -> Response:
    """Keeps the answer; a request that failed had no effect and may be repeated with the same key."""
    try:
        response = await handle(request)
    except BaseException:
        await _write(
            parts, account_id, "DELETE FROM idempotency WHERE account_id=$1 AND route=$2 AND key=$3", route, key
        )
        raise
    headers = {name: response.headers[name] for name in KEPT_HEADERS if name in response.headers}
    await _write(
        parts,
        account_id,
        "UPDATE idempotency SET status = $4, headers = $5::text::jsonb, body = $6"
        " WHERE account_id = $1 AND route = $2 AND key = $3",
        route,
        key,
        response.status_code,
        orjson.dumps(headers).decode(),
        bytes(response.body),
    )
    return response


async def _write(parts: Parts, account_id: UUID, statement: str, *arguments: Any) -> None:
    async with parts.web.transaction(account_id=account_id) as connection:
        await (await driver(connection)).execute(statement, account_id, *arguments)
