"""Which faults a run meets and when: the fixed matrix, and schedules drawn from a seed. Pure."""

import random
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from itertools import combinations
from typing import Any

from pombo.chaos.faults import (
    KAFKA,
    POSTGRES,
    Cancel,
    Crash,
    Fault,
    Freeze,
    Kill,
    Pause,
    Poison,
    Provider,
    Stop,
    described,
)
from pombo.chaos.links import PROVIDER, WEBHOOKS, kafka_link, postgres_link
from pombo.chaos.toxics import CutAfter, HalfOpen, Latency, Reset, SlowBytes, Toxic
from pombo.stack import PROCESSES, Service

CRASH_POINTS: dict[Service, tuple[str, ...]] = {
    Service.SENDER: (
        "before_intent_commit",
        "after_intent",
        "after_answer",
        "after_outcome",
        "before_offset_commit",
        "outbox_published",
    ),
    Service.SCHEDULER: (
        "plan_page_committed",
        "plan_page_published",
        "release_committed",
        "release_published",
        "inbox_handled",
        "inbox_committed",
    ),
    Service.CAMPAIGN_API: ("inbox_handled", "inbox_committed", "outbox_published"),
    Service.PROJECTIONS: ("inbox_handled", "inbox_committed"),
}
TARGETS = (*PROCESSES, KAFKA, POSTGRES)
PROVIDER_FAULTS: dict[str, dict[str, Any]] = {
    "lost answers": {"lost_answer_share": 0.05},
    "lost answers by reset": {"lost_answer_share": 0.05, "lost_answer_how": "reset"},
    "500s": {"error_share": 0.1, "accepted_error_share": 0.05},
    "503s": {"transient_share": 0.2},
    "throttling": {"throttled_share": 0.3},
    "unreadable answers": {"garbled_share": 0.05},
    "duplicate webhooks": {"webhook_duplicate_share": 0.3},
    "reordered webhooks": {"webhook_reorder_share": 0.3},
    "late webhooks": {"webhook_late_share": 0.3, "webhook_late_s": 60.0},
    "lost webhooks": {"webhook_lost_share": 0.2},
}
TOXICS: dict[str, Toxic] = {
    "latency": Latency(150, 150),
    "reset": Reset(),
    "half-open": HalfOpen(),
    "slow": SlowBytes(4_000),
    "cut": CutAfter(40),
}
LINKS = (PROVIDER, WEBHOOKS, *(link(service) for service in Service for link in (kafka_link, postgres_link)))
# The eight whose pairs are all played.
MAIN: dict[str, Fault] = {
    "sender": Kill(Service.SENDER.value, while_open=True),
    "scheduler": Kill(Service.SCHEDULER.value),
    "ingest": Kill(Service.WEBHOOK_INGEST.value, down_s=1.0),
    "kafka": Kill(KAFKA),
    "postgres": Kill(POSTGRES),
    "zombie": Freeze(Service.SENDER.value, 8.0),
    "half-open": Poison(PROVIDER, HalfOpen(), 4.0),
    "lost": Provider("lost answers", PROVIDER_FAULTS["lost answers"], 6.0),
}
AT_SHARES = (0.05, 0.6)


@dataclass(frozen=True, slots=True)
class Planned:
    """`at_share`: of the messages that are expected at the providers, how many have arrived when it begins."""

    at_share: float
    fault: Fault


@dataclass(frozen=True, slots=True)
class Scenario:
    """One run. The same scenario, seed and recipients give the same schedule, people and fates at the providers."""

    name: str
    seed: int
    recipients: int
    campaigns: int
    at_least_once: bool
    planned: tuple[Planned, ...]

    @property
    def faults(self) -> tuple[Fault, ...]:
        return tuple(planned.fault for planned in self.planned)

    def told(self) -> list[str]:
        return [f"{described(planned.fault)} @{planned.at_share:.2f}" for planned in self.planned]


def singles() -> dict[str, tuple[Fault, ...]]:
    """Each fault alone, by the name of its scenario."""
    faults: list[Fault] = [Kill(target) for target in TARGETS if target != Service.SENDER.value]
    faults += [Kill(Service.SENDER.value, while_open=True), Kill(Service.SENDER.value, times=3)]
    faults += [Kill(KAFKA, down_s=10.0), Kill(POSTGRES, down_s=5.0)]
    faults += [Stop(process) for process in PROCESSES]
    faults += [Freeze(target, 8.0) for target in TARGETS]
    faults += [Crash(service.value, point, 3) for service, points in CRASH_POINTS.items() for point in points]
    faults += [Poison(link, toxic, 5.0) for link in (PROVIDER, WEBHOOKS) for toxic in TOXICS.values()]
    faults += [Poison(link, HalfOpen(), 8.0) for link in LINKS if link not in (PROVIDER, WEBHOOKS)]
    faults += [Poison(link, Reset(), 3.0) for link in LINKS if link not in (PROVIDER, WEBHOOKS)]
    faults += [Provider(what, shares, 8.0) for what, shares in PROVIDER_FAULTS.items()]
    faults += [Pause(3.0), Cancel()]
    return {described(fault): (fault,) for fault in faults}


