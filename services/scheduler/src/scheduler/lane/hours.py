"""When a policy allows sending: hours, weekdays and validity in the campaign's own time zone. Pure.

A window over midnight belongs to the day on which it begins. Whether an instant is inside is decided by the wall
clock, so a day with a clock change is right on both sides of it.
"""

from datetime import UTC, datetime, time, timedelta
from functools import lru_cache
from zoneinfo import ZoneInfo

from contracts.campaigns import SendingPolicy

_MIDNIGHT = time(0)
_DAY = timedelta(days=1)
EVERY_DAY = frozenset(range(7))


@lru_cache(maxsize=256)
def _zone(name: str) -> ZoneInfo:
    return ZoneInfo(name)


def local_day(policy: SendingPolicy, now: datetime) -> datetime:
    """The instant at which the campaign's present day began (for the daily limit)."""
    zone = _zone(policy.time_zone)
    midnight = datetime.combine(now.astimezone(zone).date(), _MIDNIGHT, zone)
    return midnight.astimezone(UTC)


def next_day(policy: SendingPolicy, now: datetime) -> datetime:
    zone = _zone(policy.time_zone)
    tomorrow = now.astimezone(zone).date() + _DAY
    return datetime.combine(tomorrow, _MIDNIGHT, zone).astimezone(UTC)


def is_restricted(policy: SendingPolicy) -> bool:
    """False if every hour of every day is allowed: the common case, decided without any calendar."""
    hours = policy.allowed_hours_start is not None or policy.allowed_hours_end is not None
    return hours or not EVERY_DAY.issubset(policy.weekdays)


def is_open(policy: SendingPolicy, now: datetime) -> bool:
    if not is_restricted(policy):
        return True
    local = now.astimezone(_zone(policy.time_zone))
    today = local.weekday() in policy.weekdays
    start = policy.allowed_hours_start or _MIDNIGHT
    end = policy.allowed_hours_end or _MIDNIGHT
    wall = local.time()
    if start == end:
        return today
    if end == _MIDNIGHT:
        return today and wall >= start
    if start < end:
        return today and start <= wall < end
    yesterday = (local.weekday() - 1) % 7 in policy.weekdays
    return (today and wall >= start) or (yesterday and wall < end)


def is_day(policy: SendingPolicy, now: datetime) -> bool:
    """Whether today is one of the weekdays, whatever the hour."""
    return now.astimezone(_zone(policy.time_zone)).weekday() in policy.weekdays


def next_change(policy: SendingPolicy, now: datetime) -> datetime | None:
    """When the window next opens or closes; None if it never does."""
    if not is_restricted(policy) or not policy.weekdays:
        return None
    open_now = is_open(policy, now)
    for instant in _boundaries(policy, now):
        if instant > now and is_open(policy, instant) != open_now:
            return instant
    return None


def closes_at(policy: SendingPolicy, now: datetime) -> datetime | None:
    """The end of the present window or of the validity, whichever is first; None if neither is set."""
    ends = [end for end in (next_change(policy, now), policy.valid_until) if end is not None]
    return min(ends, default=None)


def _boundaries(policy: SendingPolicy, now: datetime) -> list[datetime]:
    """Every instant of the next eight days at which the answer may flip, clock changes included."""
    zone = _zone(policy.time_zone)
    first = now.astimezone(zone).date() - _DAY
    walls = {policy.allowed_hours_start or _MIDNIGHT, policy.allowed_hours_end or _MIDNIGHT, _MIDNIGHT}
    instants = {
        datetime.combine(first + days * _DAY, wall, zone).replace(fold=fold).astimezone(UTC)
        for days in range(11)
        for wall in walls
        for fold in (0, 1)
    }
    for days in range(10):
        before = now + (days - 1) * _DAY
        if before.astimezone(zone).utcoffset() != (before + _DAY).astimezone(zone).utcoffset():
            instants.add(_clock_change(zone, before, before + _DAY))
    return sorted(instants)


def _clock_change(zone: ZoneInfo, before: datetime, after: datetime) -> datetime:
    """The first second with the new offset (clock changes fall on whole seconds)."""
    low, high = int(before.timestamp()), int(after.timestamp()) + 1
    old = before.astimezone(zone).utcoffset()
    while high - low > 1:
        middle = (low + high) // 2
        if datetime.fromtimestamp(middle, zone).utcoffset() == old:
            low = middle
        else:
            high = middle
    return datetime.fromtimestamp(high, UTC)
