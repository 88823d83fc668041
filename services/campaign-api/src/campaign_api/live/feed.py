"""The tail of the topic `changes`, fanned out to the connections of this process; each account sees only its own."""

import asyncio
import contextlib
from collections.abc import AsyncIterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from itertools import chain
from typing import Any
from uuid import UUID

from aiokafka import AIOKafkaConsumer, TopicPartition
from aiokafka.errors import KafkaError

from chassis.kafka import Unreadable, received
from chassis.lifecycle import pause
from chassis.settings import KafkaSettings
from chassis.telemetry import log
from contracts.changes import ViewChanged
from contracts.topics import CHANGES

QUEUE_MAX = 1000  # notices a slow connection may lag behind; then it is told to load everything anew
REPLAY_MAX = 5000
POLL_MS = 500
ANSWER_S = 5.0
HANDLES = frozenset({"ViewChanged"})


@dataclass(frozen=True, slots=True)
class Notice:
    """`id` names the record: partition.offset."""

    id: str
    change: ViewChanged


class Missed(Exception):
    """What came after the id is not all there any more, or the id is none of ours: only the view itself tells."""


@dataclass(slots=True, eq=False)
class Listener:
    notices: asyncio.Queue[Notice] = field(default_factory=lambda: asyncio.Queue(QUEUE_MAX))
    overrun: bool = False


@dataclass(slots=True)
class Feed:
    settings: KafkaSettings
    _listeners: dict[UUID, set[Listener]] = field(default_factory=dict)

    @contextmanager
    def listening(self, account_id: UUID) -> Any:
        listener = Listener()
        self._listeners.setdefault(account_id, set()).add(listener)
        try:
            yield listener
        finally:
            listeners = self._listeners[account_id]
            listeners.discard(listener)
            if not listeners:
                del self._listeners[account_id]

    async def run(self, stopping: asyncio.Event) -> None:
        """Reads from now on; waits out Kafka, after which every connection is told that it missed something."""
        interrupted = False
        while not stopping.is_set():
            consumer = AIOKafkaConsumer(
                CHANGES.name, bootstrap_servers=self.settings.bootstrap, group_id=None, auto_offset_reset="latest"
            )
            try:
                await consumer.start()
                for listener in chain.from_iterable(self._listeners.values()) if interrupted else ():
                    listener.overrun = True
                while not stopping.is_set():
                    for records in (await consumer.getmany(timeout_ms=POLL_MS)).values():
                        self._hand_out(records)
            except (KafkaError, OSError) as error:
                interrupted = True
                log.warning("live_feed_interrupted", error=type(error).__name__)
                await pause(stopping, 1.0)
            finally:
                with contextlib.suppress(KafkaError):
                    await consumer.stop()

    def _hand_out(self, records: list[Any]) -> None:
        for record in records:
            notice = _read(record)
            if notice is None:
                continue
            account_id, one = notice
            for listener in self._listeners.get(account_id, ()):
                try:
                    listener.notices.put_nowait(one)
                except asyncio.QueueFull:
                    listener.overrun = True

    async def since(self, account_id: UUID, last_id: str) -> AsyncIterator[Notice]:
        """What came after `last_id`, of this account only. Raises Missed, KafkaError, TimeoutError."""
        place = _place(last_id)
        if place is None:
            raise Missed
        partition, offset = TopicPartition(CHANGES.name, place[0]), place[1]
        consumer = AIOKafkaConsumer(bootstrap_servers=self.settings.bootstrap, group_id=None)
        await consumer.start()
        try:
            consumer.assign([partition])
            async with asyncio.timeout(ANSWER_S):  # a partition that does not exist is asked for again and again
                end = (await consumer.end_offsets([partition]))[partition]
                first = (await consumer.beginning_offsets([partition]))[partition]
            if not max(first, end - REPLAY_MAX) <= offset + 1 <= end:
                raise Missed
            consumer.seek(partition, offset + 1)
            while await consumer.position(partition) < end:
                for records in (await consumer.getmany(partition, timeout_ms=POLL_MS)).values():
                    for record in records:
                        notice = _read(record)
                        if notice is not None and notice[0] == account_id and record.offset < end:
                            yield notice[1]
        finally:
            await consumer.stop()


def _place(last_id: str) -> tuple[int, int] | None:
    partition, _, offset = last_id.partition(".")
    if partition.isdigit() and offset.isdigit() and len(partition) < 6 and len(offset) < 19:
        return int(partition), int(offset)
    return None


def _read(record: Any) -> tuple[UUID, Notice] | None:
    try:
        read = received(record, HANDLES)
    except Unreadable:
        return None  # projections' own consumers park it; a live notice is worth no more
    if read is None or read.envelope.account_id is None or not isinstance(read.event, ViewChanged):
        return None
    return read.envelope.account_id, Notice(f"{record.partition}.{record.offset}", read.event)