def pairs() -> dict[str, tuple[Fault, ...]]:
    return {f"{one} + {other}": (MAIN[one], MAIN[other]) for one, other in combinations(MAIN, 2)}


def short() -> dict[str, tuple[Fault, ...]]:
    """What CI plays: the ends that hurt most, in few runs."""
    return {
        "sender": (Kill(Service.SENDER.value, while_open=True), Pause(2.0)),
        "stores": (Kill(KAFKA), Kill(POSTGRES)),
        "services": (
            Crash(Service.SCHEDULER.value, "release_committed"),
            Kill(Service.WEBHOOK_INGEST.value, down_s=1.0),
            Kill(Service.PROJECTIONS.value),
        ),
        "network": (
            Poison(PROVIDER, CutAfter(0), 2.0),
            Poison(PROVIDER, HalfOpen(), 3.0),
            Poison(WEBHOOKS, CutAfter(0), 2.0),
            Poison(kafka_link(Service.SENDER), Reset(), 2.0),
        ),
    }


def calm() -> dict[str, tuple[Fault, ...]]:
    return {"calm": ()}


def fixed(name: str, faults: Sequence[Fault], seed: int, recipients: int) -> Scenario:
    """The named faults at moments drawn from the seed."""
    chance = random.Random(f"{name}|{seed}|{recipients}")
    planned = sorted((Planned(round(chance.uniform(*AT_SHARES), 2), fault) for fault in faults), key=_when)
    return Scenario(name, seed, recipients, chance.choice((1, 2)), at_least_once=False, planned=tuple(planned))


def drawn(seed: int, recipients: int) -> Scenario:
    """A profile first (which kinds of faults this run knows at all), then faults of it."""
    chance = random.Random(f"drawn|{seed}|{recipients}")
    kinds = chance.sample(sorted(_DRAWS), k=chance.randint(2, 4))
    faults = [_DRAWS[chance.choice(kinds)](chance) for _ in range(chance.randint(2, 6))]
    planned = sorted((Planned(round(chance.uniform(0, 0.8), 2), fault) for fault in faults), key=_when)
    campaigns, at_least_once = chance.choice((1, 2, 2, 3)), chance.random() < 0.15
    return Scenario("drawn", seed, recipients, campaigns, at_least_once, tuple(planned))


def _when(planned: Planned) -> float:
    return planned.at_share


def _crash(chance: random.Random) -> Fault:
    service = chance.choice(sorted(CRASH_POINTS))
    return Crash(service.value, chance.choice(CRASH_POINTS[service]), chance.randint(1, 8))


def _poison(chance: random.Random) -> Fault:
    # Half of them where it hurts most.
    link = chance.choice((PROVIDER, WEBHOOKS)) if chance.random() < 0.5 else chance.choice(LINKS)
    toxic = TOXICS[chance.choice(sorted(TOXICS))]
    if isinstance(toxic, CutAfter):
        toxic = CutAfter(chance.choice((0, 10, 40, 200)))
    if isinstance(toxic, SlowBytes) and link not in (PROVIDER, WEBHOOKS):
        toxic = SlowBytes(100_000)
    return Poison(link, toxic, chance.choice((1.0, 3.0, 8.0)))


def _provider(chance: random.Random) -> Fault:
    what = chance.choice(sorted(PROVIDER_FAULTS))
    return Provider(what, PROVIDER_FAULTS[what], chance.choice((3.0, 8.0)))


_DRAWS: dict[str, Callable[[random.Random], Fault]] = {
    "kill": lambda chance: Kill(
        chance.choice(TARGETS), down_s=chance.choice((0.0, 0.0, 2.0, 6.0)), times=chance.choice((1, 1, 1, 3))
    ),
    "stop": lambda chance: Stop(chance.choice(sorted(PROCESSES))),
    "freeze": lambda chance: Freeze(chance.choice(TARGETS), chance.choice((1.0, 4.0, 8.0))),
    "crash": _crash,
    "network": _poison,
    "provider": _provider,
    "pause": lambda chance: Pause(chance.choice((0.5, 3.0))),
    "cancel": lambda _: Cancel(),
}
