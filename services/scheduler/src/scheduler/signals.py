"""What consumers tell the worker of their process: something may be due now. Hints only: sweeps find what is missed."""

import asyncio
from collections.abc import Iterable
from uuid import UUID


class Hints:
    """Campaigns and instances to be looked at."""

    def __init__(self) -> None:
        self._drained: set[UUID] = set()
        self._campaigns: set[UUID] = set()
        self._instances: set[UUID] = set()
        self._recover = False
        self._answers = False
        self._due = False

    def maybe_drained(self, campaign_ids: Iterable[UUID | None]) -> None:
        self._drained.update(campaign for campaign in campaign_ids if campaign is not None)

    def wake_campaigns(self, campaign_ids: Iterable[UUID]) -> None:
        """Their lanes are looked at, and whether they are drained."""
        campaigns = set(campaign_ids)
        self._campaigns |= campaigns
        self._drained |= campaigns

    def wake_instances(self, instance_ids: Iterable[UUID]) -> None:
        self._instances.update(instance_ids)

    def recover(self) -> None:
        """A person asks that what is released without an outcome be published again now."""
        self._recover = True

    def answers_wait(self) -> None:
        """Answers of people are to be published at once."""
        self._answers = True

    def lanes_due(self) -> None:
        """Some lane's time is now already."""
        self._due = True

    def wants_turn(self) -> bool:
        """Lanes are to be looked at or answers published, whatever the time is."""
        return bool(self._campaigns or self._instances or self._answers)

    def take_drained(self) -> set[UUID]:
        taken, self._drained = self._drained, set()
        return taken

    def take_campaigns(self) -> set[UUID]:
        taken, self._campaigns = self._campaigns, set()
        return taken

    def take_instances(self) -> set[UUID]:
        taken, self._instances = self._instances, set()
        return taken

    def take_recover(self) -> bool:
        taken, self._recover = self._recover, False
        return taken

    def take_answers(self) -> bool:
        taken, self._answers = self._answers, False
        return taken

    def take_due(self) -> bool:
        taken, self._due = self._due, False
        return taken


class Signals(Hints):
    """`wake`: look at lanes and answers at once; `plan`: at plans and bulk changes. The worker takes the hints."""

    def __init__(self) -> None:
        super().__init__()
        self.wake = asyncio.Event()
        self.plan = asyncio.Event()


class Stage(Hints):
    """One consumer's hints until its transaction has committed: told earlier, the worker would look and see nothing.

    `plans`: what it consumes may begin or change a plan.
    """

    def __init__(self, signals: Signals, *, plans: bool = False) -> None:
        super().__init__()
        self._signals = signals
        self._plans = plans

    async def tell(self) -> None:
        """After the commit. Hints of a batch that was rolled back are told as well: they do no harm."""
        signals = self._signals
        campaigns, drained, instances = self.take_campaigns(), self.take_drained(), self.take_instances()
        signals.wake_campaigns(campaigns)
        signals.maybe_drained(drained)
        signals.wake_instances(instances)
        if self.take_recover():
            signals.recover()
        if answers := self.take_answers():
            signals.answers_wait()
        if self.take_due() or answers or campaigns or drained or instances:
            signals.wake.set()
        if self._plans:
            signals.plan.set()
