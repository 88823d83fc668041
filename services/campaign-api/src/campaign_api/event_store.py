"""Event streams: load, decide, append, with the outbox rows in the same transaction."""

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from datetime import datetime
from functools import reduce
from typing import Any, Generic, TypeVar
from uuid import UUID

import orjson
from asyncpg import UniqueViolationError
from sqlalchemy.ext.asyncio import AsyncConnection

from chassis import outbox
from chassis.database import driver
from chassis.kafka import Outgoing, outgoing
from contracts import codec, ids
from contracts.envelope import Event
from contracts.topics import CAMPAIGN_API, Topic

TRIES_MAX = 8

S = TypeVar("S")


class Conflict(Exception):
    """Others changed the same thing at the same moment, again and again: try later."""


@dataclass(frozen=True, slots=True)
class Stream:
    """`topic`: where its events are published, keyed by the stream's id."""

    account_id: UUID
    kind: str
    id: UUID
    topic: Topic


@dataclass(frozen=True, slots=True)
class Recorded(Generic[S]):
    """The state after the decision; `events` is what was appended just now."""

    state: S
    version: int
    events: tuple[Event, ...]


async def load(connection: AsyncConnection, stream: Stream) -> list[Any]:
    """The stream's events in order, brought up to their current versions. Served by the primary key."""
    rows = await (await driver(connection)).fetch(
        "SELECT type, schema_version, data::text AS data FROM event WHERE account_id = $1 AND stream_id = $2"
        " ORDER BY version",
        stream.account_id,
        stream.id,
    )
    return [codec.decode(row["type"], row["schema_version"], row["data"].encode()) for row in rows]


async def append(
    connection: AsyncConnection,
    stream: Stream,
    version: int,
    events: Sequence[Event],
    now: datetime,
    causation_id: UUID | None = None,
) -> None:
    """Appends after `version` and queues the same events for their topic. Raises UniqueViolationError on a race."""
    records = [
        record(stream, version + offset, event, now, causation_id) for offset, event in enumerate(events, start=1)
    ]
    await insert(connection, [(stream, entry) for entry in records], now)
    await outbox.append(connection, records)


def record(
    stream: Stream,
    version: int,
    event: Event,
    now: datetime,
    causation_id: UUID | None = None,
    traceparent: str | None = None,
) -> Outgoing:
    """`traceparent`: given where it is the same for thousands of records; else the current span's."""
    return outgoing(
        stream.topic,
        str(stream.id),
        event,
        source=CAMPAIGN_API,
        account_id=stream.account_id,
        time=now,
        event_id=ids.event_id(CAMPAIGN_API, f"{stream.account_id}:{stream.id}", f"v{version}"),
        causation_id=causation_id,
        traceparent=traceparent,
        stream_version=version,
    )


async def insert(connection: AsyncConnection, entries: Iterable[tuple[Stream, Outgoing]], now: datetime) -> None:
    """One statement for any number of streams."""
    columns = list(
        zip(
            *(
                (
                    stream.account_id,
                    stream.id,
                    entry.envelope.stream_version,
                    stream.kind,
                    entry.envelope.id,
                    entry.envelope.type,
                    entry.envelope.version,
                    codec.encode(entry.event).decode(),
                    _metadata(entry),
                )
                for stream, entry in entries
            ),
            strict=True,
        )
    )
    if columns:
        await (await driver(connection)).execute(
            "INSERT INTO event (account_id, stream_id, version, stream_type, event_id, type, schema_version, data,"
            " metadata, recorded_at) SELECT *, $10::timestamptz FROM unnest($1::uuid[], $2::uuid[], $3::int[],"
            " $4::text[], $5::uuid[], $6::text[], $7::int[], $8::jsonb[], $9::jsonb[])",
            *(list(column) for column in columns),
            now,
        )


def _metadata(entry: Outgoing) -> str:
    causation_id = entry.envelope.causation_id
    facts = {"traceparent": entry.envelope.traceparent, "causation": causation_id and str(causation_id)}
    return orjson.dumps({name: value for name, value in facts.items() if value}).decode()


async def decide_in(
    connection: AsyncConnection,
    stream: Stream,
    evolve: Callable[[S, Any], S],
    initial: S,
    decide: Callable[[S], Sequence[Event]],
    *,
    now: datetime,
    expected_version: int | None = None,
    causation_id: UUID | None = None,
) -> Recorded[S]:
    """Load, decide, append inside the caller's transaction; a lost race is decided again on the new state.

    Raises Conflict after TRIES_MAX races, VersionMismatch where `expected_version` is not the current one.
    """
    for _ in range(TRIES_MAX):
        past = await load(connection, stream)
        if expected_version is not None and len(past) != expected_version:
            raise VersionMismatch(len(past))
        state = reduce(evolve, past, initial)
        events = tuple(decide(state))
        if not events:
            return Recorded(state, len(past), ())
        try:
            async with (await driver(connection)).transaction():  # a savepoint: the race must not end the caller's
                await append(connection, stream, len(past), events, now, causation_id)
        except UniqueViolationError:
            continue
        return Recorded(reduce(evolve, events, state), len(past) + len(events), events)
    raise Conflict(str(stream.id))


class VersionMismatch(Exception):
    """The thing was changed since it was read: read it again."""
