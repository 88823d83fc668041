"""The warm-up of a new number: a day's allowance that grows only while all signs are good. No I/O, no clock.

A day is 24 hours from the moment that the plan began. The plan itself is the person's (WarmUpPlan).
"""

import math
from dataclasses import dataclass, replace
from datetime import datetime, timedelta

from contracts.instances import WarmUpPlan

UNUSED = "unused"
UNDELIVERED = "delivery_share"
UNANSWERED = "answer_share"
# What Meta says of a number's quality that is no good sign.
POOR = frozenset({"RED", "YELLOW", "FLAGGED"})


@dataclass(frozen=True, slots=True)
class Policy:
    """`cut`: factor of a bad day. Shares are of what was reported as sent; they count from `least` of these on.

    A day of which less than `used_share` of the allowance was used proves nothing, so it is repeated.
    """

    day_s: float = 24 * 3600.0
    cut: float = 0.5
    delivered_share: float = 0.7
    answered_share: float = 0.01
    least: int = 20
    used_share: float = 0.5


@dataclass(frozen=True, slots=True)
class Day:
    """The present day of a number's warm-up. `slowed_by`: the bad sign of this day, or of the one before."""

    day: int
    allowance: int
    begins_at: datetime
    slowed_by: str | None = None
    cut: bool = False


@dataclass(frozen=True, slots=True)
class Seen:
    """What was reported within the day. `answers`: messages from people."""

    sent: int = 0
    delivered: int = 0
    answers: int = 0


def begin(plan: WarmUpPlan, now: datetime) -> Day:
    return Day(1, max(1, min(plan.first_day, plan.full_per_day)), now)


def slow(plan: WarmUpPlan, today: Day, sign: str, policy: Policy) -> Day:
    """At a bad sign, at once; further ones of the same day change nothing."""
    if today.cut:
        return today
    return replace(today, allowance=_cut(plan, today.allowance, policy), slowed_by=sign, cut=True)


def judge(today: Day, seen: Seen, policy: Policy) -> tuple[str | None, bool]:
    """At the end of a day: the sign that keeps the next from growing, and whether it is cut for it."""
    sent = max(seen.sent, seen.delivered)
    if today.cut:
        return today.slowed_by, False
    if sent < policy.used_share * today.allowance:
        return UNUSED, False
    if sent >= policy.least and seen.delivered < policy.delivered_share * sent:
        return UNDELIVERED, True
    if sent >= policy.least and seen.answers < policy.answered_share * sent:
        return UNANSWERED, False
    return None, False


def next_day(plan: WarmUpPlan, today: Day, seen: Seen, now: datetime, policy: Policy) -> Day | None:
    """None: the number is warm. Days that passed while nobody looked are none of the plan's."""
    sign, cut = judge(today, seen, policy)
    begins_at = ends_at(today, policy)
    if now - begins_at >= timedelta(seconds=policy.day_s):
        begins_at = now
    if sign is not None:
        allowance = _cut(plan, today.allowance, policy) if cut else min(today.allowance, plan.full_per_day)
        return Day(today.day + 1, allowance, begins_at, sign)
    if today.allowance >= plan.full_per_day:
        return None
    grown = max(today.allowance + 1, math.floor(today.allowance * plan.growth))
    return Day(today.day + 1, min(grown, plan.full_per_day), begins_at)


def ends_at(today: Day, policy: Policy) -> datetime:
    return today.begins_at + timedelta(seconds=policy.day_s)


def _cut(plan: WarmUpPlan, allowance: int, policy: Policy) -> int:
    """Never below the first day's, which is what a number without any history may send."""
    return max(min(plan.first_day, allowance), math.floor(allowance * policy.cut), 1)
