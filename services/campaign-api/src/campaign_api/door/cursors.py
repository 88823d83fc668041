"""Pages: a cursor is the last row's place in the order, opaque to the client, carried in `Link`."""

import base64
from collections.abc import Sequence
from datetime import datetime
from typing import Annotated, Any, TypeVar
from urllib.parse import parse_qsl, urlencode
from uuid import UUID

import orjson
from fastapi import Query, Request, Response

from campaign_api.door.problems import Problem

LIMIT_MAX = 500
Cursor = Annotated[str | None, Query(max_length=500, description="from the Link header of the page before")]
Limit = Annotated[int, Query(ge=1, le=LIMIT_MAX)]

T = TypeVar("T")


def encode(*place: Any) -> str:
    return base64.urlsafe_b64encode(orjson.dumps(place, default=str)).rstrip(b"=").decode()


def decode(cursor: str, *kinds: type) -> list[Any]:
    """Raises Problem 400 where it was not made by `encode` with values of these kinds."""
    try:
        values = orjson.loads(base64.urlsafe_b64decode(cursor + "=" * (-len(cursor) % 4)))
        if not isinstance(values, list) or len(values) != len(kinds):
            raise ValueError("wrong length")
        return [_read(value, kind) for value, kind in zip(values, kinds, strict=True)]
    except (ValueError, TypeError) as error:
        raise Problem(400, "The cursor is not one of ours") from error


def _read(value: Any, kind: type) -> Any:
    if kind is datetime:
        return datetime.fromisoformat(value)
    if kind is UUID:
        return UUID(value)
    if not isinstance(value, kind):
        raise ValueError("wrong kind")
    return value


def cut(rows: Sequence[T], limit: int) -> tuple[Sequence[T], bool]:
    """Queries ask for one row more than the page holds: whether there is a next page."""
    return rows[:limit], len(rows) > limit


def link_next(request: Request, response: Response, *place: Any) -> None:
    query = [(key, value) for key, value in parse_qsl(request.url.query) if key != "cursor"]
    query.append(("cursor", encode(*place)))
    response.headers["Link"] = f'<{request.url.path}?{urlencode(query)}>; rel="next"'
