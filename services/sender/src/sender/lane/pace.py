"""The adaptive rate: a refusal for rate slows the number by a factor, time brings it back. No I/O, no clock.

What the provider accepts is found by trying: below the rate that it refused last the number climbs quickly, from
there on slowly, until that refusal is long past. The way back depends on time alone, so what is stored at a refusal
says for every later moment how fast the number may go, whoever owns it by then.
Rates are messages a second, times seconds of the database's clock.
"""

from dataclasses import dataclass
from math import inf
from typing import NamedTuple

from sender.lane.throttle import Rate


@dataclass(frozen=True, slots=True)
class Policy:
    """`decrease`: factor at a refusal. `climb`, `probe`: share of the full rate that a second brings back, below and
    above `knee` times the refused rate. Refusals within `same_s` are one fact, a refusal is remembered `memory_s`.
    """

    decrease: float = 0.7
    climb: float = 0.01
    probe: float = 0.001
    knee: float = 0.95
    same_s: float = 2.0
    memory_s: float = 600.0
    floor: float = 0.02


class Pace(NamedTuple):
    """`cap` was the most at `at_s`, right after the provider had refused `refused`."""

    cap: float = inf
    refused: float = inf
    at_s: float = -inf


FREE = Pace()
DEFAULT = Policy()


def allowed(pace: Pace, full: float, now_s: float, policy: Policy = DEFAULT) -> float:
    """How fast a number whose full rate is `full` may go now."""
    if pace.cap >= full:
        return full
    slow_s = max(0.0, min(now_s - pace.at_s, policy.memory_s))
    quick_s = max(0.0, now_s - pace.at_s - policy.memory_s)
    to_knee_s = _quick_s(pace, full, policy)
    climbed = min(slow_s, to_knee_s) * policy.climb + max(0.0, slow_s - to_knee_s) * policy.probe
    return min(full, pace.cap + full * (climbed + quick_s * policy.climb))


def slow_down(pace: Pace, full: float, now_s: float, policy: Policy = DEFAULT) -> Pace:
    """After a refusal for rate; the same pace again where it is of requests that had left already."""
    if now_s - pace.at_s < policy.same_s:
        return pace
    refused = allowed(pace, full, now_s, policy)
    return Pace(max(full * policy.floor, refused * policy.decrease), refused, now_s)


def free_at(pace: Pace, full: float, policy: Policy = DEFAULT) -> float:
    """When the full rate is reached again unless the provider refuses once more."""
    lacking = full - pace.cap
    if lacking <= 0:
        return pace.at_s
    to_knee_s = min(_quick_s(pace, full, policy), policy.memory_s)
    quick, slow = full * policy.climb, full * policy.probe
    if lacking <= to_knee_s * quick:
        return pace.at_s + lacking / quick
    lacking -= to_knee_s * quick
    slow_s = policy.memory_s - to_knee_s
    if lacking <= slow_s * slow:
        return pace.at_s + to_knee_s + lacking / slow
    return pace.at_s + policy.memory_s + (lacking - slow_s * slow) / quick


def slowed(rate: Rate, per_second: float) -> Rate:
    """The number's rate brought down to so many a second; what may come early shrinks with it."""
    share = min(1.0, per_second / rate.per_second)
    if share >= 1.0:
        return rate
    return Rate(interval_s=rate.interval_s / share, tolerance_s=rate.tolerance_s)


def _quick_s(pace: Pace, full: float, policy: Policy) -> float:
    """For how long the quick climb leads towards the refused rate."""
    return max(0.0, pace.refused * policy.knee - pace.cap) / (full * policy.climb)
