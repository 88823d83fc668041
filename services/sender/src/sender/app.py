"""The composition root: makes everything of one sender by hand, starts it, and stops it in the reverse order."""

import asyncio
import os
import socket
import time
from collections.abc import Coroutine, Sequence
from typing import Any
from uuid import UUID

from chassis.database import Database
from chassis.health import Readiness, serve_health
from chassis.inbox import consume
from chassis.kafka import Producer
from chassis.lifecycle import crash_point
from chassis.outbox import relay
from chassis.secrets import SecretBox
from sender.consumers import CONTROL, EVIDENCE, Control, Evidence
from sender.gates import Close
from sender.gateway.client import Gateway
from sender.health_line import tell_health
from sender.instance.alarms import Alarms
from sender.instance.care import care_of
from sender.instance.connections import Connections
from sender.instance.instances import Instances
from sender.instance.owners import Owners
from sender.instance.probes import Probes
from sender.instance.recoveries import Recoveries
from sender.instance.signals import Signals
from sender.lane.circuit import Hosts
from sender.lane.departures import Departures
from sender.lane.lane import Lane
from sender.lane.parts import Parts
from sender.lane.strain import Strain
from sender.ledger.batching import IntentBatcher
from sender.ledger.intents import IntentStore
from sender.ledger.outcomes import OutcomeWriter
from sender.settings import Settings
from sender.settlement.look_ups import LookUps
from sender.settlement.sweeps import Sweeps
from sender.worker import Worker

SCHEMA = "sender"
WRITTEN_S = 0.005
# Every statement of ours goes by an index: a ledger without statistics yet must not be taken for a small table.
PLANNER = {"enable_seqscan": "off"}


