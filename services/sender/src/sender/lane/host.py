"""What the numbers of one account learn together about the host that they send through. No I/O, no clock.

A gateway that is down would otherwise cost each of its numbers its own row of failures, uncertain ones among them. It
takes the failures of at least two numbers: what fails for one alone is that number's trouble.
"""

from typing import NamedTuple
from uuid import UUID

from sender.lane import breaker, budget

NUMBERS_MIN = 2


class Host(NamedTuple):
    """`failing`: numbers that failed since the last success, no more than matter."""

    state: breaker.State = breaker.CLOSED
    failing: frozenset[UUID] = frozenset()
    traffic: budget.Traffic = budget.QUIET


NEW = Host()


def note(
    host: Host, number: UUID, result: breaker.Result, now_s: float, policy: breaker.Policy, spent: budget.Policy
) -> Host:
    """A result of a request of one number."""
    traffic = budget.note(host.traffic, now_s, spent, failed=result == "failure")
    if result == "success":
        return Host(breaker.note(host.state, result, now_s, policy), frozenset(), traffic)
    failing = host.failing if len(host.failing) >= NUMBERS_MIN else host.failing | {number}
    after = breaker.note(host.state, result, now_s, policy)
    if isinstance(host.state, breaker.Closed) and isinstance(after, breaker.Open) and len(failing) < NUMBERS_MIN:
        after = host.state  # one failure short of opening, until another number fails too
    return Host(after, failing, traffic)
