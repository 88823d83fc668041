"""People who want no campaign message: on a real PostgreSQL."""

from uuid import uuid4

import pytest

from contracts import ids, topics
from contracts.contacts import ContactOptedOut
from scheduler_parts import (
    TWO_STEPS,
    Bench,
    add_instance,
    definition,
    failed,
    people,
    run_out,
    start_campaign,
)

pytestmark = pytest.mark.postgres


async def test_people_who_opted_out_are_skipped_planned_or_not(on: Bench) -> None:
    instance_id = await add_instance(on, rate=0.2)
    campaign = uuid4()
    early, late, *_ = people(campaign, 6)
    gone = [
        (one.contact_id, ContactOptedOut(recipient_key=ids.phone_key(one.phone), reason="manual"))
        for one in (early, late)
    ]
    await on.tell(topics.CONTACTS, gone[0])
    await start_campaign(on, definition([instance_id], steps=TWO_STEPS), 6, campaign_id=campaign)
    (out,) = await on.turn()
    assert out.recipient_id == late.recipient_id
    await on.tell(topics.CONTACTS, gone[1])
    assert await on.states(campaign) == {"pending": 8, "released": 1, "skipped": 3}
    await on.tell(topics.MESSAGE_SENT, failed(out, instance_id, "opted_out", retryable=False))
    rows = await on.rows("SELECT DISTINCT reason FROM dispatch WHERE state = 'skipped'")
    assert [row["reason"] for row in rows] == ["opted_out"]
    queued = await run_out(on, instance_id)
    assert len(queued) == 8
