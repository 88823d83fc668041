"""Applies decisions to contacts: one by one, or a thousand rows of an import in a few statements."""

from collections.abc import Callable, Sequence
from datetime import datetime
from functools import reduce
from uuid import UUID

from sqlalchemy.ext.asyncio import AsyncConnection

from campaign_api import event_store
from campaign_api.contact import contact as decisions
from campaign_api.contact import store
from campaign_api.contact.contact import Contact
from campaign_api.event_store import Recorded, Stream
from campaign_api.upload import tables
from chassis import outbox
from chassis.kafka import Outgoing
from chassis.telemetry import current_traceparent
from contracts import ids
from contracts.contacts import ContactEvent
from contracts.ids import Address

Decide = Callable[[Contact], Sequence[ContactEvent]]


async def apply(
    connection: AsyncConnection,
    account_id: UUID,
    contact_id: UUID,
    key: str,
    decide: Decide,
    *,
    now: datetime,
    expected_version: int | None = None,
) -> Recorded[Contact]:
    stream = store.stream(account_id, contact_id)
    recorded = await event_store.decide_in(
        connection,
        stream,
        decisions.evolve,
        decisions.INITIAL,
        decide,
        now=now,
        expected_version=expected_version,
    )
    if recorded.events:
        await store.write(connection, [(stream, recorded.version, recorded.state, key)], now)
    return recorded


async def identify(connection: AsyncConnection, account_id: UUID, address: Address) -> UUID:
    """The contact that goes by any of the address's names, else the id derived from the first of them."""
    known = await store.by_alias(connection, account_id, store.aliases(address))
    return known or ids.contact_id(account_id, ids.recipient_key(address))


async def bring_in(
    connection: AsyncConnection,
    account_id: UUID,
    rows: Sequence[tables.Contact],
    *,
    source: str,
    tags: Sequence[str],
    now: datetime,
) -> None:
    """A batch of an import, each person once. Raises UniqueViolationError on a race: try the batch again."""
    people = {ids.phone_key(row.phone): row for row in rows}
    known = await store.by_aliases(connection, account_id, list(people))
    chosen = {key: known.get(key) or ids.contact_id(account_id, key) for key in people}
    current = await store.many(connection, account_id, list(chosen.values()))
    records: list[tuple[Stream, Outgoing]] = []
    traceparent = current_traceparent()
    entries: list[tuple[Stream, int, Contact, str]] = []
    for key, row in people.items():
        stored = current.get(chosen[key])
        state, version = (store.contact_of(stored), stored["version"]) if stored else (decisions.INITIAL, 0)
        events = decisions.bring_in(
            state,
            phone=row.phone,
            name=row.name,
            external_id=row.external_id,
            source=source,
            tags=tags,
            custom_fields=row.custom_fields,
        )
        if not events:
            continue
        stream = store.stream(account_id, chosen[key])
        records += [
            (stream, event_store.record(stream, version + 1, event, now, None, traceparent)) for event in events
        ]
        entries.append((stream, version + len(events), reduce(decisions.evolve, events, state), key))
    await event_store.insert(connection, records, now)
    await outbox.append(connection, [record for _, record in records])
    await store.write(connection, entries, now)
