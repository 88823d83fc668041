"""The circuit breaker as a table."""

from sender.lane.breaker import CLOSED, Closed, HalfOpen, Open, Policy, give_back, note, permit, reopens_at

POLICY = Policy(failures=3, open_s=30.0, probe_s=75.0)


def test_failures_in_a_row_open_it_and_a_success_between_them_does_not() -> None:
    state = note(note(CLOSED, "failure", 0, POLICY), "failure", 1, POLICY)
    assert state == Closed(2)
    assert note(note(state, "success", 2, POLICY), "failure", 3, POLICY) == Closed(1)
    assert note(state, "failure", 2, POLICY) == Open(32.0)


def test_nothing_goes_while_it_is_open_then_one_probe() -> None:
    assert permit(Open(32.0), 31.9, POLICY) == (Open(32.0), 0)
    probing, permits = permit(Open(32.0), 32.0, POLICY)
    assert (probing, permits) == (HalfOpen(107.0), 1)
    assert permit(probing, 33.0, POLICY) == (probing, 0)


def test_the_probe_decides() -> None:
    assert note(HalfOpen(107.0), "success", 40, POLICY) == CLOSED
    assert note(HalfOpen(107.0), "failure", 40, POLICY) == Open(70.0)


def test_a_probe_that_never_ended_is_followed_by_another() -> None:
    assert permit(HalfOpen(107.0), 107.0, POLICY) == (HalfOpen(182.0), 1)


def test_a_probe_that_did_not_leave_makes_room_for_the_next_at_once() -> None:
    assert give_back(HalfOpen(107.0), 40) == Open(40)
    assert permit(Open(40), 40, POLICY) == (HalfOpen(115.0), 1)
    assert [give_back(state, 40) for state in (CLOSED, Closed(2), Open(50.0))] == [CLOSED, Closed(2), Open(50.0)]


def test_answers_to_requests_from_before_the_opening_change_nothing() -> None:
    assert note(Open(32.0), "success", 10, POLICY) == Open(32.0)
    assert note(Open(32.0), "failure", 10, POLICY) == Open(32.0)


def test_a_closed_breaker_lets_everything_through() -> None:
    assert permit(Closed(2), 5, POLICY) == (Closed(2), None)
    assert [reopens_at(state) for state in (CLOSED, Open(3.0), HalfOpen(4.0))] == [None, 3.0, 4.0]
