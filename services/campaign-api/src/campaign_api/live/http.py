"""Server-sent events: `GET /api/events`, resumable by `Last-Event-ID`."""

import asyncio
import time
from collections.abc import AsyncIterator
from typing import Annotated, Any

import orjson
from aiokafka.errors import KafkaError
from fastapi import APIRouter, Header
from fastapi.responses import StreamingResponse

from campaign_api.door.parts import Here, Parts
from campaign_api.door.principal import Operator, Principal
from campaign_api.door.problems import responses
from campaign_api.live.feed import Missed, Notice

HEARTBEAT_S = 15.0
RELOAD = b"event: reload\ndata: {}\n\n"
router = APIRouter(prefix="/api", tags=["live"])


class EventStream(StreamingResponse):
    media_type = "text/event-stream"


@router.get(
    "/events",
    response_class=EventStream,
    responses=responses() | {200: {"content": {"text/event-stream": {"schema": {"type": "string"}}}}},
)
async def events(
    principal: Operator, parts: Here, last_event_id: Annotated[str | None, Header(alias="Last-Event-ID")] = None
) -> EventStream:
    """Changes of campaigns, conversations, messages, instances and contacts of the account, as they happen.

    After `reload` something was missed: load the view anew. The stream ends after as long as an access token is valid:
    whoever may still see goes on with the next one and `Last-Event-ID`.
    """
    headers = {"Cache-Control": "no-store", "X-Accel-Buffering": "no"}
    return EventStream(_stream(parts, principal, last_event_id), headers=headers)


async def _stream(parts: Parts, principal: Principal, last_id: str | None) -> AsyncIterator[bytes]:
    """Listens first, then repeats what was missed: nothing falls between, a repetition does no harm."""
    with parts.feed.listening(principal.account_id) as listener:
        yield b"retry: 2000\n\n"
        if last_id:
            try:
                async for notice in parts.feed.since(principal.account_id, last_id):
                    yield _event(notice)
            except (Missed, KafkaError, OSError):
                yield RELOAD
        ends_s = time.monotonic() + parts.settings.access_token_s
        while not parts.stopping.is_set() and time.monotonic() < ends_s:
            if listener.overrun:
                yield RELOAD
                listener.overrun = False
            try:
                notice = await asyncio.wait_for(listener.notices.get(), min(HEARTBEAT_S, 1.0))
            except TimeoutError:
                yield b": \n\n"
                continue
            yield _event(notice)


def _event(notice: Notice) -> bytes:
    data: dict[str, Any] = {"view": notice.change.view, "id": str(notice.change.id), "summary": notice.change.summary}
    return f"id: {notice.id}\nevent: {notice.change.view}\ndata: ".encode() + orjson.dumps(data) + b"\n\n"
