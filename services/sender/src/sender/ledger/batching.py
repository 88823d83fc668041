"""One intent transaction at a time for all lanes: while one runs, the next one's groups gather."""

import asyncio
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from uuid import UUID

from chassis.database import is_passing
from chassis.telemetry import log
from sender.ledger.delivery import Admission
from sender.ledger.intents import IntentStore
from sender.work import Group, Work


class IntentsFailed(Exception):
    """The transaction did not end in a known commit: nothing of the group may be sent; ask again later."""


class GroupRefused(Exception):
    """The database refuses this very group: one of its messages cannot be stored."""


@dataclass(frozen=True, slots=True)
class Committed:
    """`begun_s`: monotonic time before the transaction began, from which the intents' age counts."""

    admission: Admission
    begun_s: float


@dataclass(slots=True)
class _Waiting:
    group: Group
    admission: asyncio.Future[Committed]


class IntentBatcher:
    """Lanes submit; the runner commits: a lone group after `linger_s`, under load a transaction each `every_s`."""

    def __init__(
        self, store: IntentStore, *, linger_s: float, every_s: float, batch_max: int, clock: Callable[[], float]
    ) -> None:
        self._clock = clock
        self._store = store
        self._linger_s = linger_s
        self._every_s = every_s
        self._batch_max = batch_max
        self._waiting: list[_Waiting] = []
        self._wake = asyncio.Event()

    async def submit(self, group: Group) -> Committed:
        """Raises IntentsFailed or GroupRefused."""
        future: asyncio.Future[Committed] = asyncio.get_running_loop().create_future()
        self._waiting.append(_Waiting(group, future))
        self._wake.set()
        return await future

    async def withdraw(self, instance_id: UUID, epoch: int, refused: Sequence[tuple[Work, str]]) -> frozenset[UUID]:
        """As the store's, whose errors it raises: rare, so in a transaction of its own."""
        return await self._store.withdraw(instance_id, epoch, refused)

    async def run(self) -> None:
        """For ever; cancelled once no lane is left."""
        next_s = 0.0
        while True:
            if not self._waiting:
                self._wake.clear()
                await self._wake.wait()
            await asyncio.sleep(max(self._linger_s, next_s - self._clock()))
            next_s = self._clock() + self._every_s
            batch = self._next_batch()
            await self._commit(batch)

    def _next_batch(self) -> list[_Waiting]:
        count = size = 0
        while count < len(self._waiting) and size < self._batch_max:
            size += len(self._waiting[count].group.works)
            count += 1
        batch, self._waiting = self._waiting[:count], self._waiting[count:]
        return batch

    async def _commit(self, batch: Sequence[_Waiting]) -> None:
        begun_s = self._clock()
        try:
            admissions = await self._store.commit([waiting.group for waiting in batch])
        except Exception as error:  # noqa: BLE001  the edge of the loop; every lane learns of it
            if not is_passing(error) and len(batch) > 1:
                for waiting in batch:
                    await self._commit([waiting])
                return
            log.warning("intents_not_written", groups=len(batch), error=f"{type(error).__name__}: {error}")
            failure = IntentsFailed if is_passing(error) else GroupRefused
            for waiting in batch:
                if not waiting.admission.done():
                    waiting.admission.set_exception(failure(type(error).__name__))
            return
        for waiting, admission in zip(batch, admissions, strict=True):
            if not waiting.admission.done():
                waiting.admission.set_result(Committed(admission, begun_s))
