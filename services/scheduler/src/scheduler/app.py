"""The composition root: everything the scheduler is made of, by hand, read top to bottom."""

import asyncio

from chassis.database import Database
from chassis.health import Readiness, serve_health
from chassis.inbox import consume
from chassis.kafka import Producer
from chassis.lifecycle import run_tasks
from chassis.outbox import relay
from scheduler.campaign.chores import Chores
from scheduler.campaign.drains import Drains
from scheduler.campaign.runs import Definitions
from scheduler.campaign.timers import Timers
from scheduler.campaign.upkeep import Upkeep
from scheduler.consumers import Consumer, Consumers
from scheduler.health_line import tell_health
from scheduler.lane.explanations import Explanations
from scheduler.lane.outlooks import Outlooks
from scheduler.lane.publication import Publication
from scheduler.lane.releases import Releasing
from scheduler.order.answers import Answers
from scheduler.plan.moves import Moves
from scheduler.plan.planning import Planning
from scheduler.plan.previews import Previews
from scheduler.settings import Settings
from scheduler.signals import Signals
from scheduler.worker import Worker

SCHEMA = "scheduler"


class Scheduler:
    """One process: consumers, worker, relay, health."""

    def __init__(self, settings: Settings) -> None:
        self.settings = settings
        self.readiness = Readiness()
        self.signals = Signals()
        self.database = Database.connect(settings.postgres, schema=SCHEMA, application_name="scheduler")
        self.producer = Producer(settings.kafka, client_id="scheduler")
        definitions = Definitions()
        pacing, batch = settings.pacing, settings.batch
        self.publication = Publication(
            self.database, self.producer, definitions, pacing, settings.telemetry.sample_ratio
        )
        self.releasing = Releasing(self.database, definitions, pacing, batch)
        self.planning = Planning(self.database, self.producer, definitions, self.signals, batch.plan_recipients)
        self.answers = Answers(pacing)
        self.timers = Timers(self.database, self.signals)
        self.chores = Chores(self.database, definitions, self.signals, batch.chore_dispatches)
        self.moves = Moves(self.database, definitions, self.signals, pacing.move_after_s, batch.chore_dispatches)
        self.drains = Drains(self.database, pacing.blocked_grace_s)
        self.upkeep = Upkeep(self.database, self.signals, pacing.kept_days)
        outlooks = Outlooks(definitions, pacing.horizon_s)
        explanations, previews = Explanations(outlooks, pacing.horizon_s), Previews(outlooks)
        self.consumers = Consumers(definitions, self.signals, pacing, self.answers, explanations, previews)
        self.worker = Worker(
            self.database,
            pacing,
            self.signals,
            self.releasing,
            self.publication,
            self.planning,
            self.answers,
            self.timers,
            self.chores,
            self.moves,
            self.drains,
            self.upkeep,
        )

    async def serve(self, stopping: asyncio.Event) -> None:
        """Until `stopping`. The producer goes last, so that what was committed is still published."""
        dsn = self.settings.postgres.dsn
        try:
            await run_tasks(
                stopping,
                {
                    "health": serve_health(self.settings.health, self.readiness, stopping),
                    **{each.subscription.group: self._consume(each, stopping) for each in self.consumers.table},
                    "relay": relay(self.database, self.producer, schema=SCHEMA, dsn=dsn, stopping=stopping),
                    "ticks": self.worker.run_ticks(stopping),
                    "plans": self.worker.run_plans(stopping),
                    "sweeps": self.worker.run_sweeps(stopping),
                    "publisher": self.worker.publish_releases(stopping),
                    "health line": tell_health(self.database, stopping),
                },
            )
        finally:
            await self.producer.stop()
            await self.database.close()

    async def _consume(self, consumer: Consumer, stopping: asyncio.Event) -> None:
        await consume(
            consumer.subscription,
            settings=self.settings.kafka,
            database=self.database,
            producer=self.producer,
            handle=consumer.handle,
            after=consumer.stage.tell,
            ready=self.readiness,
            stopping=stopping,
        )


def build(settings: Settings) -> Scheduler:
    return Scheduler(settings)
