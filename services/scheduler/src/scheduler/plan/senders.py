"""Who writes to a number is bound to it, and shows the names under which the provider knows them."""

from collections.abc import Sequence
from datetime import datetime
from uuid import UUID

import asyncpg
from sqlalchemy.ext.asyncio import AsyncConnection

from chassis.database import driver
from chassis.kafka import Received
from chassis.outbox import append
from contracts import ids
from contracts.conversations import MessageReceived
from scheduler.order import aliases
from scheduler.plan import bindings
from scheduler.plan.bindings import Binding

_KNOWN = "SELECT recipient_key FROM binding WHERE account_id = $1 AND recipient_key = ANY($2::text[])"
_MAXIMA = "SELECT instance_id, max_users FROM instance WHERE instance_id = ANY($1::uuid[]) AND account_id = $2"


async def bind(connection: AsyncConnection, batch: Sequence[Received], now: datetime) -> None:
    """If not bound yet under any name, and the number has room."""
    raw = await driver(connection)
    wrote: dict[UUID, dict[tuple[str, ...], UUID]] = {}
    for one in batch:
        event, account_id = one.event, one.envelope.account_id
        if not isinstance(event, MessageReceived) or account_id is None:
            continue
        if event.direction == "in" and event.chat.group is None:
            names = tuple(aliases.names(event.chat, event.sender))
            if names:
                wrote.setdefault(account_id, {}).setdefault(names, event.instance_id)
    for account_id, people in sorted(wrote.items()):
        fresh = await _unbound(raw, account_id, people)
        if fresh:
            made = await _bind_new(raw, account_id, fresh, now)
            await append(connection, [bindings.allocated(account_id, *binding, now) for binding in made])
        for shown in people:
            await aliases.learn(raw, account_id, shown)


async def _unbound(raw: asyncpg.Connection, account_id: UUID, people: dict[tuple[str, ...], UUID]) -> dict[str, UUID]:
    """By the name that would be bound: the phone where there is one."""
    all_names = await aliases.all_names(raw, account_id, {name for shown in people for name in shown})
    asked = {name for names in all_names.values() for name in names}
    known = {row["recipient_key"] for row in await raw.fetch(_KNOWN, account_id, list(asked))}
    fresh: dict[str, UUID] = {}
    for shown, instance_id in people.items():
        if not any(known & all_names[name] for name in shown):
            fresh.setdefault(shown[0], instance_id)
    return fresh


async def _bind_new(raw: asyncpg.Connection, account_id: UUID, new: dict[str, UUID], now: datetime) -> list[Binding]:
    bound = await bindings.lock_counts(raw, account_id, new.values())
    maxima = {row["instance_id"]: row["max_users"] for row in await raw.fetch(_MAXIMA, list(bound), account_id)}
    room = {instance_id: maxima.get(instance_id, 0) - bound[instance_id] for instance_id in bound}
    fitting: list[Binding] = []
    for key, instance_id in new.items():
        if room[instance_id] > 0:
            room[instance_id] -= 1
            fitting.append((key, instance_id, ids.contact_id(account_id, key)))
    made, _ = await bindings.bind(raw, account_id, fitting, now)
    return made