class App:
    """One process of the sender."""

    def __init__(self, settings: Settings) -> None:
        self.settings = settings
        self.readiness = Readiness("queue", "database")
        self._clock = time.monotonic
        self._crash = crash_point if settings.test_mode else _go_on
        self._database = Database.connect(settings.postgres, schema=SCHEMA, application_name="sender", options=PLANNER)
        self._producer = Producer(settings.kafka, client_id="sender")
        self._gateway = Gateway(settings, on_departure=self._note_departure if settings.test_mode else _nothing)
        self._instances = Instances(self._database, SecretBox(settings.secrets), settings)
        self._owners = Owners(self._database, owner_name(settings), settings.lease_s)
        self._intents = IntentBatcher(
            IntentStore(self._database, settings.intent_age_max_s / 2, self._crash),
            linger_s=settings.intent_linger_s,
            every_s=settings.intent_every_s,
            batch_max=settings.intent_batch_max,
            clock=self._clock,
        )
        self.worker = Worker(
            settings,
            self._producer,
            self._make_lane,
            ready=self.readiness,
            clock=self._clock,
            crash_point=self._crash,
        )
        self._outcomes = OutcomeWriter(
            self._database,
            self._producer,
            finish=self.worker.finish,
            linger_s=settings.outcome_linger_s,
            every_s=settings.outcome_every_s,
            batch_max=settings.outcome_batch_max,
            crash_point=self._crash,
        )
        self._care = care_of(settings)
        self._alarms = Alarms(
            self._database,
            spawn=self._spawn,
            changed=self._instances.wake.set,
            instances=self._instances.all,
            care=self._care,
        )
        self._sweeps = Sweeps(self._database, settings, self._producer)
        self._look_ups = LookUps(self._database, self._gateway, self._instances, settings)
        self._connections = Connections(self._database, self._gateway, self._instances, settings.webhook_base_url)
        self._requests: asyncio.TaskGroup | None = None
        self._hosts = Hosts(settings)
        self._strain = Strain()
        self._parts = Parts(
            settings, self._instances, self._owners, self._intents, self._outcomes, self._strain, self._clock
        )

    async def serve(self, stopping: asyncio.Event) -> None:
        """Lanes stop first, requests under way end, then what writes and tells their outcomes, then the rest."""
        lanes_done, told = asyncio.Event(), asyncio.Event()
        await self._gateway.open()
        await self._producer.start()
        await self._instances.refresh()
        self.readiness.set("database", True)
        try:
            async with asyncio.TaskGroup() as side:
                for task in self._side_tasks(stopping):
                    side.create_task(task)
                outcomes = side.create_task(self._outcomes.run(told))
                renewing = side.create_task(self.worker.renew(lanes_done, self._owners))
                intents = side.create_task(self._intents.run())
                async with asyncio.TaskGroup() as self._requests:
                    await self.worker.run(stopping, self._spawn)
                lanes_done.set()
                told.set()
                await outcomes
                await renewing
                intents.cancel()
        finally:
            await self._gateway.close()
            await self._producer.stop()
            await self._database.close()

    def _side_tasks(self, stopping: asyncio.Event) -> list[Coroutine[Any, Any, None]]:
        settings = self.settings
        control = Control(closing=self._stop_campaigns, configured=self._instances.wake.set, warm_up=self._care.warm_up)
        signals = Signals(self._instances, self._care)
        evidence = Evidence(self._database, signals, stopped=self._instances.wake.set)
        shared: dict[str, Any] = {
            "settings": settings.kafka,
            "database": self._database,
            "producer": self._producer,
            "ready": self.readiness,
            "stopping": stopping,
        }
        return [
            self._instances.run(self._wake_lane, stopping),
            consume(CONTROL, handle=control.handle, after=control.after, **shared),
            consume(EVIDENCE, handle=evidence.handle, after=evidence.after, **shared),
            relay(self._database, self._producer, schema=SCHEMA, dsn=settings.postgres.dsn, stopping=stopping),
            self._sweeps.run(stopping),
            self._look_ups.run(stopping),
            Probes(self._database, self._gateway, self._instances, settings.probe_every_s).run(stopping),
            Recoveries(self._database, self._care.warm_up, self._instances.wake.set).run(stopping),
            self._connections.run(stopping, settings.config_poll_s),
            serve_health(settings.health, self.readiness, stopping),
            tell_health(self.worker, stopping),
            self._strain.watch(self._clock, stopping),
        ]

    def _make_lane(self, instance_id: UUID, account_id: UUID) -> Lane:
        departures = Departures(
            self.settings,
            self._gateway,
            self._outcomes,
            self._alarms,
            spawn=self._spawn,
            clock=self._clock,
            crash_point=self._crash,
            hosts=self._hosts,
        )
        return Lane(instance_id, account_id, self._parts, departures)

    def _stop_campaigns(self, closes: Sequence[Close]) -> None:
        """Their gates are closed: what is committed and has not left here need not be waited for."""
        for close in closes:
            for lane in self.worker.lanes.values():
                lane.departures.recall(
                    UUID(close.campaign_id), close.run_epoch, "cancelled" if close.cancelled else "paused"
                )
        self._sweeps.closing.set()

    def _wake_lane(self, instance_id: UUID) -> None:
        lane = self.worker.lanes.get(instance_id)
        if lane is not None:
            lane.wake()

    def _note_departure(self) -> None:
        """A moment later, so that the bytes have really left."""
        asyncio.get_running_loop().call_later(WRITTEN_S, self._crash, "after_departure")

    def _spawn(self, work: Coroutine[Any, Any, None]) -> asyncio.Task[None]:
        assert self._requests is not None
        return self._requests.create_task(work)


def build(settings: Settings) -> App:
    return App(settings)


def owner_name(settings: Settings) -> str:
    """Stable over restarts where the process has a stable place, so that a restart takes its instances back at once."""
    return settings.owner or settings.kafka.group_instance_id or f"{socket.gethostname()}:{os.getpid()}"


def _nothing() -> None:
    """Who listens to departures outside test mode."""


def _go_on(_: str) -> None:
    """Crash points are not there outside test mode."""
