"""What has its intent and has not left when a person stops its campaign goes back instead of being waited for."""

import asyncio
from collections.abc import Callable
from datetime import UTC, datetime
from typing import Any, cast
from uuid import uuid4

import pytest

from contracts.messages import MessageReturned
from providers.protocol import NotSent
from sender.instance.ownership import Lease
from sender.lane.departures import Departures
from sender.ledger.answers import tell, tell_again
from sender.ledger.attempt import NeverLeft
from sender.ledger.delivery import LedgerEntry
from sender.ledger.outcomes import Outcome, about_work
from sender_ledger import number, works
from sender_parts import queued, settings

NOW_S = 1000.0


async def test_undeparted_messages_of_the_stopped_run_go_back_and_no_others() -> None:
    stopped, other = uuid4(), uuid4()
    messages = [
        queued(1, campaign_id=stopped),
        queued(2, campaign_id=other),
        queued(3, campaign_id=stopped, run_epoch=2),
        queued(4, campaign_id=stopped),
    ]
    told: list[Outcome] = []
    outcomes: Any = type("Outcomes", (), {"put": told.append})
    nobody = cast(Any, None)

    def stay(departure: Any) -> None:
        departure.close()

    departures = Departures(
        settings(), nobody, outcomes, nobody, spawn=stay, clock=lambda: NOW_S, crash_point=lambda _: None
    )
    for work in works(messages):
        departures.add(number(), Lease(epoch=1, deadline_s=NOW_S + 5), work, NOW_S, 60.0)
    departures.recall(stopped, 1, "paused")
    assert {outcome.work.message.dispatch_id for outcome in told} == {messages[0].dispatch_id, messages[3].dispatch_id}
    assert {outcome.finding for outcome in told} == {NeverLeft("paused", returned=True)}
    assert (departures.waiting, departures.in_flight) == (2, 2)


async def test_a_lease_that_ends_while_the_connection_is_made_keeps_the_message_from_leaving() -> None:
    now_s, told, sent = NOW_S, list[Outcome](), list[object]()
    tasks: set[asyncio.Task[None]] = set()

    class SlowToConnect:
        async def send(self, *_: object, may_leave: Callable[[], bool], **__: object) -> NotSent:
            nonlocal now_s
            assert may_leave()
            now_s += 6
            if may_leave():
                sent.append(1)
            return NotSent("too_late")

        def timeout_s(self, _: str) -> float:
            return 1.0

    outcomes: Any = type("Outcomes", (), {"put": told.append})
    departures = Departures(
        settings(intent_age_max_s=60.0), cast(Any, SlowToConnect()), outcomes, cast(Any, None),
        spawn=lambda work: tasks.add(asyncio.ensure_future(work)), clock=lambda: now_s, crash_point=lambda _: None,
    )  # fmt: skip
    [work] = works([queued(1)])
    departures.add(number(), Lease(epoch=1, deadline_s=NOW_S + 5), work, NOW_S, 60.0)
    await departures.all_left()
    await asyncio.gather(*tasks)
    assert [outcome.finding for outcome in told] == [NeverLeft("intent_too_old", returned=True)]
    assert (sent, departures.in_flight) == ([], 0)


@pytest.mark.parametrize("reason", ["paused", "cancelled", "expired", "shutting_down"])
def test_a_recalled_message_is_returned_for_that_reason_however_often_it_is_told(reason: str) -> None:
    work = works([queued(1)])[0]
    now = datetime.now(UTC)
    first = tell(about_work(work), "intent", NeverLeft(reason, returned=True), now)
    assert isinstance(first.event, MessageReturned)
    assert first.event.reason == reason
    entry = LedgerEntry(attempt=1, state="not_sent", release=1, epoch=1, reason=reason, returned=True, outcome_at=now)
    assert tell_again(about_work(work), entry, now).envelope.id == first.envelope.id
