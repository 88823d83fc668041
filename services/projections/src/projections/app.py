"""The composition root: makes everything by hand, runs it until told to stop, closes in reverse order."""

import asyncio
from dataclasses import dataclass

from chassis.database import Database
from chassis.health import Readiness, serve_health
from chassis.inbox import Subscription, consume
from chassis.kafka import Producer
from chassis.lifecycle import run_tasks
from contracts.topics import PROJECTIONS
from projections.consumers import COMPONENTS, Component, LiveConsumer
from projections.notices import tell
from projections.settings import Settings
from projections.timeline import Touched

SCHEMA = "projections"


@dataclass(frozen=True, slots=True)
class App:
    settings: Settings
    database: Database
    producer: Producer
    readiness: Readiness

    async def serve(self, stopping: asyncio.Event) -> None:
        """Consumers first to stop: notices of their last batches still go out, then the connections close."""
        touched = {component.group: Touched() for component in COMPONENTS}
        await self.producer.start()
        try:
            consumers = {
                component.group: self._consume(component, touched[component.group], stopping)
                for component in COMPONENTS
            }
            notices = tell(
                list(touched.values()),
                self.database,
                self.producer,
                every_s=self.settings.notice_ms / 1000,
                stopping=stopping,
            )
            health = serve_health(self.settings.health, self.readiness, stopping)
            await run_tasks(stopping, {**consumers, "notices": notices, "health": health})
        finally:
            await self.producer.stop()
            await self.database.close()

    async def _consume(self, component: Component, touched: Touched, stopping: asyncio.Event) -> None:
        subscription = Subscription(
            component.group,
            component.topics,
            component.handles,
            batch_max=self.settings.batch_max,
            linger_ms=self.settings.linger_ms,
        )
        consumer = LiveConsumer(component, touched)
        await consume(
            subscription,
            settings=self.settings.kafka,
            database=self.database,
            producer=self.producer,
            handle=consumer.handle,
            after=consumer.committed,
            ready=self.readiness,
            stopping=stopping,
        )


def build(settings: Settings) -> App:
    database = Database.connect(settings.postgres, schema=SCHEMA, application_name=PROJECTIONS)
    return App(settings, database, Producer(settings.kafka, client_id=PROJECTIONS), Readiness())
