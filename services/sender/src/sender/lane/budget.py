"""The retry budget of a host: while it is in trouble, retries are at most a share of what goes there. No I/O, no clock.

Counts fade by half in every `half_life_s`, so that "lately" needs neither a window's edge nor a list of times. A host
whose answers are fine is not budgeted: what is retried then was refused for the message's or the number's own sake.
"""

from typing import NamedTuple


class Policy(NamedTuple):
    """`share`: retries per first attempt. `reserve`: retries lately that are free, so that a quiet host is tried again.
    `trouble`: the share of failures lately above which the budget counts."""

    share: float = 0.1
    reserve: float = 3.0
    trouble: float = 0.05
    half_life_s: float = 5.0


class Traffic(NamedTuple):
    """What went to the host lately, faded to `at_s` (monotonic). `failed`: out of reach, out of order, no answer."""

    firsts: float = 0.0
    retries: float = 0.0
    failed: float = 0.0
    answered: float = 0.0
    at_s: float = 0.0


QUIET = Traffic()


def count_first(traffic: Traffic, now_s: float, policy: Policy) -> Traffic:
    """An attempt that is no retry."""
    faded = _faded(traffic, now_s, policy)
    return faded._replace(firsts=faded.firsts + 1)


def note(traffic: Traffic, now_s: float, policy: Policy, *, failed: bool) -> Traffic:
    """How an attempt ended."""
    faded = _faded(traffic, now_s, policy)
    if failed:
        return faded._replace(failed=faded.failed + 1)
    return faded._replace(answered=faded.answered + 1)


def is_troubled(traffic: Traffic, policy: Policy) -> bool:
    """Fading changes both counts alike: whether it is in trouble depends on what came lately, not on the moment. With
    less than half a failure left it is forgotten."""
    return traffic.failed > max(0.5, policy.trouble * (traffic.failed + traffic.answered))


def try_again(traffic: Traffic, now_s: float, policy: Policy) -> Traffic | None:
    """One retry taken from the budget; None: there is none left, it is to be made later."""
    faded = _faded(traffic, now_s, policy)
    if is_troubled(faded, policy) and faded.retries + 1 > policy.reserve + policy.share * faded.firsts:
        return None
    return faded._replace(retries=faded.retries + 1)


def _faded(traffic: Traffic, now_s: float, policy: Policy) -> Traffic:
    if now_s <= traffic.at_s:
        return traffic
    left = 0.5 ** ((now_s - traffic.at_s) / policy.half_life_s)
    firsts, retries, failed, answered, _ = traffic
    return Traffic(firsts * left, retries * left, failed * left, answered * left, now_s)
