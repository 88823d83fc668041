"""The messaging limit: unique recipients within a moving 24 hours, counted exactly. No I/O, no clock."""

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import NamedTuple

# A send is counted from its intent, the provider counts from its arrival, up to an intent's age plus a time-out later.
WINDOW_S = 24 * 3600 + 90


@dataclass(frozen=True, slots=True)
class Quota:
    """`used`: recipients whose last send lies within the window. `seen`: last send (seconds) of those at hand.

    `oldest_s`: the earliest last send within the window, None if there is none. `exempt`: recipients with an open
    service window, who are not counted. `limit` None = no limit.
    """

    limit: int | None
    used: int = 0
    oldest_s: float | None = None
    seen: Mapping[str, float] = field(default_factory=dict)
    exempt: frozenset[str] = frozenset()


class Charged(NamedTuple):
    """The recipient may be written to; `new` if that used up one more of the limit, `counted` if it counts at all."""

    quota: Quota
    new: bool
    counted: bool = True


@dataclass(frozen=True, slots=True)
class Full:
    """No further recipient fits before `until_s`."""

    until_s: float


def charge(quota: Quota, recipient: str, now_s: float) -> Charged | Full:
    if quota.limit is None or recipient in quota.exempt:
        return Charged(quota, new=False, counted=False)
    last_s = quota.seen.get(recipient)
    known = last_s is not None and last_s > now_s - WINDOW_S
    if not known and quota.used >= quota.limit:
        return Full(until_s=(quota.oldest_s if quota.oldest_s is not None else now_s) + WINDOW_S)
    return Charged(
        replace(
            quota,
            used=quota.used + (0 if known else 1),
            seen={**quota.seen, recipient: now_s},
            oldest_s=now_s if quota.oldest_s is None else quota.oldest_s,
        ),
        new=not known,
    )
