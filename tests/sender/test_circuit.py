"""The breakers of numbers and hosts as state machines, and the retry budget against a plain count."""

from uuid import UUID

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule

from sender.lane import breaker, budget
from sender.lane import host as rules
from sender.lane.breaker import Closed, HalfOpen, Open
from sender.lane.circuit import Circuit, Hosts
from sender.work import Instance
from sender_ledger import number, works
from sender_parts import queued
from sender_parts import settings as sender_settings

POLICY = breaker.Policy(failures=3, open_s=30.0, probe_s=75.0)
SPENT = budget.Policy()


class BreakerMachine(RuleBasedStateMachine):
    """A lane asks, its requests end in any order or never. The model: times of departures, failures in a row."""

    @initialize()
    def begin(self) -> None:
        self.state: breaker.State = breaker.CLOSED
        self.now_s = 0.0
        self.under_way = 0
        self.opened_s: float | None = None
        self.in_a_row = 0

    @rule(seconds=st.floats(0, 100))
    def wait(self, seconds: float) -> None:
        self.now_s += seconds

    @rule(wanted=st.integers(1, 5))
    def send(self, wanted: int) -> None:
        before = self.state
        self.state, permits = breaker.permit(self.state, self.now_s, POLICY)
        sent = wanted if permits is None else min(wanted, permits)
        if permits is not None:
            assert permits in (0, 1), "half open: a single probe"
            assert permits == 0 or isinstance(self.state, HalfOpen)
        if sent and self.opened_s is not None:
            assert self.now_s >= self.opened_s + POLICY.open_s, "nothing leaves before the time is over"
        if isinstance(before, HalfOpen) and sent:
            assert self.now_s >= before.until_s, "one probe at a time"
        self.under_way += sent

    @precondition(lambda self: self.under_way > 0)
    @rule(result=st.sampled_from(["success", "failure"]))
    def end(self, result: breaker.Result) -> None:
        before = self.state
        self.under_way -= 1
        self.state = breaker.note(before, result, self.now_s, POLICY)
        if isinstance(before, Closed):
            self.in_a_row = 0 if result == "success" else self.in_a_row + 1
            assert isinstance(self.state, Open) == (self.in_a_row >= POLICY.failures)
        if isinstance(self.state, Open) and not isinstance(before, Open):
            self.opened_s = self.now_s
        elif isinstance(self.state, Closed) and not isinstance(before, Closed):
            self.opened_s, self.in_a_row = None, 0
        if isinstance(before, Open):
            assert self.state == before, "answers from before the opening decide nothing"

    @precondition(lambda self: isinstance(self.state, HalfOpen) and self.under_way > 0)
    @rule()
    def probe_stays(self) -> None:
        self.under_way -= 1
        self.state = breaker.give_back(self.state, self.now_s)
        assert breaker.permit(self.state, self.now_s, POLICY)[1] == 1, "the next may try at once"

    @invariant()
    def always_ends(self) -> None:
        """Whatever happened, some message may go within the longest wait: no breaker is open for good."""
        longest_s = max(POLICY.open_s, POLICY.probe_s)
        assert breaker.permit(self.state, self.now_s + longest_s, POLICY)[1] != 0


TestBreaker = BreakerMachine.TestCase
TestBreaker.settings = settings(max_examples=150, stateful_step_count=40, deadline=None)

NUMBERS = [UUID(int=n) for n in (1, 2, 3)]
RESULTS = st.lists(st.tuples(st.sampled_from(NUMBERS), st.sampled_from(["success", "failure"])), max_size=60)


@given(RESULTS)
def test_a_host_opens_only_by_failures_in_a_row_of_several_numbers(results: list[tuple[UUID, breaker.Result]]) -> None:
    found, row = rules.NEW, list[UUID]()
    for who, result in results:
        found = rules.note(found, who, result, 0.0, POLICY, SPENT)
        row = [] if result == "success" else [*row, who]
        expected = len(row) >= POLICY.failures and len(set(row)) >= rules.NUMBERS_MIN
        assert isinstance(found.state, Open) == expected
        if expected:
            break


def test_one_number_alone_never_stops_its_neighbours_and_the_second_does_at_once() -> None:
    found = rules.NEW
    for _ in range(50):
        found = rules.note(found, NUMBERS[0], "failure", 5.0, POLICY, SPENT)
    assert isinstance(found.state, Closed)
    assert rules.note(found, NUMBERS[1], "failure", 5.0, POLICY, SPENT).state == Open(35.0)


EVENTS = st.lists(
    st.tuples(st.sampled_from(["first", "retry"]), st.booleans(), st.floats(0, 2)), min_size=1, max_size=200
)


