"""Which instance a contact is bound to, and how many people each instance has. Stickiness, counted exactly.

Lock order: occupancy rows by instance, then bindings by key.
"""

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from datetime import datetime
from typing import NamedTuple
from uuid import UUID

import asyncpg

from chassis.kafka import Outgoing, outgoing
from contracts import ids
from contracts.contacts import ContactAllocated, ContactMoved
from contracts.topics import ALLOCATIONS, SCHEDULER

_COUNTS = "SELECT instance_id, bound FROM occupancy WHERE instance_id = ANY($1::uuid[])"
_CREATE = """
INSERT INTO occupancy (instance_id, account_id) SELECT instance_id, $2 FROM unnest($1::uuid[]) AS n(instance_id)
ORDER BY 1 ON CONFLICT DO NOTHING
"""
_LOCK = """
SELECT instance_id, bound FROM occupancy WHERE instance_id = ANY($1::uuid[]) ORDER BY instance_id FOR UPDATE
"""
_BIND = """
INSERT INTO binding (account_id, recipient_key, instance_id, contact_id, bound_at)
SELECT $1, key, instance_id, contact_id, $5 FROM unnest($2::text[], $3::uuid[], $4::uuid[])
    AS b(key, instance_id, contact_id) ORDER BY key
ON CONFLICT DO NOTHING
"""
# The few that others had bound first: rows that this transaction has not made.
_OTHERS = """
SELECT recipient_key, instance_id FROM binding
WHERE account_id = $1 AND recipient_key = ANY($2::text[]) AND xmin <> pg_current_xact_id()::xid
"""
_OCCUPY = """
UPDATE occupancy o SET bound = greatest(0, o.bound + n.count)
FROM unnest($1::uuid[], $2::int[]) AS n(instance_id, count) WHERE o.instance_id = n.instance_id
"""

_REBIND = """
INSERT INTO binding AS b (account_id, recipient_key, instance_id, contact_id, bound_at)
SELECT $1, key, instance_id, contact_id, $6 FROM unnest($2::text[], $3::uuid[], $4::uuid[])
    AS w(key, instance_id, contact_id) ORDER BY key
ON CONFLICT (account_id, recipient_key) DO UPDATE SET instance_id = excluded.instance_id, bound_at = excluded.bound_at
    WHERE b.instance_id = $5
RETURNING new.recipient_key, new.instance_id, new.contact_id, old.instance_id AS moved_from
"""
Binding = tuple[str, UUID, UUID]  # recipient key, instance, contact


class Rebound(NamedTuple):
    """`moved_from`: None if the contact had no binding."""

    recipient_key: str
    instance_id: UUID
    contact_id: UUID
    moved_from: UUID | None


async def bound_counts(raw: asyncpg.Connection, instance_ids: Sequence[UUID]) -> dict[UUID, int]:
    return {row["instance_id"]: row["bound"] for row in await raw.fetch(_COUNTS, instance_ids)}


async def lock_counts(raw: asyncpg.Connection, account_id: UUID, instance_ids: Iterable[UUID]) -> dict[UUID, int]:
    """Until the transaction ends nobody else binds to these."""
    ordered = sorted(set(instance_ids))
    await raw.execute(_CREATE, ordered, account_id)
    return {row["instance_id"]: row["bound"] for row in await raw.fetch(_LOCK, ordered)}


async def bind(
    raw: asyncpg.Connection, account_id: UUID, wanted: Sequence[Binding], now: datetime
) -> tuple[list[Binding], dict[str, UUID]]:
    """What was bound here, and for all that was wanted the instance it is bound to in fact. Counts are locked, and
    nobody is wanted twice."""
    if not wanted:
        return [], {}
    keys, instance_ids, contact_ids = zip(*wanted, strict=True)
    status = await raw.execute(_BIND, account_id, keys, instance_ids, contact_ids, now)
    others: dict[str, UUID] = {}
    if status != f"INSERT 0 {len(wanted)}":
        others = {row["recipient_key"]: row["instance_id"] for row in await raw.fetch(_OTHERS, account_id, keys)}
    made = [one for one in wanted if one[0] not in others] if others else list(wanted)
    await occupy(raw, Counter(instance_id for _, instance_id, _ in made))
    return made, others | {key: instance_id for key, instance_id, _ in made}


async def occupy(raw: asyncpg.Connection, more: Mapping[UUID, int]) -> None:
    """Counts are locked."""
    await raw.execute(_OCCUPY, list(more), list(more.values()))


async def rebind(
    raw: asyncpg.Connection, account_id: UUID, wanted: Sequence[Binding], stopped: UUID, now: datetime
) -> list[Rebound]:
    """Who is bound to `stopped` or to nobody is bound as wanted. Counts are locked, and left to the caller."""
    if not wanted:
        return []
    keys, instance_ids, contact_ids = zip(*wanted, strict=True)
    return [
        Rebound(*row) for row in await raw.fetch(_REBIND, account_id, keys, instance_ids, contact_ids, stopped, now)
    ]


def told(account_id: UUID, rebound: Rebound, now: datetime) -> Outgoing:
    key, instance_id, contact_id, moved_from = rebound
    if moved_from is None:
        return allocated(account_id, key, instance_id, contact_id, now)
    return outgoing(
        ALLOCATIONS,
        str(contact_id),
        ContactMoved(instance_id=instance_id, from_instance_id=moved_from, recipient_key=key),
        source=SCHEDULER,
        account_id=account_id,
        time=now,
        event_id=ids.event_id(SCHEDULER, str(contact_id), f"moved:{moved_from}:{instance_id}:{now.isoformat()}"),
    )


def allocated(account_id: UUID, key: str, instance_id: UUID, contact_id: UUID, now: datetime) -> Outgoing:
    return outgoing(
        ALLOCATIONS,
        str(contact_id),
        ContactAllocated(instance_id=instance_id, recipient_key=key),
        source=SCHEDULER,
        account_id=account_id,
        time=now,
        event_id=ids.event_id(SCHEDULER, str(contact_id), f"allocated:{instance_id}"),
    )
