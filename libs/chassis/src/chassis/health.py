"""/health, /ready, /metrics for services without a door of their own; those with one answer from the same parts."""

import asyncio
import resource
from pathlib import Path
from typing import TypeAlias

from aiohttp import web
from prometheus_client import CONTENT_TYPE_LATEST, generate_latest

from chassis.settings import HealthSettings
from chassis.telemetry import REGISTRY, log

Report: TypeAlias = dict[str, bool]


class Readiness:
    """Which parts of the process can do their work now; ready once each part that was named has said so."""

    def __init__(self, *expected: str) -> None:
        self._parts: Report = dict.fromkeys(expected, False)

    def set(self, name: str, ready: bool) -> None:
        self._parts[name] = ready

    @property
    def all_ready(self) -> bool:
        return all(self._parts.values())

    def report(self) -> Report:
        return dict(self._parts)


def render_metrics() -> tuple[bytes, str]:
    """Body and content type of /metrics."""
    return generate_latest(REGISTRY), CONTENT_TYPE_LATEST


async def serve_health(settings: HealthSettings, readiness: Readiness, stopping: asyncio.Event) -> None:
    """Answers until `stopping` is set. With port 0 the address is in the log line `health_listening`."""

    async def health(_: web.Request) -> web.Response:
        return web.json_response({"status": "ok"})

    async def ready(_: web.Request) -> web.Response:
        able = readiness.all_ready and not stopping.is_set()
        return web.json_response({"ready": able, "parts": readiness.report()}, status=200 if able else 503)

    async def metrics(_: web.Request) -> web.Response:
        body, content_type = render_metrics()
        return web.Response(body=body, headers={"Content-Type": content_type})

    application = web.Application()
    application.add_routes([web.get("/health", health), web.get("/ready", ready), web.get("/metrics", metrics)])
    runner = web.AppRunner(application, access_log=None)
    await runner.setup()
    try:
        await web.TCPSite(runner, settings.host, settings.port).start()
        for host, port, *_ in runner.addresses:
            log.info("health_listening", host=host, port=port)
        await stopping.wait()
    finally:
        await runner.cleanup()


def resident_mb() -> int:
    """Of this process now, in MiB; 0 where the system does not tell."""
    try:
        pages = int(Path("/proc/self/statm").read_text().split()[1])
    except OSError:
        return 0
    return pages * resource.getpagesize() // 2**20
