"""What a lane cannot send it answers, so that the scheduler decides anew."""

from collections.abc import Iterable, Sequence
from datetime import datetime, timedelta
from typing import Literal, NamedTuple
from uuid import UUID

from chassis.lifecycle import utc_now
from chassis.telemetry import log
from contracts.messages import ReturnReason
from sender.instance.ownership import Lease
from sender.lane.parts import Parts
from sender.lane.queues import Queues
from sender.ledger.answers import refused_for_good, returned
from sender.ledger.outcomes import about_work
from sender.work import Work


class Refused(NamedTuple):
    """`opted_out` is for good; anything else comes back to the scheduler, who asks again from `not_before` on."""

    work: Work
    reason: ReturnReason | Literal["opted_out"]
    not_before: datetime | None = None


class Refusals:
    """Of one lane. What a commit of unknown end may have left in the ledger is ended there before it is answered."""

    def __init__(self, instance_id: UUID, parts: Parts, queues: Queues) -> None:
        self._instance_id = instance_id
        self._parts = parts
        self._queues = queues

    async def older_than(self, age_s: float, lease: Lease | None, reason: ReturnReason, again_s: float = 1.0) -> None:
        """Messages that waited long enough."""
        await self.all(self._queues.take_older(age_s, self._parts.clock()), lease, reason, again_s)

    async def all(self, works: Iterable[Work], lease: Lease | None, reason: ReturnReason, again_s: float) -> None:
        not_before = utc_now() + timedelta(seconds=max(0.0, again_s))
        await self.answer([Refused(work, reason, not_before) for work in works], lease)

    async def answer(self, refused: Sequence[Refused], lease: Lease | None) -> None:
        withdrawn = await self._withdraw([one for one in refused if one.work.retaken], lease)
        now = utc_now()
        for one in refused:
            work, about = one.work, about_work(one.work)
            if work.retaken and work.message.dispatch_id not in withdrawn:
                self._queues.await_outcome(work, self._parts.clock())
            elif one.reason == "opted_out":
                self._parts.outcomes.answer(work, refused_for_good(about, one.reason, now))
            else:
                self._parts.outcomes.answer(work, returned(about, one.reason, one.not_before, now))

    async def _withdraw(self, retaken: Sequence[Refused], lease: Lease | None) -> frozenset[UUID]:
        """The dispatches that have no intent (any more). Without a lease the sweep ends them."""
        if not retaken or lease is None:
            return frozenset()
        try:
            still_open = await self._parts.intents.withdraw(
                self._instance_id, lease.epoch, [(one.work, one.reason) for one in retaken]
            )
        except Exception as error:  # noqa: BLE001  they are asked about again
            log.warning("intents_not_withdrawn", count=len(retaken), error=f"{type(error).__name__}: {error}")
            return frozenset()
        return frozenset(one.work.message.dispatch_id for one in retaken) - still_open
