"""The FastAPI application: every router, the outer gate, health, and the OpenAPI document."""

from typing import Any

from fastapi import FastAPI, Request, Response
from fastapi.middleware.cors import CORSMiddleware
from fastapi.responses import JSONResponse

from campaign_api.campaign import figures, run
from campaign_api.campaign import http as campaigns
from campaign_api.contact import http as contacts
from campaign_api.conversation import http as conversations
from campaign_api.desk import http as desk
from campaign_api.door import problems
from campaign_api.door.gate import Gate
from campaign_api.door.parts import Parts
from campaign_api.explanation import http as explanations
from campaign_api.identity import administration
from campaign_api.identity import http as identity
from campaign_api.instance import http as instances
from campaign_api.live import http as live
from campaign_api.operation import dead_letters, holds, possibly_twice, unresolved
from campaign_api.operation import http as operations
from campaign_api.upload import http as uploads
from chassis.health import Readiness, render_metrics

ROUTERS = (
    identity.router,
    administration.router,
    instances.router,
    uploads.router,
    contacts.router,
    campaigns.router,
    run.router,
    figures.router,
    conversations.router,
    desk.router,
    operations.router,
    unresolved.router,
    possibly_twice.router,
    dead_letters.router,
    holds.router,
    explanations.router,
    live.router,
)


def build_door(parts: Parts) -> FastAPI:
    app = FastAPI(
        title="Pombo",
        version="1",
        summary="WhatsApp campaigns: accounts, instances, contacts, campaigns, conversations, queue.",
        openapi_url="/api/openapi.json",
        docs_url="/api/docs",
        redoc_url=None,
        separate_input_output_schemas=False,
    )
    app.state.parts = parts
    app.state.readiness = None
    problems.install(app)
    for router in ROUTERS:
        app.include_router(router)
    _add_health(app)
    authenticate = identity.sessions_of(parts).authenticate
    app.add_middleware(Gate, settings=parts.settings, authenticate=authenticate)
    if parts.settings.cors_origins:
        app.add_middleware(
            CORSMiddleware,
            allow_origins=list(parts.settings.cors_origins),
            allow_methods=["GET", "POST", "PUT", "PATCH", "DELETE"],
            allow_headers=["Authorization", "Content-Type", "Idempotency-Key", "If-Match", "X-CSRF-Token"],
            expose_headers=["ETag", "Link", "Location", "RateLimit", "RateLimit-Policy"],
            allow_credentials=True,
        )
    _describe_problems(app)
    return app


def _add_health(app: FastAPI) -> None:
    @app.get("/health", include_in_schema=False)
    async def health() -> dict[str, str]:
        return {"status": "ok"}

    @app.get("/ready", include_in_schema=False)
    async def ready(request: Request) -> Response:
        readiness: Readiness | None = request.app.state.readiness
        able = readiness is not None and readiness.all_ready
        return JSONResponse({"ready": able, "parts": readiness.report() if readiness else {}}, 200 if able else 503)

    @app.get("/metrics", include_in_schema=False)
    async def metrics() -> Response:
        body, content_type = render_metrics()
        return Response(body, media_type=content_type)


def _describe_problems(app: FastAPI) -> None:
    """The problem document's schema, and our problem in place of FastAPI's own validation error."""
    generate = app.openapi

    def openapi() -> dict[str, Any]:
        if app.openapi_schema is None:
            document = generate()
            schemas = document["components"]["schemas"]
            problem = problems.ProblemDocument.model_json_schema(ref_template="#/components/schemas/{model}")
            schemas.update(problem.pop("$defs", {}))
            schemas["ProblemDocument"] = problem
            for name in ("HTTPValidationError", "ValidationError"):
                schemas.pop(name, None)
        return app.openapi_schema or {}

    app.openapi = openapi  # type: ignore[method-assign]
