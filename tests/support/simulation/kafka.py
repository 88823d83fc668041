"""A model of Kafka as far as the services count on it, held to the real one by test_models.py.

Partitioned logs; a key has one partition and its records their order. A group gives each partition to one member; who
is replaced learns of it only when it asks, and its commits are refused. Reading begins at the committed offset, so what
was not committed is read again. The producer is idempotent: it repeats nothing by itself, but who gets an error does
not know what of its batch is in the log.
"""

import zlib
from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import NamedTuple
from uuid import UUID

from chassis.kafka import Outgoing
from contracts.envelope import Envelope, Event
from contracts.topics import Topic
from simulation.clock import Loop, Process, Signal, Steps

ROUND_TRIP_S = 0.004
SESSION_S = 6.0
PARTITIONS = 2
Place = tuple[str, int]


class BrokerAway(Exception):
    """Of what was to be published, nothing, a part or all may be in the log."""


class Replaced(Exception):
    """The group has given the member's partitions away."""


class Record(NamedTuple):
    topic: str
    partition: int
    offset: int
    key: str | None
    envelope: Envelope
    event: Event


@dataclass(eq=False)
class Member:
    """One consumer; `generation` as it knows it. `wake` is set by records and by rebalances."""

    name: str
    group: "Group"
    process: Process
    wake: Signal
    generation: int = -1

    @property
    def outdated(self) -> bool:
        return self.generation != self.group.generation

    def assigned(self) -> list[Place]:
        """What it owns now; from here on it speaks for this generation."""
        if self.group.members.get(self.name) is not self:
            self.group.join(self)
        self.generation = self.group.generation
        return sorted(place for place, name in self.group.owners.items() if name == self.name)

    def commit(self, offsets: dict[Place, int]) -> None:
        """Raises Replaced."""
        if self.outdated or self.group.members.get(self.name) is not self:
            raise Replaced
        self.group.committed.update(offsets)


@dataclass(eq=False)
class Group:
    """Sticky: a partition stays with its owner as long as it lives and has not too many."""

    kafka: "Kafka"
    topics: tuple[str, ...]
    generation: int = 0
    members: dict[str, Member] = field(default_factory=dict)
    owners: dict[Place, str] = field(default_factory=dict)
    committed: dict[Place, int] = field(default_factory=lambda: defaultdict(int))

    def join(self, member: Member) -> None:
        """A static member that comes back within its session gets what it had, without a rebalance."""
        known = member.name in self.members
        self.members[member.name] = member
        if not known:
            self.rebalance()

    def expel(self, name: str) -> None:
        """Who was only standing still learns of it by its heartbeat, and joins again."""
        member = self.members.pop(name, None)
        if member is not None:
            self.rebalance()
            member.wake.set()

    def rebalance(self) -> None:
        self.generation += 1
        names = sorted(self.members)
        places = [(topic, number) for topic in self.topics for number in range(self.kafka.partitions)]
        most = -(-len(places) // len(names)) if names else 0
        kept: dict[str, int] = dict.fromkeys(names, 0)
        owners: dict[Place, str] = {}
        for place in places:
            owner = self.owners.get(place)
            if owner in kept and kept[owner] < most:
                owners[place] = owner
                kept[owner] += 1
        for place in places:
            if names and place not in owners:
                owners[place] = min(names, key=lambda name: (kept[name], name))
                kept[owners[place]] += 1
        self.owners = owners
        for member in self.members.values():
            member.wake.set()


@dataclass(eq=False)
class Kafka:
    loop: Loop
    partitions: int = PARTITIONS
    away_until_s: float = 0.0
    logs: dict[Place, list[Record]] = field(default_factory=lambda: defaultdict(list))
    groups: dict[str, Group] = field(default_factory=dict)
    _readers: dict[str, list[Group]] = field(default_factory=lambda: defaultdict(list))

    def publish(self, process: Process, records: Sequence[Outgoing]) -> Steps[None]:
        """In order, acknowledged. Raises BrokerAway."""
        rng = self.loop.rng
        left = list(records)
        while left:
            yield rng.uniform(0, ROUND_TRIP_S)
            count = len(left) if rng.random() < 0.7 else rng.randint(1, len(left))
            if self.loop.now < self.away_until_s:
                for record in left[: rng.randint(0, count) if rng.random() < 0.3 else 0]:
                    self.append(record.topic.name, record.key, record.envelope, record.event)
                raise BrokerAway
            for record in left[:count]:
                self.append(record.topic.name, record.key, record.envelope, record.event)
            del left[:count]
        yield rng.uniform(0, ROUND_TRIP_S)

    def append(self, topic: str, key: str | None, envelope: Envelope, event: Event) -> None:
        number = zlib.crc32(key.encode()) % self.partitions if key else self.loop.rng.randrange(self.partitions)
        log = self.logs[topic, number]
        log.append(Record(topic, number, len(log), key, envelope, event))
        for group in self._readers[topic]:
            owner = group.members.get(group.owners.get((topic, number), ""))
            if owner is not None:
                owner.wake.set()

    def read(self, place: Place, offset: int, most: int) -> list[Record]:
        if self.loop.now < self.away_until_s:
            raise BrokerAway
        return self.logs[place][offset : offset + most]

    def join(self, group: str, process: Process, topics: Sequence[Topic]) -> Member:
        if group not in self.groups:
            self.groups[group] = Group(self, tuple(topic.name for topic in topics))
            for topic in topics:
                self._readers[topic.name].append(self.groups[group])
        member = Member(f"{group}@{process.name}", self.groups[group], process, Signal(self.loop))
        self.groups[group].join(member)
        return member

    def expel_silent(self) -> None:
        """After the session's time: members whose process is dead or stands still lose their partitions."""
        for group in self.groups.values():
            for name, member in list(group.members.items()):
                if not member.process.alive or member.process.stands:
                    group.expel(name)

    def records(self, topic: Topic) -> list[Record]:
        """Everything in a topic, partition by partition."""
        return [record for number in range(self.partitions) for record in self.logs[topic.name, number]]

    def event_ids(self, topic: Topic) -> set[UUID]:
        return {record.envelope.id for record in self.records(topic)}
