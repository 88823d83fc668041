"""Pages: a cursor is the last row's place in the order, opaque to the client, carried in `Link`."""

import base64
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Annotated, Any, TypeVar
from urllib.parse import parse_qsl, urlencode
from uuid import UUID

import orjson
from fastapi import Depends, Query, Request, Response

from campaign_api.door.problems import Problem

LIMIT_MAX = 500

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


@dataclass(frozen=True, slots=True)
class Page:
    """Which page is asked for, and where the next one is told: in the header `Link`."""

    request: Request
    response: Response
    cursor: str | None
    limit: int

    @property
    def fetched(self) -> int:
        """Queries ask for one row more than the page holds: whether there is a next page."""
        return self.limit + 1

    def after(self, kind: type[T]) -> T | None:
        """The place of the last row of the page before; None for the first page. Raises Problem 400."""
        return decode(self.cursor, kind)[0] if self.cursor else None

    def after_moment(self) -> tuple[datetime, UUID] | None:
        """The same where rows are in the order of a time and their ids."""
        if not self.cursor:
            return None
        at, row_id = decode(self.cursor, datetime, UUID)
        return at, row_id

    def cut(self, rows: Sequence[Any], *place: str) -> Sequence[Any]:
        """The page's rows; `place`: the columns that tell a row's place in the order."""
        page = rows[: self.limit]
        if len(rows) > self.limit:
            query = [(key, value) for key, value in parse_qsl(self.request.url.query) if key != "cursor"]
            query.append(("cursor", encode(*(page[-1][name] for name in place))))
            self.response.headers["Link"] = f'<{self.request.url.path}?{urlencode(query)}>; rel="next"'
        return page


def _asked(default: int) -> Any:
    async def page(
        request: Request,
        response: Response,
        cursor: Annotated[
            str | None, Query(max_length=500, description="from the Link header of the page before")
        ] = None,
        limit: Annotated[int, Query(ge=1, le=LIMIT_MAX)] = default,
    ) -> Page:
        return Page(request, response, cursor, limit)

    return Depends(page)


Fifty = Annotated[Page, _asked(50)]
Hundred = Annotated[Page, _asked(100)]
