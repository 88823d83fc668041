"""When a campaign will end under its policy and the instances' rates, if nothing else happens. Pure."""

from collections.abc import Iterable
from dataclasses import dataclass
from datetime import datetime, timedelta

from contracts.campaigns import SendingPolicy
from scheduler.lane import hours
from scheduler.lane.pacing import combine

_WINDOWS_MAX = 1000
# Between release and outcome, where messages go one by one.
_ANSWER_S = 0.5


@dataclass(frozen=True, slots=True)
class Load:
    """What one lane still has to send of the campaign, at `rate` messages a second."""

    messages: int
    rate: float


def sending_s(policy: SendingPolicy, load: Load) -> float:
    """Seconds of open time that a lane needs, on average."""
    bounds = combine([policy])
    each_s = 1 / load.rate
    if bounds.max_delay_s > 0:
        each_s = max(each_s, (bounds.min_delay_s + bounds.max_delay_s) / 2 + _ANSWER_S)
    rests = (load.messages - 1) // bounds.pause_after if bounds.pause_after and load.messages else 0
    return load.messages * each_s + rests * bounds.pause_s


def estimate_end(
    policy: SendingPolicy, loads: Iterable[Load], now: datetime, *, used_today: int = 0
) -> datetime | None:
    """None if it never ends: no window ever opens. At most the end of the validity."""
    loads = list(loads)
    ends = [_after_open_time(policy, sending_s(policy, load), now) for load in loads if load.messages] or [now]
    if any(end is None for end in ends):
        return None
    end = max(end for end in ends if end is not None)
    if policy.daily_limit:
        further_days = (used_today + sum(load.messages for load in loads) - 1) // policy.daily_limit
        if further_days > 0:
            end = max(end, hours.next_day(policy, now) + timedelta(days=further_days - 1))
    return end if policy.valid_until is None else min(end, max(now, policy.valid_until))


def _after_open_time(policy: SendingPolicy, needed_s: float, now: datetime) -> datetime | None:
    """The instant at which `needed_s` of allowed hours have passed."""
    for _ in range(_WINDOWS_MAX):
        change = hours.next_change(policy, now)
        if hours.is_open(policy, now):
            if change is None or now + timedelta(seconds=needed_s) <= change:
                return now + timedelta(seconds=needed_s)
            needed_s -= (change - now).total_seconds()
        if change is None:
            return None
        now = change
    return now
