"""A circuit breaker per instance: consecutive failures open it, a single probe decides. No I/O, no clock."""

from dataclasses import dataclass
from typing import Literal, assert_never

Result = Literal["success", "failure"]


@dataclass(frozen=True, slots=True)
class Closed:
    failures: int = 0


@dataclass(frozen=True, slots=True)
class Open:
    until_s: float


@dataclass(frozen=True, slots=True)
class HalfOpen:
    """One probe is under way; `until_s`: it is given up then, and the next may go."""

    until_s: float


State = Closed | Open | HalfOpen
CLOSED = Closed()


@dataclass(frozen=True, slots=True)
class Policy:
    """Opens after `failures` in a row, for `open_s`; a probe without a result is given up after `probe_s`."""

    failures: int = 10
    open_s: float = 30.0
    probe_s: float = 75.0


def permit(state: State, now_s: float, policy: Policy) -> tuple[State, int | None]:
    """How many messages may go now: None = as many as one likes, else 0 or 1 (the probe)."""
    match state:
        case Closed():
            return state, None
        case Open(until_s=until_s) | HalfOpen(until_s=until_s):
            if now_s < until_s:
                return state, 0
            return HalfOpen(until_s=now_s + policy.probe_s), 1
        case _:
            assert_never(state)


def note(state: State, result: Result, now_s: float, policy: Policy) -> State:
    """A result of a request; one that comes while open is of before the opening and changes nothing."""
    match state, result:
        case Closed(), "success":
            return CLOSED if state.failures else state
        case Closed(failures=failures), "failure":
            return Open(now_s + policy.open_s) if failures + 1 >= policy.failures else Closed(failures + 1)
        case Open(), _:
            return state
        case HalfOpen(), "success":
            return CLOSED
        case HalfOpen(), _:
            return Open(now_s + policy.open_s)
        case _:
            raise AssertionError(state)


def give_back(state: State, now_s: float) -> State:
    """The probe did not leave, so it says nothing about the provider: the next may go at once."""
    return Open(now_s) if isinstance(state, HalfOpen) else state


def reopens_at(state: State) -> float | None:
    """When the next message may go, None if now."""
    match state:
        case Closed():
            return None
        case Open(until_s=until_s) | HalfOpen(until_s=until_s):
            return until_s
        case _:
            assert_never(state)
