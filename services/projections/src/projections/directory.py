"""Accounts, users and products as their owner last saved them: the newest of each row wins."""

from collections import defaultdict
from typing import Any, Final, assert_never
from uuid import UUID

import asyncpg

from contracts.directory import AccountSaved, DirectoryEvent, ProductSaved, UserSaved
from contracts.envelope import Envelope, Event
from projections import registers
from projections.registers import Fact, Row, version_key
from projections.timeline import Records, Touched

_TIMES: Final[Row] = {"created_at": None, "updated_at": None, "keys": {}}
EMPTY: Final[dict[str, Row]] = {
    "account": {"name": "", "country": None, "time_zone": None, **_TIMES},
    "app_user": {"email": None, "name": "", "role": None, "active": True, **_TIMES},
    "product": {"name": "", "description": None, "price_cents": None, "details": {}, "deleted": False, **_TIMES},
}


def read_fact(envelope: Envelope, event: Event) -> tuple[str, Fact] | None:
    """The table and what the event says about its row; None for any event of another family."""
    if envelope.account_id is None or not isinstance(event, DirectoryEvent):
        return None
    time = envelope.time.isoformat()
    values: dict[str, Any] = event.model_dump(mode="json") | {"updated_at": time}
    key = version_key(envelope)
    fact = Fact(envelope.account_id, UUID(envelope.subject), key, values, {"created_at": time})
    return _table(event), fact


def _table(event: DirectoryEvent) -> str:
    match event:
        case AccountSaved():
            return "account"
        case UserSaved():
            return "app_user"
        case ProductSaved():
            return "product"
        case _:
            assert_never(event)


async def apply(connection: asyncpg.Connection, records: Records) -> Touched:
    """Writes a batch. The caller holds the component's writer lock. Nobody waits for notices of these."""
    facts: dict[str, list[Fact]] = defaultdict(list)
    for record in records:
        if (read := read_fact(*record)) is not None:
            facts[read[0]].append(read[1])
    for table in sorted(facts):
        await registers.apply(connection, table, EMPTY[table], facts[table])
    return Touched()
