"""Writes contact records and aliases, and makes the persons that they touch anew."""

from collections import defaultdict
from collections.abc import Iterable
from typing import Any, Final
from uuid import UUID

import asyncpg

from contracts.contacts import AllocationEvent
from projections import registers
from projections.contact import allocations, contacts
from projections.folding import run
from projections.timeline import Place, Records, Touched

_LEARN: Final = """
INSERT INTO contact_alias (account_id, alias, contact_id) SELECT * FROM unnest($1::uuid[], $2::text[], $3::uuid[])
ON CONFLICT DO NOTHING
"""
# Everyone who shares an alias with the given contacts, themselves included. By contact_alias_contact and primary key.
_SHARING: Final = """
SELECT DISTINCT other.account_id, other.alias, other.contact_id
FROM unnest($1::uuid[], $2::uuid[]) w (account_id, contact_id)
CROSS JOIN LATERAL (SELECT * FROM contact_alias
    WHERE contact_id = w.contact_id AND account_id IS NOT DISTINCT FROM w.account_id OFFSET 0) own
CROSS JOIN LATERAL (SELECT * FROM contact_alias
    WHERE account_id = own.account_id AND alias = own.alias OFFSET 0) other
"""
_JOIN: Final = """
UPDATE contact_record c SET person_id = w.person_id
FROM unnest($1::uuid[], $2::uuid[], $3::uuid[]) w (account_id, id, person_id)
WHERE c.account_id = w.account_id AND c.id = w.id AND c.person_id IS DISTINCT FROM w.person_id
"""
_LEAVE: Final = """
DELETE FROM person p USING unnest($1::uuid[], $2::uuid[]) w (account_id, id)
WHERE p.account_id = w.account_id AND p.id = w.id
"""


async def apply(connection: asyncpg.Connection, records: Records) -> Touched:
    """Writes a batch of contacts and allocations. The caller holds the component's writer lock."""
    facts, aliases = [], set()
    bound: list[allocations.Allocation] = []
    for envelope, event in records:
        if isinstance(event, AllocationEvent):
            bound.extend(allocations.read_allocations(envelope, event))
        elif (fact := contacts.read_fact(envelope, event)) is not None:
            facts.append(fact)
            aliases |= {(fact.account_id, alias, fact.id) for alias in contacts.read_aliases(event)}
    allocated = allocations.fold_allocations(bound)
    await run(connection, allocations.UPSERT, allocated)
    await registers.apply(connection, contacts.TABLE, contacts.EMPTY, facts)
    if aliases:
        await connection.execute(_LEARN, *zip(*sorted(aliases), strict=True))
    touched = {(fact.account_id, fact.id) for fact in facts}
    if touched:
        await _make_persons(connection, touched)
    return Touched(contacts=touched | {(one.account_id, one.id) for one in allocated})


async def _make_persons(connection: asyncpg.Connection, touched: set[Place]) -> None:
    shared = await _find_sharing(connection, touched)
    records = await registers.read(connection, contacts.TABLE, touched | {(account, one) for account, _, one in shared})
    names: dict[Place, list[str]] = defaultdict(list)
    for account_id, alias, contact_id in shared:
        names[account_id, contact_id].append(alias)
    by_account: dict[UUID, list[tuple[str, UUID]]] = defaultdict(list)
    for account_id, contact_id in records:
        # Each contact counts for itself, also one that no alias names.
        by_account[account_id].append((f"id:{contact_id}", contact_id))
        by_account[account_id] += [(alias, contact_id) for alias in names[account_id, contact_id]]
    persons, joined, left = [], [], []
    for account_id, pairs in by_account.items():
        for ids in contacts.group(pairs):
            members = [records[account_id, one] for one in ids]
            persons.append(contacts.merge(members, (alias for one in ids for alias in names[account_id, one])))
            joined += [(account_id, one, ids[0]) for one in ids]
            left += [(account_id, one) for one in ids[1:]]
    await connection.execute(_JOIN, *zip(*sorted(joined), strict=True))
    if left:
        await connection.execute(_LEAVE, *zip(*sorted(left), strict=True))
    persons.sort(key=lambda person: (person["account_id"], person["id"]))
    await registers.write(connection, "person", ("account_id", "id"), persons)


async def _find_sharing(connection: asyncpg.Connection, touched: set[Place]) -> set[tuple[UUID, str, UUID]]:
    """All aliases of all contacts that hang together with the touched ones."""
    shared: set[tuple[UUID, str, UUID]] = set()
    known, asked = set(touched), set(touched)
    while asked:
        rows: Iterable[Any] = await connection.fetch(_SHARING, *zip(*sorted(asked), strict=True))
        shared |= {(row[0], row[1], row[2]) for row in rows}
        asked = {(account_id, contact_id) for account_id, _, contact_id in shared} - known
        known |= asked
    return shared
