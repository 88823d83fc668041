"""From the start of a campaign to its drained run, on a real PostgreSQL."""

from collections.abc import AsyncIterator
from uuid import UUID

import pytest

from backing import MakeDatabase
from contracts import topics
from contracts.progress import CampaignDrained, DispatchesChanged
from scheduler_parts import Bench, add_instance, bench, definition, migrate_scheduler, sent, start_campaign

pytestmark = pytest.mark.postgres


@pytest.fixture
async def on(database_factory: MakeDatabase) -> AsyncIterator[Bench]:
    async with bench(database_factory(migrate_scheduler)) as made:
        yield made


async def run_to_the_end(on: Bench, instance_id: UUID) -> int:
    count = 0
    while queued := await on.turn():
        count += len(queued)
        await on.tell(topics.MESSAGE_SENT, *(sent(one, instance_id) for one in queued))
    return count


async def test_a_started_campaign_is_planned_released_settled_and_drained(on: Bench) -> None:
    instance_id = await add_instance(on)
    campaign = await start_campaign(on, definition([instance_id]), 1200)
    assert await run_to_the_end(on, instance_id) == 1200
    assert await on.states(campaign) == {"accepted": 1200}
    await on.turn()
    drained = await on.events(CampaignDrained)
    assert drained == [(str(campaign), CampaignDrained(run_epoch=1, planned=1200))]
    changes = [change for _, event in await on.events(DispatchesChanged) for change in event.changes]  # type: ignore[attr-defined]
    assert len(changes) == 3600
    assert {change.version for change in changes} == {1, 2, 3}
