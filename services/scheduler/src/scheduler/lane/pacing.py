"""The pacing rule: what holds a lane now and until when, or how many messages may leave it. Pure.

The engine and the explanation to people ask the same functions, so they cannot disagree. Times are instants of the
database's clock; the random draw of a delay is part of the lane's state, so that asking twice answers the same.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Literal

from contracts.campaigns import SendingPolicy
from scheduler.lane import hours

WaitReason = Literal[
    "campaign_not_running",
    "held",
    "outside_hours",
    "outside_weekdays",
    "expired",
    "daily_limit",
    "instance_unknown",
    "instance_stopped",
    "instance_blocked",
    "warm_up",
    "credit",
    "delay",
    "rest",
]
_ENDLESS = 1_000_000_000


@dataclass(frozen=True, slots=True)
class Wait:
    """Why nothing leaves. `until` None: depends on an event, not on time. `detail`: the cause's own name."""

    reason: WaitReason
    until: datetime | None = None
    detail: str | None = None


@dataclass(frozen=True, slots=True)
class Lane:
    """One instance's line. `draw` in [0, 1) was taken at the last outcome and places the delay between its bounds.

    `in_flight`: released without an outcome. `rate`: messages a second that the instance may send now.
    `warm_allowance`: messages of campaigns in the present day of its warm-up, which ends at `warm_until`.
    """

    rate: float
    in_flight: int = 0
    sent_since_rest: int = 0
    last_outcome_at: datetime | None = None
    draw: float = 0.0
    known: bool = True
    usable: bool = True
    stopped_by: str | None = None
    held: bool = False
    held_by: str | None = None
    blocked_until: datetime | None = None
    blocked_by: str | None = None
    warm_allowance: int | None = None
    warm_used: int = 0
    warm_until: datetime | None = None

    @property
    def warm_left(self) -> int:
        return _ENDLESS if self.warm_allowance is None else max(0, self.warm_allowance - self.warm_used)


@dataclass(frozen=True, slots=True)
class Run:
    """A campaign's run as far as it decides about releasing. `used_today`: releases of its present day.

    `status` and `held_by` (of the lane as well) name the cause to people; they decide nothing.
    """

    policy: SendingPolicy
    running: bool = True
    held: bool = False
    status: str | None = None
    held_by: str | None = None
    used_today: int = 0


@dataclass(frozen=True, slots=True)
class Bounds:
    """The delays and rests that hold for a lane: of campaigns that share it, the larger ones."""

    min_delay_s: float
    max_delay_s: float
    pause_after: int | None
    pause_s: float


def combine(policies: Sequence[SendingPolicy]) -> Bounds:
    rests = [policy for policy in policies if policy.pause_after_messages is not None]
    return Bounds(
        min_delay_s=max((policy.min_delay_s for policy in policies), default=0.0),
        max_delay_s=max((policy.max_delay_s for policy in policies), default=0.0),
        pause_after=min((policy.pause_after_messages or 1 for policy in rests), default=None),
        pause_s=max((policy.pause_duration_s for policy in rests), default=0.0),
    )


def credit(rate: float, horizon_s: float) -> int:
    """How many released messages without an outcome an instance may have."""
    return max(1, math.floor(rate * horizon_s))


def run_waits(run: Run, now: datetime) -> list[Wait]:
    """Everything that holds a campaign, whatever lane it is in."""
    waits: list[Wait] = []
    policy = run.policy
    if not run.running:
        waits.append(Wait("campaign_not_running", detail=run.status))
    if run.held:
        waits.append(Wait("held", detail=run.held_by))
    if policy.valid_until is not None and now >= policy.valid_until:
        waits.append(Wait("expired"))
    if not hours.is_open(policy, now):
        closed: WaitReason = "outside_hours" if hours.is_day(policy, now) else "outside_weekdays"
        waits.append(Wait(closed, hours.next_change(policy, now)))
    if policy.daily_limit is not None and run.used_today >= policy.daily_limit:
        waits.append(Wait("daily_limit", hours.next_day(policy, now)))
    return waits


def lane_waits(lane: Lane, bounds: Bounds, now: datetime, horizon_s: float) -> list[Wait]:
    """Everything that holds a lane, whichever campaign is next."""
    waits: list[Wait] = []
    if not lane.known:
        waits.append(Wait("instance_unknown"))
    elif not lane.usable:
        waits.append(Wait("instance_stopped", detail=lane.stopped_by))
    if lane.held:
        waits.append(Wait("held", detail=lane.held_by))
    if lane.blocked_until is not None and now < lane.blocked_until:
        waits.append(Wait("instance_blocked", lane.blocked_until, lane.blocked_by))
    if lane.warm_left <= 0:
        # Once the day is over, its sender tells the next one's allowance.
        waits.append(Wait("warm_up", lane.warm_until if lane.warm_until and now < lane.warm_until else None))
    if _left_before_rest(lane, bounds, now) <= 0:
        # Until the last outcome is in, nobody knows when the rest begins.
        waits.append(Wait("rest", None if lane.in_flight else _rest_ends(lane, bounds)))
    delay = _delay_ends(lane, bounds)
    if delay is not None and now < delay:
        waits.append(Wait("delay", delay))
    if _credit_left(lane, bounds, horizon_s) <= 0:
        waits.append(Wait("credit"))
    return waits


def next_release(lane: Lane, bounds: Bounds, now: datetime, horizon_s: float) -> int | Wait:
    """How many messages may leave the lane now (at least 1), or the wait that ends last."""
    waits = lane_waits(lane, bounds, now, horizon_s)
    if waits:
        return longest(waits)
    return min(_credit_left(lane, bounds, horizon_s), _left_before_rest(lane, bounds, now), lane.warm_left)


def longest(waits: Sequence[Wait]) -> Wait:
    """The one to wait for: one that time cannot end, else the one that ends last. `waits` is not empty."""
    for wait in waits:
        if wait.until is None:
            return wait
    return max(waits, key=lambda wait: wait.until.timestamp() if wait.until else 0.0)


def rested(lane: Lane, bounds: Bounds, now: datetime) -> bool:
    """Whether the lane has stood still for a whole rest: its count starts again."""
    if lane.last_outcome_at is None or bounds.pause_after is None or lane.in_flight > 0:
        return False
    return now - lane.last_outcome_at >= timedelta(seconds=bounds.pause_s)


def _is_paced(bounds: Bounds) -> bool:
    return bounds.max_delay_s > 0 or bounds.min_delay_s > 0


def _credit_left(lane: Lane, bounds: Bounds, horizon_s: float) -> int:
    """With delays one at a time, because the delay counts from the outcome; without, the rate alone governs."""
    return (1 if _is_paced(bounds) else credit(lane.rate, horizon_s)) - lane.in_flight


def _left_before_rest(lane: Lane, bounds: Bounds, now: datetime) -> int:
    if bounds.pause_after is None:
        return _ENDLESS
    sent = 0 if rested(lane, bounds, now) else lane.sent_since_rest
    return bounds.pause_after - sent - lane.in_flight


def _delay_ends(lane: Lane, bounds: Bounds) -> datetime | None:
    if lane.last_outcome_at is None or not _is_paced(bounds):
        return None
    spread_s = max(0.0, bounds.max_delay_s - bounds.min_delay_s)
    return lane.last_outcome_at + timedelta(seconds=bounds.min_delay_s + lane.draw * spread_s)


def _rest_ends(lane: Lane, bounds: Bounds) -> datetime | None:
    """None if nothing was sent yet: then no rest can be due."""
    if lane.last_outcome_at is None:
        return None
    return lane.last_outcome_at + timedelta(seconds=bounds.pause_s)
