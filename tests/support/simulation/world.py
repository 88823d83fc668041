"""One seed, from the first step to rest: the five services, the faults, the people, and what was witnessed."""

import hashlib
import random
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from random import Random
from typing import Any
from uuid import UUID

from chassis.kafka import outgoing
from contracts import topics
from contracts.progress import FINAL_STATES
from simulation.api import Api, folded
from simulation.clock import START, Loop, Process, Steps
from simulation.ingest import Ingest
from simulation.kafka import SESSION_S, Kafka
from simulation.postgres import Database, Transaction
from simulation.projections import Projections
from simulation.provider import Provider, poor_quality, stop_word
from simulation.scheduler import Scheduler
from simulation.scheduler_tables import DISPATCH
from simulation.sender import SenderRun
from simulation.town import ACCOUNT, HOUR_S, Town, draw
from simulation.witness import Witness

REST_WITHIN_S = 12 * 86_400.0
STEPS_MAX = 150_000  # an hour of a process's death each few seconds takes long
CALM_S = 30.0
Violation = tuple[str, str]  # the invariant, what was seen


@dataclass
class World:
    town: Town
    loop: Loop
    database: Database
    kafka: Kafka
    provider: Provider
    witness: Witness
    api: Api
    ingest: Ingest
    processes: dict[str, Process]
    rested: bool = False
    failure: str = ""

    def fingerprint(self) -> str:
        """The same seed gives the same one, in any process."""
        seen = hashlib.sha256(f"{self.loop.steps} {self.loop.now!r}".encode())
        for place in sorted(self.kafka.logs):
            for record in self.kafka.logs[place]:
                seen.update(f"{place}{record.offset}{record.envelope.id}{record.event!r}".encode())
        for post in self.witness.posts:
            seen.update(repr(post).encode())
        return seen.hexdigest()


def run(seed: int, flaws: frozenset[str] = frozenset()) -> World:
    return run_in(draw(seed), flaws)


def run_in(town: Town, flaws: frozenset[str] = frozenset()) -> World:
    """The services draw from the module's generator as well, so that one is seeded for the time."""
    kept = random.getstate()
    random.seed(town.seed)
    try:
        world = build(town, flaws)
        _live(world)
        return world
    finally:
        random.setstate(kept)


def build(town: Town, flaws: frozenset[str]) -> World:
    loop = Loop(Random(f"steps {town.seed}"))
    database, kafka, witness = Database(loop), Kafka(loop), Witness()
    provider = Provider(town, loop, witness)
    api, ingest = Api(town, database, kafka, flaws), Ingest(town, kafka, loop, flaws)
    scheduler, projections = Scheduler(town, database, kafka, flaws), Projections(database, kafka, flaws)

    def sender(process: Process) -> list[Steps[None]]:
        return SenderRun(process, town, database, kafka, provider, flaws).tasks()

    boots: dict[str, Callable[[Process], list[Steps[None]]]] = {
        "api": api.boot, "scheduler-0": scheduler.boot, "scheduler-1": scheduler.boot,
        **{f"sender-{number}": sender for number in range(town.senders)},
        "ingest": ingest.boot, "projections": projections.boot,
    }  # fmt: skip
    processes = {name: Process(name, loop, boot) for name, boot in boots.items()}
    processes["world"] = Process("world", loop, lambda _: [], mortal=False)
    world = World(town, loop, database, kafka, provider, witness, api, ingest, processes)
    provider.deliver, provider.spawn = partial(_deliver, world), processes["world"].spawn
    database.on_commit.append(partial(_note, world))
    database.unknown_commits, database.slow_rounds = town.faults.unknown_commits, town.faults.slow_rounds
    loop.before_step = partial(_strike, world)
    for process in processes.values():
        process.on_death.append(partial(_died, world))
        process.skew_s = loop.rng.uniform(-1, 1) * town.faults.skew_s if process.mortal else 0.0
    return world


def _live(world: World) -> None:
    for process in world.processes.values():
        process.start()
    outside = world.processes["world"]
    for at_s, what, number in world.town.orders:
        outside.spawn(_order(world, at_s, what, number))
    for at_s, what, instance_id in world.town.warm_ups.orders:
        outside.spawn(_configure(world, at_s, instance_id) if what == "configured" else _lose(world, at_s, instance_id))
    outside.spawn(_heal(world))
    for name in ("database", "kafka"):
        outside.spawn(_outage(world, name))
    try:
        world.rested = not world.loop.run(REST_WITHIN_S, STEPS_MAX)
    except Exception as error:
        world.failure = f"{type(error).__name__}: {error}"
        if not isinstance(error, AssertionError | KeyError | ValueError | TypeError | AttributeError):
            raise


def _configure(world: World, at_s: float, instance_id: UUID) -> Steps[None]:
    yield at_s
    warm_up, config = world.town.warm_ups.plans[instance_id], world.town.instances[instance_id].config
    record = outgoing(
        topics.INSTANCES, str(instance_id), config.model_copy(update={"warm_up": warm_up}), source=topics.CAMPAIGN_API,
        account_id=ACCOUNT, time=world.loop.at(), event_id=UUID(int=int(world.loop.now * 1e6)),
    )  # fmt: skip
    world.kafka.append(record.topic.name, record.key, record.envelope, record.event)


