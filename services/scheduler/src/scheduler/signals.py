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


class Signals(Hints):
    """`wake`: look at lanes and answers at once; `plan`: at plans and bulk changes. The worker takes the hints."""

    def __init__(self) -> None:
        super().__init__()
        self.wake = asyncio.Event()
        self.plan = asyncio.Event()

    def alert(self) -> None:
        self.wake.set()
        self.plan.set()


class Stage(Hints):
    """One consumer's hints until its transaction has committed: told earlier, the worker would look and see nothing."""

    def __init__(self, signals: Signals) -> None:
        super().__init__()
        self._signals = signals

    async def tell(self) -> None:
        """After the commit. Hints of a batch that was rolled back are told as well: they do no harm."""
        self._signals.wake_campaigns(self.take_campaigns())
        self._signals.maybe_drained(self.take_drained())
        self._signals.wake_instances(self.take_instances())
        if self.take_recover():
            self._signals.recover()
        self._signals.alert()