@given(EVENTS)
def test_while_a_host_fails_retries_stay_a_share_of_its_traffic(events: list[tuple[str, bool, float]]) -> None:
    """Against a count of its own: in trouble, no more than the share of all first attempts and the reserve anew in
    every half-life's worth of fading."""
    traffic, now_s, firsts, retried = budget.QUIET, 0.0, 0, 0
    traffic = budget.note(traffic, now_s, SPENT, failed=True)
    for kind, _, pause_s in events:
        now_s += pause_s
        if kind == "first":
            traffic, firsts = budget.count_first(traffic, now_s, SPENT), firsts + 1
        elif (after := budget.try_again(traffic, now_s, SPENT)) is not None:
            traffic, retried = after, retried + 1
        else:
            continue
        traffic = budget.note(traffic, now_s, SPENT, failed=True)
        # Between two retries what fades of the count is at most ln 2 of it in a half-life.
        most = (SPENT.reserve + SPENT.share * firsts) * (1 + now_s / SPENT.half_life_s) + 1
        assert retried <= most


def test_a_storm_is_amplified_by_a_tenth() -> None:
    """Eighty messages a second for two minutes, a third of the answers failing, every failure wanting its retry."""
    traffic, sent, retried = budget.QUIET, 0, 0
    for tick in range(80 * 120):
        now_s = tick / 80
        traffic, sent = budget.count_first(traffic, now_s, SPENT), sent + 1
        traffic = budget.note(traffic, now_s, SPENT, failed=tick % 3 == 0)
        if tick % 3 == 0 and (after := budget.try_again(traffic, now_s, SPENT)) is not None:
            traffic, retried = after, retried + 1
    assert sent * 0.05 < retried <= sent * 0.1 + SPENT.reserve * (1 + 120 / SPENT.half_life_s)


def test_what_a_well_host_refuses_is_retried_freely() -> None:
    traffic = budget.QUIET
    for tick in range(100):
        traffic = budget.note(traffic, tick / 100, SPENT, failed=False)
    for tick in range(100):
        again = budget.try_again(traffic, 1 + tick / 100, SPENT)
        assert again is not None
        traffic = budget.note(again, 1 + tick / 100, SPENT, failed=False)


@pytest.mark.parametrize("seconds", [30.0, 3600.0])
def test_a_storm_that_is_over_is_forgotten(seconds: float) -> None:
    traffic = budget.QUIET
    for tick in range(40):
        traffic = budget.note(traffic, tick / 40, SPENT, failed=True)
    for _ in range(5):
        assert budget.try_again(traffic, 1 + seconds, SPENT) is not None


class Clock:
    now_s = 1000.0

    def __call__(self) -> float:
        return self.now_s


def circuits(count: int) -> tuple[Clock, list[tuple[Circuit, Instance]]]:
    """Lanes of numbers at one gateway."""
    chosen, clock = sender_settings(breaker_failures=10, host_failures=4), Clock()
    shared = Hosts(chosen)
    made = []
    for n in range(count):
        circuit, one = Circuit(chosen, shared, clock), number(UUID(int=n))
        circuit.meet(one)
        made.append((circuit, one))
    return clock, made


def test_a_gateway_that_is_down_stops_all_of_its_numbers_and_one_probe_lets_them_go_on() -> None:
    clock, [(first, one), (second, two), (third, _)] = circuits(3)
    for circuit, who in [(first, one), (second, two)] * 2:
        circuit.note(who, "failure")
    assert [circuit.permits(clock.now_s) for circuit in (first, second, third)] == [0, 0, 0]
    assert third.blocked_until(clock.now_s) == clock.now_s + 30
    clock.now_s += 30
    assert third.permits(clock.now_s) == 1
    third.take(clock.now_s)
    assert [first.permits(clock.now_s), first.awaits_probe(clock.now_s)] == [0, True]
    third.give_back()
    assert second.permits(clock.now_s) == 1
    second.take(clock.now_s)
    third.give_back()  # not its probe
    assert first.permits(clock.now_s) == 0
    second.note(two, "success")
    assert [circuit.permits(clock.now_s) for circuit in (first, second, third)] == [None, None, None]


def test_retries_wait_while_their_host_fails_and_first_attempts_and_people_go() -> None:
    _, [(circuit, one)] = circuits(1)
    for _ in range(3):
        circuit.note(one, "failure")
    retries = works([queued(n, attempt=2) for n in range(6)])
    people = works([queued(9, attempt=2, priority="person", campaign_id=None)])
    firsts = works([queued(10), queued(11)])
    go, later = circuit.within_budget([*retries, *people, *firsts])
    assert (go, later) == ([*retries[:3], *people, *firsts], retries[3:])
