"""The names of one person (phone, LID, business-scoped id): what holds for one of them holds for all.

Names only ever join, so the order in which they are learnt does not matter. Suppression and binding are copied to each
name, so that the hot paths look them up by the name they have.
"""

from collections.abc import Collection, Sequence
from uuid import UUID

import asyncpg

from contracts import ids
from contracts.ids import Address

_PERSONS = "SELECT DISTINCT person FROM alias WHERE account_id = $1 AND recipient_key = ANY($2::text[])"
_KNOWN = """
SELECT count(*) = cardinality($2::text[]) AND count(DISTINCT person) = 1 FROM alias
WHERE account_id = $1 AND recipient_key = ANY($2::text[])
"""
_JOIN = """
INSERT INTO alias (account_id, recipient_key, person)
SELECT $1, key, $3 FROM unnest($2::text[]) AS n(key) ORDER BY key
ON CONFLICT (account_id, recipient_key) DO UPDATE SET person = excluded.person
"""
_ABSORB = "UPDATE alias SET person = $3 WHERE account_id = $1 AND person = ANY($2::text[]) AND person <> $3"
_NAMES = "SELECT recipient_key FROM alias WHERE account_id = $1 AND person = $2 ORDER BY recipient_key"
_ALL_NAMES = """
SELECT k.recipient_key AS asked, a.recipient_key FROM alias k JOIN alias a USING (account_id, person)
WHERE k.account_id = $1 AND k.recipient_key = ANY($2::text[])
"""
# Two processes that learn about one account's people at once would each miss what the other adds.
_ONE_AT_A_TIME = "SELECT pg_advisory_xact_lock(hashtextextended('scheduler aliases ' || $1::text, 0))"
_SUPPRESS = """
INSERT INTO opt_out (account_id, recipient_key) SELECT $1, key FROM unnest($2::text[]) AS n(key)
WHERE EXISTS (SELECT 1 FROM opt_out WHERE account_id = $1 AND recipient_key = ANY($2::text[]))
ORDER BY key ON CONFLICT DO NOTHING
"""
_SUPPRESSED = "SELECT EXISTS (SELECT 1 FROM opt_out WHERE account_id = $1 AND recipient_key = ANY($2::text[]))"
# The first name that is bound gives the instance. Nobody is counted twice.
_BIND = """
INSERT INTO binding (account_id, recipient_key, instance_id, contact_id, bound_at, counted)
SELECT $1, n.key, b.instance_id, b.contact_id, b.bound_at, false FROM unnest($2::text[]) AS n(key), (
    SELECT instance_id, contact_id, bound_at FROM binding WHERE account_id = $1 AND recipient_key = ANY($2::text[])
    ORDER BY recipient_key LIMIT 1) b
ORDER BY n.key ON CONFLICT DO NOTHING
"""
_FORGET = "DELETE FROM alias WHERE account_id = $1 AND recipient_key = ANY($2::text[])"


def names(address: Address, other: Address | None = None) -> list[str]:
    """Every key of the person who is shown under these names, the one to be bound first; groups are nobody's name."""
    shown = [one for one in (address, other) if one is not None]
    phones = [ids.phone_key(one.phone) for one in shown if one.phone]
    return list(
        dict.fromkeys([*phones, *(one.bsuid for one in shown if one.bsuid), *(one.lid for one in shown if one.lid)])
    )


async def learn(raw: asyncpg.Connection, account_id: UUID, shown: Sequence[str]) -> None:
    """These are one person."""
    if len(shown) < 2 or await raw.fetchval(_KNOWN, account_id, shown):
        return
    await raw.execute(_ONE_AT_A_TIME, str(account_id))
    persons = [row["person"] for row in await raw.fetch(_PERSONS, account_id, shown)]
    person = min([*persons, *shown])
    await raw.execute(_JOIN, account_id, shown, person)
    await raw.execute(_ABSORB, account_id, persons, person)
    everything = [row["recipient_key"] for row in await raw.fetch(_NAMES, account_id, person)]
    await raw.execute(_BIND, account_id, everything)
    await raw.execute(_SUPPRESS, account_id, everything)


async def suppressed(raw: asyncpg.Connection, account_id: UUID, keys: Collection[str]) -> bool:
    return bool(await raw.fetchval(_SUPPRESSED, account_id, list(keys)))


async def all_names(raw: asyncpg.Connection, account_id: UUID, keys: Collection[str]) -> dict[str, set[str]]:
    """For each key the person's names, itself included."""
    found = {key: {key} for key in keys}
    for row in await raw.fetch(_ALL_NAMES, account_id, list(found)):
        found[row["asked"]].add(row["recipient_key"])
    return found


async def forget(raw: asyncpg.Connection, account_id: UUID, keys: Collection[str]) -> None:
    await raw.execute(_FORGET, account_id, list(keys))
