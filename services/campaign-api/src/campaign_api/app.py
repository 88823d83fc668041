"""The composition root: the door, its parts, and what runs beside it, made by hand."""

import asyncio
from collections.abc import Generator
from contextlib import contextmanager
from dataclasses import dataclass

import uvicorn
from fastapi import FastAPI

from campaign_api import consumers
from campaign_api.campaign.paces import Paces
from campaign_api.door.http import build_door
from campaign_api.door.parts import Parts
from campaign_api.explanation.forecasts import Forecasts
from campaign_api.identity.passwords import Passwords
from campaign_api.identity.tokens import TokenKeys
from campaign_api.live.feed import Feed
from campaign_api.settings import Settings
from campaign_api.upload.reading import READERS_MAX
from campaign_api.worker import Housekeeping, Importer
from chassis import outbox
from chassis.database import Database
from chassis.health import Readiness, serve_health
from chassis.inbox import consume
from chassis.kafka import Producer
from chassis.lifecycle import run_tasks, utc_now
from chassis.secrets import SecretBox
from chassis.settings import PostgresSettings
from contracts.topics import CAMPAIGN_API

SCHEMA = "campaign_api"


class _Server(uvicorn.Server):
    @contextmanager
    def capture_signals(self) -> Generator[None, None, None]:
        """Signals are the lifecycle's."""
        yield


@dataclass(frozen=True, slots=True)
class Application:
    settings: Settings
    parts: Parts
    door: FastAPI

    async def serve(self) -> None:
        """Until `stopping`. What the last requests wrote may be left to the relay of the next start."""
        settings, parts, stopping = self.settings, self.parts, self.parts.stopping
        readiness = Readiness("door")
        producer = Producer(settings.kafka, client_id=CAMPAIGN_API)
        await producer.start()
        inbound = consumers.Inbound(parts.now, {})
        handlers = (
            (consumers.PROGRESS, consumers.Progress(parts.now).handle),
            (consumers.HEALTH, consumers.Health(parts.now).handle),
            (consumers.INBOUND, inbound.handle),
        )
        try:
            await run_tasks(
                stopping,
                {
                    "door": self._serve_door(readiness, stopping),
                    "health": serve_health(settings.health, readiness, stopping),
                    "relay": outbox.relay(
                        parts.worker, producer, schema=SCHEMA, dsn=settings.postgres.dsn, stopping=stopping
                    ),
                    "feed": parts.feed.run(stopping),
                    "imports": Importer(parts.worker, settings, parts.readers, parts.now).run(stopping),
                    "housekeeping": Housekeeping(parts.worker, settings, parts.now).run(stopping),
                }
                | {
                    subscription.group: consume(
                        subscription,
                        settings=settings.kafka,
                        database=parts.worker,
                        producer=producer,
                        handle=handle,
                        ready=readiness,
                        stopping=stopping,
                    )
                    for subscription, handle in handlers
                },
            )
        finally:
            await producer.stop()
            await self.close()

    async def close(self) -> None:
        await self.parts.web.close()
        await self.parts.worker.close()

    async def _serve_door(self, readiness: Readiness, stopping: asyncio.Event) -> None:
        self.door.state.readiness = readiness
        server = _Server(
            uvicorn.Config(
                self.door,
                host=self.settings.http_host,
                port=self.settings.http_port,
                log_config=None,
                access_log=False,
                server_header=False,
                proxy_headers=True,
                timeout_graceful_shutdown=int(self.settings.drain_s),
                h11_max_incomplete_event_size=64 * 1024,
            )
        )

        async def stop() -> None:
            await stopping.wait()
            server.should_exit = True

        async with asyncio.TaskGroup() as tasks:
            stopper = tasks.create_task(stop())
            readiness.set("door", True)
            await server.serve()
            stopper.cancel()


def build(settings: Settings, stopping: asyncio.Event) -> Application:
    web = Database.connect(
        PostgresSettings(dsn=settings.web_dsn, pool_size=settings.web_pool_size),
        schema=SCHEMA,
        application_name=f"{CAMPAIGN_API} web",
        # People's filters are optional arguments: a plan for all of them at once reads whole tables for each.
        options={"plan_cache_mode": "force_custom_plan"},
    )
    parts = Parts(
        settings=settings,
        web=web,
        worker=Database.connect(settings.postgres, schema=SCHEMA, application_name=CAMPAIGN_API),
        secrets=SecretBox(settings.secrets),
        passwords=Passwords(),
        tokens=TokenKeys.read(settings.token_keys.get_secret_value(), settings.token_issuer),
        feed=Feed(settings.kafka),
        forecasts=Forecasts(),
        paces=Paces(),
        now=utc_now,
        stopping=stopping,
        readers=asyncio.Semaphore(READERS_MAX),
    )
    return Application(settings, parts, build_door(parts))
