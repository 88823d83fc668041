"""The throughput limiter: GCRA sized so that no sliding window ever holds more than the limit. No I/O, no clock.

GCRA with interval T and tolerance tau, whose departures reach the provider with a jitter of at most J, lets at most
floor((W + tau + J) / T) + 1 messages into any window W. So a limit of N per W asks for (W + tau + J) / T < N: the
rate is never set to the limit itself. Times are seconds of one clock, which one is the caller's choice.
"""

from dataclasses import dataclass
from math import ceil, floor
from typing import NamedTuple

# A share of the limit is given away as tolerance, so that a late timer is made up for within the limit;
# more than twenty messages at once would only add jitter at the provider.
TOLERANCE_SHARE = 0.03
TOLERANCE_MAX = 20
# Inbound messages: below so many a second they are noise; what was measured lately is a little behind; and so much of
# the limit is ours in any case.
NOTICED_PER_S = 0.5
INBOUND_MARGIN = 1.2
LEFT_SHARE = 0.2
# Keeps (W + tau + J) / T strictly below N in floating point too.
SLACK = 1e-3
# Intents that a killed process had committed and not sent end uncertain: sixteen at most, and so many only where the
# database is slow (a transaction of 100 ms at 80 a second); more only where a number is faster still.
AHEAD_MAX = 16
AHEAD_MAX_S = 0.1
AGAIN_MIN_S = 0.005
# Of the jitter that pacing allows for, how much a request may be written too late.
LATE_SHARE = 0.5


@dataclass(frozen=True, slots=True)
class Rate:
    """`interval_s` between messages in the long run; `tolerance_s` by which one may come early after a gap."""

    interval_s: float
    tolerance_s: float

    @property
    def per_second(self) -> float:
        return 1.0 / self.interval_s


class Taken(NamedTuple):
    """The message may leave at `at_s`; `tat_s` is the limiter's new state."""

    tat_s: float
    at_s: float


class Refused(NamedTuple):
    """Nothing may leave before `until_s`; the state stays as it was."""

    until_s: float


def size_rate(limit_per_s: float, target_per_s: float, burst: float, jitter_s: float) -> Rate:
    """The limit always wins; `target_per_s` and `burst` (messages at once) are caps within it. All positive."""
    window_s, count = (1.0, float(floor(limit_per_s))) if limit_per_s >= 1 else (1.0 / limit_per_s, 1.0)
    reserve = min(TOLERANCE_MAX, TOLERANCE_SHARE * count, max(0.0, burst - 1), count - 1)
    per_second = min(target_per_s, (count - reserve - SLACK) / (window_s + jitter_s))
    room = count - SLACK - per_second * (window_s + jitter_s)
    extra = min(max(0.0, burst - 1), room)
    return Rate(interval_s=1.0 / per_second, tolerance_s=extra / per_second)


def leave_room(limit_per_s: float, inbound_per_s: float) -> float:
    """What is left of a limit that counts inbound messages too: in steps of a message a second, so that it seldom
    changes; a flood from outside never silences the number."""
    if inbound_per_s < NOTICED_PER_S:
        return limit_per_s
    return max(limit_per_s * LEFT_SHARE, limit_per_s - ceil(inbound_per_s * INBOUND_MARGIN))


def size_pair_rate(per_minute: float, burst: int, jitter_s: float) -> Rate:
    """To one recipient: `burst` at once, then one each 60 / `per_minute` seconds until that is paid back."""
    interval_s = 60.0 / per_minute
    return Rate(interval_s=interval_s, tolerance_s=max(0.0, (burst - 1) * interval_s - jitter_s))


def take(tat_s: float, now_s: float, rate: Rate, horizon_s: float = 0.0) -> Taken | Refused:
    """One message: now, or at the earliest time within `horizon_s` from now."""
    at_s = max(now_s, tat_s - rate.tolerance_s)
    if at_s - now_s > horizon_s:
        return Refused(until_s=at_s)
    return Taken(tat_s=max(at_s, tat_s) + rate.interval_s, at_s=at_s)


def latest_s(taken: Taken, rate: Rate, jitter_s: float, put_back_s: float) -> float:
    """Until when this message may leave without moving those behind it: a turn that came early within the tolerance
    uses less of it by leaving later, and a part of `jitter_s` is allowed for: the rest is left to the way.
    `put_back_s`: see `put_back`; what is added to it from now on counts for this message as well."""
    return taken.tat_s - rate.interval_s + jitter_s * LATE_SHARE - put_back_s


def put_back(latest_s: float, left_s: float, put_back_s: float) -> float:
    """By how much the limiter's state moves when a message leaves: `put_back_s` is the sum of all that it was moved by.

    The window that begins with a late message has those behind it nearer than they were paced. So the state becomes
    at least what it were if the message had taken its turn when it left.
    """
    return max(0.0, left_s - latest_s - put_back_s)


def count_ready(tat_s: float, now_s: float, rate: Rate, horizon_s: float, most: int) -> int:
    """How many messages, at most `most`, could leave within the horizon."""
    early_s = max(0.0, max(now_s, tat_s) - (now_s + rate.tolerance_s))
    if early_s > horizon_s:
        return 0
    start_s = max(tat_s, now_s)
    return min(most, 1 + floor((now_s + horizon_s + rate.tolerance_s - start_s) / rate.interval_s))


def count_ahead(rate: Rate, transaction_s: float) -> int:
    """How many committed intents of a lane may wait for their departure.

    Those that leave while an intent transaction of this duration runs, twice, because the next ones are asked for
    while they leave, and one for a late timer.
    """
    during = ceil(transaction_s * rate.per_second)
    return min(2 * during + 1, max(AHEAD_MAX, ceil(AHEAD_MAX_S * rate.per_second)))


def until_next_group(due_s: float, waiting: int, rate: Rate) -> float | None:
    """Seconds until a lane asks for its next intents, None = not by time. `due_s`: until only one transaction's worth
    of those that wait is left. Half of them leave first, so that the next group is not of one, and no more than that:
    the next transaction may be slower than the last ones."""
    if not waiting:
        return due_s if due_s > 0 else None
    half_s = max(AGAIN_MIN_S, (waiting + 1) // 2 * rate.interval_s)
    return min(due_s, half_s) if due_s > 0 else half_s


def emptied(now_s: float, rate: Rate) -> float:
    """The state right after the largest burst: what a new owner starts from, because the last owner's departures
    may have been later than the state it stored."""
    return now_s + rate.tolerance_s + rate.interval_s


def replay(sent_at_s: list[float], rate: Rate) -> float:
    """The state after these departures (ascending), for a limiter whose memory was lost."""
    tat_s = 0.0
    for at_s in sent_at_s:
        tat_s = max(tat_s, at_s) + rate.interval_s
    return tat_s
