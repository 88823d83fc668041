"""What really happened in a run, by which it is judged: what left, what became of it, what was committed when."""

from dataclasses import dataclass, field
from datetime import datetime
from typing import Any, Literal
from uuid import UUID

from sender.work import Work
from simulation.kafka import Place

Try = Literal["first", "retry", "retaken", "failed", "answered"]


@dataclass(slots=True)
class Post:
    """One request that left. `accepted`: the provider took the message, whatever it answered. `lane`: whose it was."""

    at_s: float
    instance_id: UUID
    dispatch_id: UUID
    campaign_id: UUID
    step: int
    recipient: str
    run_epoch: int
    fate: str
    accepted: bool = False
    provider_message_id: str = ""
    arrived_s: float = 0.0
    answered_s: float | None = None
    lane: int = 0
    attempt: int = 0
    release: int = 0


@dataclass
class Witness:
    """Everything that invariants are judged by, apart from the services' own tables. `poor_s`: when a provider said
    that a number's quality is poor. `warm_days`: what the scheduler took to be a number's allowance, and since when.
    `tries`: (when, sender's process and life, host, what): what a lane let go, and what came of requests."""

    posts: list[Post] = field(default_factory=list)
    answered_offsets: set[tuple[Place, int]] = field(default_factory=set)
    violations: list[tuple[str, str]] = field(default_factory=list)
    intents: list[tuple[float, UUID, int, str]] = field(default_factory=list)
    opted_out_s: dict[str, float] = field(default_factory=dict)
    campaign_events: list[tuple[float, UUID, Any]] = field(default_factory=list)
    applied: set[tuple[Any, ...]] = field(default_factory=set)
    acknowledged_webhooks: list[bytes] = field(default_factory=list)
    tries: list[tuple[float, str, int, tuple[str, str], Try]] = field(default_factory=list)
    poor_s: list[tuple[float, UUID]] = field(default_factory=list)
    warm_days: list[tuple[float, UUID, datetime, int | None]] = field(default_factory=list)

    def violate(self, invariant: str, text: str) -> None:
        self.violations.append((invariant, text))

    def told(self, works: list[Work]) -> None:
        for work in works:
            self.answered_offsets.add((work.position[:2], work.position[2]))

    def committed(self, offsets: dict[Place, int]) -> None:
        """At least once: below a committed offset everything was told."""
        for place, offset in offsets.items():
            for number in range(offset):
                if (place, number) not in self.answered_offsets:
                    self.violate("offsets", f"offset {offset} of {place} committed, {number} was never told")
                    return
