"""A scheduler without Kafka whose waits are short."""

from collections.abc import AsyncIterator

import pytest

from backing import MakeDatabase
from scheduler.settings import PacingSettings
from scheduler_parts import Bench, bench, migrate_scheduler

QUICK = PacingSettings(unpublished_s=0.01, stuck_s=0.01, blocked_grace_s=0)


@pytest.fixture
async def on(database_factory: MakeDatabase) -> AsyncIterator[Bench]:
    async with bench(database_factory(migrate_scheduler), QUICK) as made:
        yield made
