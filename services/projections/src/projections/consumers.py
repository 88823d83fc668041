"""The doors for Kafka: which topics each component reads, and how a batch enters the current generation.

Delivery: at least once from Kafka, effect once in PostgreSQL (chassis.inbox); a duplicate changes nothing anyway.
"""

from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass
from typing import Any, Final, get_args

import asyncpg
from sqlalchemy.ext.asyncio import AsyncConnection

from chassis.database import driver
from chassis.kafka import Received
from contracts import contacts, instances, topics
from contracts.envelope import Event
from contracts.topics import Topic
from projections import directory, registers, timeline
from projections import instances as instance_rows
from projections.contact import people
from projections.timeline import Records, Touched


@dataclass(frozen=True, slots=True)
class Component:
    """Read models that are written in one transaction, by one writer at a time. `number` names its writer lock.

    `begin` makes an empty batch, `gather` adds to it what records say, without I/O, and `write` writes it.
    """

    number: int
    group: str
    topics: tuple[Topic, ...]
    handles: tuple[type[Event], ...]
    write: Callable[[asyncpg.Connection, Any], Awaitable[Touched]]
    begin: Callable[[], Any] = list
    gather: Callable[[Any, Records], None] = list.extend

    async def apply(self, connection: asyncpg.Connection, records: Records) -> Touched:
        batch = self.begin()
        self.gather(batch, records)
        return await self.write(connection, batch)


async def write_instances(connection: asyncpg.Connection, records: Records) -> Touched:
    facts = [fact for record in records if (fact := instance_rows.read_fact(*record)) is not None]
    await registers.apply(connection, instance_rows.TABLE, instance_rows.EMPTY, facts)
    return Touched(instances={(fact.account_id, fact.id) for fact in facts})


TIMELINE: Final = Component(
    0,
    "projections.timeline",
    (
        topics.CAMPAIGNS,
        topics.CAMPAIGN_RECIPIENTS,
        topics.CAMPAIGN_PROGRESS,
        topics.MESSAGE_SENT,
        topics.STATUS_RECEIVED,
        topics.MESSAGE_RECEIVED,
        topics.CONVERSATIONS,
    ),
    timeline.TYPES,
    timeline.write,
    timeline.Gathered,
    timeline.gather,
)
PEOPLE: Final = Component(
    1,
    "projections.people",
    (topics.CONTACTS, topics.ALLOCATIONS),
    (*get_args(contacts.ContactEvent), *get_args(contacts.AllocationEvent)),
    people.apply,
)
INSTANCES: Final = Component(
    2,
    "projections.instances",
    (topics.INSTANCES, topics.INSTANCE_HEALTH),
    (instances.InstanceConfigured, *get_args(instances.InstanceHealthEvent)),
    write_instances,
)
DIRECTORY: Final = Component(
    3,
    "projections.directory",
    (topics.DIRECTORY,),
    topics.DIRECTORY.events,
    directory.apply,
)
COMPONENTS: Final = (TIMELINE, PEOPLE, INSTANCES, DIRECTORY)


class LiveConsumer:
    """Applies one component's batches to the current generation and notes, once they are committed, what changed."""

    def __init__(self, component: Component, touched: Touched) -> None:
        self._component = component
        self._touched = touched
        self._uncommitted = Touched()

    async def handle(self, connection: AsyncConnection, batch: Sequence[Received]) -> None:
        raw = await driver(connection)
        await raw.fetchval("SELECT enter_generation($1)", self._component.number)
        self._uncommitted.add(await self._component.apply(raw, [(one.envelope, one.event) for one in batch]))

    async def committed(self) -> None:
        """Not before: notices read then would tell the figures of before the batch, and nobody would correct them."""
        self._touched.add(self._uncommitted)
        self._uncommitted.clear()
