"""The look that begins a turn: it sees all that a turn would find, so that most turns are nothing but a look."""

from uuid import uuid4

import pytest

from contracts import ids, topics
from contracts.conversations import AnswerContent, AnswerWritten
from contracts.ids import Address
from scheduler_parts import (
    ACCOUNT,
    Bench,
    add_instance,
    definition,
    failed,
    returned,
    settle_all,
    start_campaign,
    wait_over,
)

pytestmark = pytest.mark.postgres


async def rest(on: Bench) -> None:
    await on.execute("UPDATE lane SET due_at = now() + interval '1 hour'")


async def test_nothing_is_due_where_lanes_rest_and_nothing_waits(on: Bench) -> None:
    instance_id = await add_instance(on)
    await start_campaign(on, definition([instance_id]), 3)
    queued = await on.turn()
    await settle_all(on, instance_id, queued)
    await rest(on)
    assert await on.scheduler.timers.look() == (False, False)
    assert await on.turn() == []


async def test_a_lane_that_is_due_is_seen(on: Bench) -> None:
    await start_campaign(on, definition([await add_instance(on)]), 3)
    await on.scheduler.worker.plan()
    assert (await on.scheduler.timers.look())[1]


async def test_a_retry_is_seen_when_its_wait_is_over_and_goes_out_in_that_turn(on: Bench) -> None:
    instance_id = await add_instance(on)
    await start_campaign(on, definition([instance_id]), 1)
    (queued,) = await on.turn()
    await on.tell(topics.MESSAGE_SENT, failed(queued, instance_id))
    await rest(on)
    await on.execute("UPDATE dispatch SET due_at = now() + interval '1 hour'")
    assert await on.scheduler.timers.look() == (False, False)
    assert await on.turn() == []
    await wait_over(on)
    assert await on.scheduler.timers.look() == (True, False)
    (again,) = await on.turn()
    assert (again.dispatch_id, again.attempt) == (queued.dispatch_id, 2)


async def test_an_answer_that_came_back_is_seen_and_goes_out_again(on: Bench) -> None:
    instance_id, chat = await add_instance(on), Address(phone="5511987654321")
    written = AnswerWritten(
        instance_id=instance_id,
        contact_id=ids.contact_id(ACCOUNT, ids.recipient_key(chat)),
        address=chat,
        content=AnswerContent(text="Claro!"),
        by=uuid4(),
    )
    await on.tell(topics.CONVERSATIONS, (ids.chat_id(instance_id, chat), written))
    (queued,) = await on.turn()
    await rest(on)
    assert await on.scheduler.timers.look() == (False, False)
    await on.tell(topics.MESSAGE_SENT, returned(queued, instance_id, "shutting_down"))
    await rest(on)
    assert await on.scheduler.timers.look() == (True, False)
    (again,) = await on.turn()
    assert (again.dispatch_id, again.release) == (queued.dispatch_id, 2)
