"""Every error as a problem (RFC 9457), with the plain message in the member `error` too."""

from collections.abc import Mapping
from typing import Any

from fastapi import FastAPI, Request
from fastapi.exceptions import RequestValidationError
from fastapi.responses import JSONResponse
from pydantic import BaseModel, ConfigDict
from starlette.exceptions import HTTPException

from campaign_api.campaign.campaign import Refused
from campaign_api.event_store import Conflict, VersionMismatch
from chassis.telemetry import log

MEDIA_TYPE = "application/problem+json"
TITLES = {
    400: "Bad request",
    401: "Not signed in",
    403: "Not allowed",
    404: "Not found",
    405: "Method not allowed",
    408: "Too slow",
    409: "Conflict",
    412: "Changed meanwhile",
    413: "Too large",
    415: "Unsupported media type",
    422: "Not valid",
    429: "Too many requests",
    500: "Internal error",
    503: "Unavailable",
    504: "No answer in time",
}


class FieldProblem(BaseModel):
    """`field`: dotted path into the request."""

    field: str
    detail: str


class ProblemDocument(BaseModel):
    """A problem as RFC 9457 describes it; `error` repeats the message."""

    model_config = ConfigDict(extra="allow")

    type: str = "about:blank"
    title: str
    status: int
    detail: str
    error: str
    instance: str | None = None
    errors: list[FieldProblem] | None = None


class Problem(Exception):
    """A request that cannot be answered as asked; the text is shown to the person."""

    def __init__(
        self, status: int, detail: str, *, errors: list[FieldProblem] | None = None, headers: Mapping[str, str] = {}
    ) -> None:
        super().__init__(detail)
        self.status = status
        self.detail = detail
        self.errors = errors
        self.headers = headers


def not_found(what: str) -> Problem:
    return Problem(404, f"{what} not found")


def answer(
    request_path: str,
    status: int,
    detail: str,
    errors: list[FieldProblem] | None = None,
    headers: Mapping[str, str] | None = None,
) -> JSONResponse:
    document = ProblemDocument(
        title=TITLES.get(status, "Error"),
        status=status,
        detail=detail,
        error=detail,
        instance=request_path,
        errors=errors,
    )
    return JSONResponse(
        document.model_dump(exclude_none=True), status, headers=dict(headers or {}), media_type=MEDIA_TYPE
    )


def responses(*statuses: int) -> dict[int | str, dict[str, Any]]:
    """For a route's OpenAPI entry."""
    schema = {"$ref": "#/components/schemas/ProblemDocument"}
    return {
        status: {"description": TITLES[status], "content": {MEDIA_TYPE: {"schema": schema}}}
        for status in sorted({*statuses, 400, 401, 403, 422, 429})
    }


def install(app: FastAPI) -> None:
    async def problem(request: Request, error: Exception) -> JSONResponse:
        assert isinstance(error, Problem)
        return answer(request.url.path, error.status, error.detail, error.errors, error.headers)

    async def refused(request: Request, error: Exception) -> JSONResponse:
        return answer(request.url.path, 400, str(error))

    async def conflict(request: Request, _: Exception) -> JSONResponse:
        return answer(request.url.path, 409, "Others are changing the same thing at this moment: try again")

    async def mismatch(request: Request, _: Exception) -> JSONResponse:
        return answer(request.url.path, 412, "It was changed since you read it: read it again")

    async def invalid(request: Request, error: Exception) -> JSONResponse:
        assert isinstance(error, RequestValidationError)
        errors = [
            FieldProblem(
                field=".".join(str(part) for part in fault["loc"][1:]) or str(fault["loc"][0]), detail=fault["msg"]
            )
            for fault in error.errors()[:50]
        ]
        detail = "; ".join(f"{fault.field}: {fault.detail}" for fault in errors[:3])
        return answer(request.url.path, 422, detail, errors)

    async def http(request: Request, error: Exception) -> JSONResponse:
        assert isinstance(error, HTTPException)
        detail = error.detail if error.detail not in ("Not Found",) else "There is nothing at this address"
        return answer(request.url.path, error.status_code, str(detail), headers=error.headers)

    async def crash(request: Request, error: Exception) -> JSONResponse:
        log.error("request_failed", path=request.url.path, error=type(error).__name__, exc_info=error)
        return answer(request.url.path, 500, "Something went wrong here; it was recorded")

    app.add_exception_handler(Problem, problem)
    app.add_exception_handler(Refused, refused)
    app.add_exception_handler(Conflict, conflict)
    app.add_exception_handler(VersionMismatch, mismatch)
    app.add_exception_handler(RequestValidationError, invalid)
    app.add_exception_handler(HTTPException, http)
    app.add_exception_handler(Exception, crash)
