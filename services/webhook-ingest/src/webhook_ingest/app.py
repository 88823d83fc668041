"""The composition root: the two processes of this service are made here, by hand, top to bottom."""

import asyncio
from collections.abc import Callable, Generator
from contextlib import contextmanager
from functools import partial
from socket import socket

import uvicorn
from aiokafka.errors import KafkaError
from faststream.kafka import KafkaBroker

from chassis.database import Database
from chassis.health import Readiness, serve_health
from chassis.inbox import consume
from chassis.kafka import Producer
from chassis.lifecycle import backoff_s, pause, run_tasks, utc_now
from chassis.secrets import SecretBox
from chassis.telemetry import log
from webhook_ingest.consumers import INSTANCES, Translator, on_instances
from webhook_ingest.directory import Directory
from webhook_ingest.http import Door
from webhook_ingest.intake import Intake, IntakeSettings
from webhook_ingest.settings import Settings
from webhook_ingest.unread import ORDERS, Orders, Unread

SERVICE = "webhook-ingest"
SCHEMA = "webhook_ingest"
TRANSLATOR = "webhook-translator"


class QuietServer(uvicorn.Server):
    """Leaves the signals to the process's lifecycle, and tells when it listens."""

    on_startup: Callable[[], None]

    async def startup(self, sockets: list[socket] | None = None) -> None:
        await super().startup(sockets)
        self.on_startup()

    @contextmanager
    def capture_signals(self) -> Generator[None, None, None]:
        yield


def build_directory(settings: Settings, database: Database) -> Directory:
    secrets = settings.app_secrets.get_secret_value().split(",") if settings.app_secrets else []
    own = tuple(secret.strip() for secret in secrets if secret.strip())
    return Directory(database, SecretBox(settings.secrets), app_secrets=own)


def http_server(door: Door, host: str, port: int) -> QuietServer:
    return QuietServer(
        uvicorn.Config(
            door,
            host=host,
            port=port,
            http="httptools",
            ws="none",
            loop="uvloop",
            lifespan="off",
            log_config=None,
            access_log=False,  # paths hold secrets
            proxy_headers=False,
            server_header=False,
            date_header=False,
            timeout_graceful_shutdown=5,
        )
    )


def build_door(settings: Settings, directory: Directory, intake: Intake) -> Door:
    token = settings.verify_token.get_secret_value() if settings.verify_token else ""
    return Door(
        directory,
        intake,
        now=utc_now,
        body_max_bytes=settings.body_max_bytes,
        verify_tokens=(token,) if token else (),
        trust_traceparent=settings.trust_traceparent,
    )


async def run_broker(broker: KafkaBroker, readiness: Readiness, stopping: asyncio.Event) -> None:
    """The translator's consumer, once Kafka is there."""
    failures = 0
    while not stopping.is_set():
        try:
            await broker.start()
        except KafkaError as error:
            failures += 1
            log.warning("translator_waits_for_kafka", error=type(error).__name__)
            await broker.stop()
            await pause(stopping, backoff_s(failures))
        else:
            readiness.set("translator", True)
            await stopping.wait()
    await broker.stop()


async def serve(settings: Settings, stopping: asyncio.Event) -> None:
    """The door. Runs until `stopping`; it starts without Kafka too, and fills the spool then."""
    readiness = Readiness("door")
    database = Database.connect(settings.postgres, schema=SCHEMA, application_name=SERVICE)
    directory = build_directory(settings, database)
    # The intake gathers what shares a publish, and providers wait meanwhile: just long enough that it is one request.
    producer = Producer(settings.kafka.model_copy(update={"linger_ms": 2}), client_id=SERVICE)
    intake = Intake(producer, database, IntakeSettings(settings.publish_wait_s, settings.spool_poll_s))
    server = http_server(build_door(settings, directory, intake), settings.http_host, settings.http_port)
    server.on_startup = partial(readiness.set, "door", True)

    async def receive() -> None:
        await directory.refresh()
        async with asyncio.TaskGroup() as tasks:
            keeping = tasks.create_task(intake.work(), name="intake")
            await server.serve()
            keeping.cancel()

    async def close_door() -> None:
        await stopping.wait()
        server.should_exit = True

    await producer.start(needs_broker=False)
    try:
        await run_tasks(
            stopping,
            {
                "health": serve_health(settings.health, readiness, stopping),
                "door": receive(),
                "close the door": close_door(),
                "spool": intake.drain(stopping),
                "directory": directory.keep_fresh(settings.directory_refresh_s, stopping),
                "instances": consume(
                    INSTANCES,
                    settings=settings.kafka,
                    database=database,
                    producer=producer,
                    handle=on_instances,
                    after=directory.refresh,
                    ready=readiness,
                    stopping=stopping,
                ),
            },
        )
    finally:
        await producer.stop()
        await database.close()


async def translate(settings: Settings, stopping: asyncio.Event) -> None:
    """The translator, and what people order for webhooks that it could not read. A process of its own, so that no
    provider waits while it works."""
    readiness = Readiness("translator")
    database = Database.connect(settings.postgres, schema=SCHEMA, application_name=TRANSLATOR)
    directory = build_directory(settings, database)
    producer = Producer(settings.kafka, client_id=TRANSLATOR)
    broker = KafkaBroker(settings.kafka.bootstrap, consumer_only=True, logger=None)
    unread = Unread(database, producer, utc_now)
    translator = Translator(directory, producer, batch_max=settings.translator_batch_max, keep=unread.keep)
    translator.subscribe(broker)
    await producer.start(needs_broker=False)
    try:
        await run_tasks(
            stopping,
            {
                "health": serve_health(settings.health, readiness, stopping),
                "directory": directory.keep_fresh(settings.directory_refresh_s, stopping),
                "translator": run_broker(broker, readiness, stopping),
                "orders": consume(
                    ORDERS,
                    settings=settings.kafka,
                    database=database,
                    producer=producer,
                    handle=Orders(producer, translator.translate_again, utc_now).handle,
                    ready=readiness,
                    stopping=stopping,
                ),
            },
        )
    finally:
        await producer.stop()
        await database.close()