def _lose(world: World, at_s: float, instance_id: UUID) -> Steps[None]:
    """The number's quality is poor."""
    yield at_s
    instance = world.town.instances[instance_id]
    body = poor_quality(instance, START.timestamp() + world.loop.now)
    world.witness.poor_s.append((world.loop.now, instance_id))
    while not (yield from _deliver(world, instance, body)):
        yield 2.0
    world.witness.acknowledged_webhooks.append(body)


def _order(world: World, at_s: float, what: str, number: int) -> Steps[None]:
    yield at_s
    if what == "stop_word":
        instance = next(iter(world.town.instances.values()))
        body = stop_word(instance, f"55119{40_000_000 + number}", number, START.timestamp() + world.loop.now)
        while not (yield from _deliver(world, instance, body)):
            yield 2.0
        world.witness.acknowledged_webhooks.append(body)
    elif (api := world.processes["api"]).alive:
        api.spawn(_asked(world, api, what, number))


def _asked(world: World, api: Process, what: str, number: int) -> Steps[None]:
    yield from world.api.order(api, what, number)


def _deliver(world: World, instance: Any, body: bytes) -> Steps[bool]:
    """One POST to our door. Without an answer within some seconds the provider counts it as not taken."""
    ingest = world.processes["ingest"]
    if not ingest.alive or ingest.stands:
        yield 0.1
        return False
    answers: list[bool] = []

    def door() -> Steps[None]:
        answers.append((yield from world.ingest.take(ingest, instance, body)))

    task = ingest.spawn(door())
    for _ in range(12):
        yield 0.02 if not answers else 0.0
        if answers or task.done:
            break
    else:
        yield 5.0
    return bool(answers and answers[0])


def _strike(world: World, process: Process) -> None:
    """Between two steps of a process: it may crash, or stand still."""
    faults, loop = world.town.faults, world.loop
    if loop.now >= faults.until_s or not (faults.crash or faults.stand):
        return
    drawn = loop.rng.random()
    if drawn < faults.crash:
        process.kill()
    elif drawn < faults.crash + faults.stand and not process.leaving:
        process.stand(loop.rng.choice((0.5, 2.0, 2.0, 12.0, 30.0)) * loop.rng.random())
        world.processes["world"].spawn(_expel_later(world))


def _died(world: World, process: Process) -> None:
    world.database.forget(process)
    outside = world.processes["world"]
    outside.spawn(_restart_later(world, process))
    outside.spawn(_expel_later(world))


def _restart_later(world: World, process: Process) -> Steps[None]:
    yield world.loop.rng.choice((0.2, 2.0, 12.0)) * world.loop.rng.random()
    if not process.alive:
        process.start()


def _expel_later(world: World) -> Steps[None]:
    yield SESSION_S
    world.kafka.expel_silent()


def _outage(world: World, name: str) -> Steps[None]:
    faults, rng = world.town.faults, world.loop.rng
    if not getattr(faults, "database_away" if name == "database" else "broker_away"):
        return
    for _ in range(rng.randint(1, 3)):
        yield rng.uniform(0, faults.until_s / 3)
        if name == "database":
            world.database.go_away(rng.uniform(0.5, 6))
        else:
            world.kafka.away_until_s = world.loop.now + rng.uniform(0.5, 6)


def _heal(world: World) -> Steps[None]:
    """Faults end; people bring to an end what they began. What is still paused then may stay so."""
    faults, rng = world.town.faults, world.loop.rng
    yield faults.until_s
    world.database.unknown_commits = world.database.slow_rounds = 0.0
    world.provider.healed = True
    yield CALM_S + 30.0
    stays_paused = rng.random() < 0.2
    for _ in range(4):
        for campaign in world.town.campaigns:
            status = folded(world.database, campaign.id).status
            if status in ("none", "draft"):
                yield from world.api.order(world.processes["api"], "start", campaign.number)
            elif status == "paused" and not stays_paused:
                yield from world.api.order(world.processes["api"], "resume", campaign.number)
        yield CALM_S
    yield max(0.0, HOUR_S - world.loop.now)  # in which nothing may come of itself


def _note(world: World, transaction: Transaction) -> None:
    """What the witness learns of commits."""
    witness, now = world.witness, world.loop.now
    for note in transaction.notes:
        match note:
            case ("applied", *place):
                if tuple(place) in witness.applied:
                    witness.violate("effect once", f"{place} was applied twice")
                witness.applied.add(tuple(place))
            case ("intent", instance_id, epoch, recipient):
                witness.intents.append((now, instance_id, epoch, recipient))
            case ("opted_out", key):
                witness.opted_out_s.setdefault(key, now)
            case ("drained", campaign_id):
                rows = [row for row in world.database.tables[DISPATCH].values() if row["campaign_id"] == campaign_id]
                if still := [row["state"] for row in rows if row["state"] not in FINAL_STATES]:
                    witness.violate("I1", f"told to be drained with {still}")
            case ("warm_up", *day):
                witness.warm_days.append((now, *day))
            case ("campaign", campaign_id, event):
                witness.campaign_events.append((now, campaign_id, event))
