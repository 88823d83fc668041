"""A lane whose breaker is half open: one message tries the provider, and the lane never waits for one that cannot."""

import asyncio
from collections.abc import Callable
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from typing import Any, Literal, cast

import pytest

from contracts.messages import MessageQueued
from sender.instance.ownership import Lease
from sender.lane import breaker
from sender.lane.departures import Departures
from sender.lane.lane import Lane
from sender.lane.parts import Parts
from sender.lane.strain import Strain
from sender.ledger.attempt import NeverLeft
from sender.ledger.batching import Committed, IntentsFailed
from sender.ledger.delivery import Admission, Decision, Intend, Refuse
from sender.ledger.outcomes import Outcome
from sender.work import Group, Work
from sender_ledger import NUMBER, number, works
from sender_parts import ACCOUNT, queued, settings

NOW_S = 1000.0
LEASE = Lease(epoch=1, deadline_s=NOW_S + 5)
Answer = Callable[[Group], Decision]


@dataclass(slots=True)
class Spoken:
    """What the lane would have written down, and the intent transaction's answers."""

    answer: Answer
    returned: list[Work] = field(default_factory=list)
    outcomes: list[Outcome] = field(default_factory=list)
    groups: list[Group] = field(default_factory=list)

    async def submit(self, group: Group) -> Committed:
        self.groups.append(group)
        decision = self.answer(group)
        return Committed(Admission((decision,) * len(group.works), 0.0, {}, cast(Any, None), NOW_S), NOW_S)

    def answer_work(self, work: Work, *_: object) -> None:
        self.returned.append(work)

    def timeout_s(self, _: str) -> float:
        return 10.0

    def get(self, _: object) -> Any:
        return number()


def lane_of(spoken: Spoken, state: breaker.State, *messages: MessageQueued, strain: Strain | None = None) -> Lane:
    outcomes: Any = type("Outcomes", (), {"put": spoken.outcomes.append, "answer": spoken.answer_work})
    nobody, anybody = cast(Any, None), cast(Any, spoken)

    def clock() -> float:
        return NOW_S

    def spawn(coroutine: Any) -> None:
        coroutine.close()  # nothing leaves in these tests

    def go_on(_: str) -> None: ...

    departures = Departures(settings(), anybody, outcomes, nobody, spawn=spawn, clock=clock, crash_point=go_on)
    departures.circuit.own = state
    lane = Lane(
        NUMBER, ACCOUNT, Parts(settings(), anybody, nobody, anybody, outcomes, strain or Strain(), clock), departures
    )
    lane.lease = LEASE
    for work in works(messages or [queued(1), queued(2)]):
        work.waits_since_s = NOW_S
        lane.put(work)
    return lane


def refuse(_: Group) -> Decision:
    return Refuse("pair_rate", datetime.now(UTC) + timedelta(seconds=6))


def fail(_: Group) -> Decision:
    raise IntentsFailed


async def test_one_message_tries_a_provider_that_may_be_back_and_the_next_waits_for_its_answer() -> None:
    spoken = Spoken(lambda _: Intend(at_s=NOW_S, charged=False))
    lane = lane_of(spoken, breaker.Open(NOW_S))
    await lane._turn()
    assert [len(group.works) for group in spoken.groups] == [1]
    assert isinstance(lane.departures.circuit.own, breaker.HalfOpen)
    await lane._turn()
    assert (len(spoken.groups), lane.waiting, spoken.returned) == (1, 1, [])


@pytest.mark.parametrize("answer", [refuse, fail])
async def test_a_probe_without_an_intent_makes_room_for_the_next(
    answer: Answer, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def at_once(_: float) -> None: ...

    monkeypatch.setattr(asyncio, "sleep", at_once)
    spoken = Spoken(answer)
    lane = lane_of(spoken, breaker.Open(NOW_S))
    await lane._turn()
    assert lane.departures.circuit.own == breaker.Open(NOW_S)
    await lane._turn()
    assert [len(group.works) for group in spoken.groups] == [1, 1]


async def test_a_probe_that_grew_too_old_to_leave_makes_room_for_the_next() -> None:
    spoken = Spoken(refuse)
    lane = lane_of(spoken, breaker.HalfOpen(NOW_S + 75))
    lane.departures.add(number(), LEASE, works([queued(3)])[0], NOW_S - 60, 3600)
    await lane.departures._pace()
    assert [outcome.finding for outcome in spoken.outcomes] == [NeverLeft("intent_too_old", returned=True)]
    assert lane.departures.circuit.own == breaker.Open(NOW_S)


@pytest.mark.parametrize(
    ("late_s", "under_way", "priority", "sent"),
    [
        (0.0, 8, "campaign", True),
        (1.0, 8, "campaign", False),
        (1.0, 8, "person", True),
        (1.0, 7, "campaign", True),
    ],
)
async def test_a_loop_that_is_late_ends_what_was_begun_before_it_begins_more(
    late_s: float, under_way: int, priority: Literal["person", "campaign"], sent: bool
) -> None:
    strain = Strain()
    for _ in range(20):
        strain.beat(late_s)
    spoken = Spoken(lambda _: Intend(at_s=NOW_S, charged=False))
    lane = lane_of(spoken, breaker.CLOSED, queued(1, priority=priority), strain=strain)
    lane.departures.in_flight = under_way
    delay_s = await lane._turn()
    assert (len(spoken.groups) == 1) is sent
    assert sent or delay_s is not None


async def test_a_loop_that_is_late_takes_few_at_a_time_also_of_what_is_refused() -> None:
    strain = Strain()
    for _ in range(20):
        strain.beat(1.0)
    spoken = Spoken(refuse)
    lane = lane_of(spoken, breaker.CLOSED, *(queued(n) for n in range(40)), strain=strain)
    lane._transaction_s = lane._lookahead_s = 1.0
    await lane._turn()
    assert [len(group.works) for group in spoken.groups] == [2 * settings().in_flight_min]


def test_a_single_stall_is_no_strain_and_calm_returns() -> None:
    strain = Strain()
    after: list[bool] = []
    for late_s, beats in ((0.12, 1), (0.12, 10), (-0.001, 30)):
        for _ in range(beats):
            strain.beat(late_s)
        after.append(strain.is_high)
    assert after == [False, True, False]
