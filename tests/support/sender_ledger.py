"""The sender's ledger on a real PostgreSQL, as several senders would use it."""

import asyncio
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any
from uuid import UUID

from chassis.database import Database, driver
from chassis.kafka import Outgoing
from contracts.codec import encode
from contracts.instances import InstanceConfigured
from contracts.messages import MessageQueued
from pombo import backing
from providers.protocol import Account
from providers.registry import PROVIDERS
from sender.instance.counts import Counts
from sender.instance.owners import Owners
from sender.lane.throttle import Rate
from sender.ledger.attempt import Finding
from sender.ledger.delivery import Decision
from sender.ledger.intents import IntentStore
from sender.ledger.outcomes import Outcome, OutcomeWriter
from sender.settlement import evidence
from sender.settlement.evidence import Report
from sender.work import Group, Instance, Work
from sender_parts import ACCOUNT, rows

NUMBER = UUID(int=42)
FAST = Rate(0.0001, 10.0)


def number(instance_id: UUID = NUMBER, quota: int | None = None, *, labelled: bool = True, **more: Any) -> Instance:
    fields: dict[str, Any] = {
        "instance_id": instance_id,
        "account_id": ACCOUNT,
        "config": InstanceConfigured(name="n", provider="meta_cloud", server_url=""),
        "account": Account("meta_cloud"),
        "provider": PROVIDERS["meta_cloud"],
        "rate": FAST,
        "pair_rate": Rate(6.0, 264.0),
        "in_flight_max": 100,
        "quota_scope": "portfolio:p",
        "quota_limit": quota,
        "labelled": labelled,
        "stopped": None,
        "revision": 1,
    }
    return Instance(**{**fields, **more})


def works(messages: Sequence[MessageQueued], instance_id: UUID = NUMBER) -> list[Work]:
    return [
        Work(ACCOUNT, instance_id, message, encode(message), ("message-queued", 0, offset), 0.0)
        for offset, message in enumerate(messages)
    ]


class KeptProducer:
    """Keeps what would be published."""

    def __init__(self) -> None:
        self.published: list[Outgoing] = []

    async def publish(self, records: Sequence[Outgoing]) -> None:
        self.published += records


@dataclass(slots=True)
class Ledger:
    """One database, as several senders would use it."""

    prepared: backing.Database
    database: Database
    store: IntentStore
    producer: KeptProducer = field(default_factory=KeptProducer)
    finished: list[Work] = field(default_factory=list)

    async def own(self, owner: str = "sender-0", instance_id: UUID = NUMBER) -> int:
        acquired = await Owners(self.database, owner, 5.0).acquire(instance_id, ACCOUNT)
        assert acquired is not None
        return acquired.epoch

    async def intend(
        self, messages: Sequence[MessageQueued], epoch: int, instance: Instance | None = None, times_out_s: float = 13
    ) -> tuple[Decision, ...]:
        instance = instance or number()
        group = Group(instance, epoch, works(messages, instance.instance_id), [times_out_s] * len(messages))
        return (await self.store.commit([group]))[0].decisions

    async def record(self, messages: Sequence[MessageQueued], epoch: int, finding: Finding) -> list[str]:
        """Writes the outcomes as a lane's requests would; the types of what was published."""
        before, stopping = len(self.producer.published), asyncio.Event()
        writer = OutcomeWriter(
            self.database,
            self.producer,  # type: ignore[arg-type]
            finish=self.finished.append,
            linger_s=0,
            every_s=0,
            batch_max=100,
            crash_point=lambda _: None,
        )
        for work in works(messages):
            writer.put(Outcome(work, epoch, finding))
        stopping.set()
        await writer.run(stopping)
        return [record.envelope.type for record in self.producer.published[before:]]

    async def read(self, sql: str, *arguments: Any) -> list[Any]:
        return [dict(row) for row in await rows(self.prepared.admin_dsn, sql, *arguments)]

    async def states(self) -> Counter[str]:
        return Counter(row["state"] for row in await self.read("SELECT state FROM attempt"))

    async def outbox(self) -> list[str]:
        return [
            row["type"] for row in await self.read("SELECT headers ->> 'ce_type' AS type FROM outbox ORDER BY position")
        ]

    async def report(self, *reports: Report) -> Counts:
        """As the consumer of statuses does; gives what was newly learnt."""
        counts, now = Counts(), datetime.now(UTC)
        async with self.database.transaction() as connection:
            await evidence.apply(connection, reports, now, counts)
            await counts.write(await driver(connection), now)
        return counts
