"""When a number is stopped for what is heard of it, and for how long. No I/O, no clock.

A *rest* ends by itself; each one soon after another is longer. A *stop* stands until a person acts.
"""

from collections.abc import Iterable
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Literal, NamedTuple

from providers.failures import FAILURES, Failure

ERROR_SHARE = "error_share"
# Failures that tell nothing but that the number's messages are refused.
UNEXPLAINED = frozenset({"cause_lost", "unknown_code", "operation_refused", "spam_limit", "shadow_ban"})


@dataclass(frozen=True, slots=True)
class Policy:
    """`rests_s`: the first rest, the second within `forget_s` of the one before, and so on; the last one repeats.

    A number rests when within `window_s` at least `errors_least` of its messages ended in an unexplained error and
    these are `errors_share` or more of those that were reported.
    """

    rests_s: tuple[float, ...] = (3600.0, 4 * 3600.0, 12 * 3600.0, 24 * 3600.0)
    forget_s: float = 7 * 24 * 3600.0
    errors_share: float = 0.3
    errors_least: int = 10
    window_s: float = 1800.0


class Rests(NamedTuple):
    """How often the number had to rest, and until when it rests or rested last."""

    number: int = 0
    until: datetime | None = None


class Reports(NamedTuple):
    """What was reported of the number's messages within the window; `answers`: messages that it received."""

    sent: int = 0
    delivered: int = 0
    errors: int = 0
    answers: int = 0


def what_follows(failure: Failure | None) -> Literal["rest", "stop"] | None:
    """What a failure means for the number, beyond its message."""
    if failure is None or failure.stops not in ("instance", "host", "portfolio"):
        return None
    match failure.action:
        case "pause_instance":
            return "rest"
        case "disable_instance" | "disable_host":
            return "stop"
        case _:
            return None


def rest(
    before: Rests,
    now: datetime,
    policy: Policy,
    at_least: datetime | None = None,
    happened_at: datetime | None = None,
) -> Rests | None:
    """The rest that begins now, None while one is under way that is long enough. `at_least`: the provider's own
    word of its end. What happened before the last rest ended, and is reported late or again, begins no other."""
    if before.until is not None and happened_at is not None and happened_at < before.until <= now:
        return None
    if before.until is not None and now < before.until:
        if at_least is None or at_least <= before.until:
            return None
        return Rests(before.number, at_least)
    recent = before.until is not None and now - before.until < timedelta(seconds=policy.forget_s)
    count = before.number + 1 if recent else 1
    until = now + timedelta(seconds=policy.rests_s[min(count, len(policy.rests_s)) - 1])
    return Rests(count, until if at_least is None else max(until, at_least))


def restrict(before: Rests, until: datetime) -> Rests:
    """A rest whose end the provider set: no strike of the number's own. One under way that lasts longer stays."""
    return Rests(before.number, until if before.until is None else max(before.until, until))


def is_refused(reports: Reports, policy: Policy) -> bool:
    """Whether so many messages end in errors that going on would harm the number.

    A message that was delivered was reported as sent as well, or that report was lost: the larger counts.
    """
    if reports.errors < policy.errors_least:
        return False
    return reports.errors >= policy.errors_share * (reports.errors + max(reports.sent, reports.delivered))


def worst(failures: Iterable[str]) -> Failure | None:
    """Of what was reported at one moment, the failure that says most about the number: a stop before a rest."""
    known = [failure for name in failures if (failure := FAILURES.get(name)) is not None]
    rank = {"stop": 0, "rest": 1}
    telling = [failure for failure in known if what_follows(failure) is not None]
    return min(telling, key=lambda one: rank[what_follows(one) or "rest"], default=None)
