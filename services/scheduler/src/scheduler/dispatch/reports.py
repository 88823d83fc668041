"""What the scheduler tells the others: DispatchesChanged and the campaign's progress.

Through the outbox; or, where the dispatch's own row is the outbox (planned, released), as the bytes of the event,
written without building an object for each dispatch: the tests read them back through contracts.
"""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from datetime import datetime
from uuid import UUID

import orjson
from sqlalchemy.ext.asyncio import AsyncConnection

from chassis.kafka import Encoded, Outgoing, outgoing
from chassis.outbox import append
from contracts import ids
from contracts.envelope import Envelope, Event, write_headers
from contracts.progress import DispatchChange, DispatchesChanged
from contracts.topics import CAMPAIGN_PROGRESS, SCHEDULER
from scheduler.rows import Row

CHANGES_MAX = 500


Told = dict[str, object]  # a DispatchChange as JSON takes it


@dataclass(frozen=True, slots=True)
class Changed:
    """`stream`: the campaign, or the conversation of a message without one."""

    stream: UUID
    account_id: UUID
    change: DispatchChange


def progress(
    stream: UUID, account_id: UUID, event: Event, *, kind: str, now: datetime, causation_id: UUID | None = None
) -> Outgoing:
    key = str(stream)
    return outgoing(
        CAMPAIGN_PROGRESS,
        key,
        event,
        source=SCHEDULER,
        account_id=account_id,
        time=now,
        event_id=ids.event_id(SCHEDULER, key, kind),
        causation_id=causation_id,
    )


def describe(row: Row) -> DispatchChange:
    """Of a dispatch row as it is after the change."""
    return DispatchChange(
        dispatch_id=row["dispatch_id"],
        recipient_id=row["recipient_id"],
        step=row["step"],
        instance_id=row["instance_id"],
        version=row["version"],
        attempt=row["attempt"],
        release=row["release"],
        state=row["state"],
        reason=row["reason"],
        due_at=row["due_at"],
    )


def in_records(changes: Iterable[Changed], now: datetime) -> list[Outgoing]:
    """One record per stream and at most 500 changes."""
    streams: dict[tuple[UUID, UUID], list[DispatchChange]] = {}
    for changed in changes:
        streams.setdefault((changed.stream, changed.account_id), []).append(changed.change)
    records: list[Outgoing] = []
    for (stream, account_id), of_stream in streams.items():
        for start in range(0, len(of_stream), CHANGES_MAX):
            some = tuple(of_stream[start : start + CHANGES_MAX])
            kind = f"changed:{some[0].dispatch_id}:{some[0].version}"
            event = DispatchesChanged(changes=some)
            records.append(progress(stream, account_id, event, kind=kind, now=now))
    return records


async def report(connection: AsyncConnection, changes: Sequence[Changed], now: datetime) -> None:
    """In the transaction of the change itself."""
    records = in_records(changes, now)
    if records:
        await append(connection, records)


async def report_rows(connection: AsyncConnection, rows: Sequence[Row], now: datetime) -> None:
    """The same for changed dispatch rows of campaigns."""
    await report(connection, [Changed(row["campaign_id"], row["account_id"], describe(row)) for row in rows], now)


def stored(row: Row) -> Told:
    """Of a dispatch row, as `describe`, for `in_bytes`."""
    return {
        "dispatch_id": str(row["dispatch_id"]),
        "recipient_id": str(row["recipient_id"]),
        "step": row["step"],
        "instance_id": str(row["instance_id"]),
        "version": row["version"],
        "attempt": row["attempt"],
        "release": row["release"],
        "state": row["state"],
        "reason": row["reason"],
        "due_at": row["due_at"],
    }


def in_bytes(campaign_id: UUID, account_id: UUID, told: Sequence[Told], at: datetime) -> list[Encoded]:
    """One record per CHANGES_MAX dispatches."""
    key = str(campaign_id)
    records: list[Encoded] = []
    for start in range(0, len(told), CHANGES_MAX):
        some = told[start : start + CHANGES_MAX]
        envelope = Envelope(
            id=ids.event_id(SCHEDULER, key, f"changed:{some[0]['dispatch_id']}:{some[0]['version']}"),
            type=DispatchesChanged.__name__,
            version=DispatchesChanged.VERSION,
            source=SCHEDULER,
            subject=key,
            time=at,
            account_id=account_id,
        )
        value = orjson.dumps({"changes": some})
        records.append(Encoded(CAMPAIGN_PROGRESS.name, key.encode(), value, write_headers(envelope)))
    return records
