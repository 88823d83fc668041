"""When campaigns will end: the pacing rule played forward over all that shares their lanes, as a flow. Pure.

Between two events (a window opens or closes, a day or a quota begins anew, a campaign is through in a lane) every lane
sends at a steady pace, which is reckoned in one step however many messages that is. Random delays count with their
mean; failures, answers of people and campaigns that nobody has started yet are not foreseen.
"""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from itertools import chain
from uuid import UUID

from contracts.campaigns import SendingPolicy
from scheduler.lane import hours
from scheduler.lane.fairness import Contender, shares_of
from scheduler.plan.pace import Pace

QUOTA_S = 24 * 3600.0
_STEPS_MAX = 1500
_STEP_MIN_S = 1e-3
# Messages: less than that is rounding.
_NOTHING = 1e-3
_SPENT = 0.05
_NEVER_S = 100 * 365 * 86_400.0


@dataclass(frozen=True, slots=True)
class Quota:
    """Of `limit` people in 24 hours `used` were written to; they count no more from `frees_at` on (None = unknown).

    `of_messages`: a number that is warmed up has its allowance in messages; that it grows is not foreseen.
    """

    limit: int
    used: int = 0
    frees_at: datetime | None = None
    of_messages: bool = False


@dataclass(frozen=True, slots=True)
class LaneOutlook:
    """`waiting`: messages by campaign. `usable`: False = until a person acts. `ready_at`: nothing leaves before."""

    rate: float
    waiting: Mapping[UUID, float]
    usable: bool = True
    ready_at: datetime | None = None
    sent_since_rest: int = 0
    quota: Quota | None = None


@dataclass(frozen=True, slots=True)
class RunOutlook:
    """`held`: until a person acts. `last_due`: when the last of its retries is due. `steps`: messages to a person."""

    account_id: UUID
    policy: SendingPolicy
    held: bool = False
    used_today: int = 0
    last_due: datetime | None = None
    steps: int = 1


def foresee(
    runs: Mapping[UUID, RunOutlook], lanes: Sequence[LaneOutlook], now: datetime
) -> dict[UUID, datetime | None]:
    """The end of each run; None if it will not end unless a person acts or a window is made to open."""
    ends = dict.fromkeys(runs, now)
    never: set[UUID] = set()
    for group in _apart(runs, lanes):
        flows = [_Lane(lane, runs, now) for lane in group]
        present = {campaign: _Run(campaign, runs[campaign], now) for lane in flows for campaign in lane.left}
        for campaign, end in _play(present, flows, now).items():
            if end is None:
                never.add(campaign)
            else:
                ends[campaign] = max(ends[campaign], end)
    return {
        campaign: _bounded(None if campaign in never else ends[campaign], run, now) for campaign, run in runs.items()
    }


def _bounded(end: datetime | None, run: RunOutlook, now: datetime) -> datetime | None:
    """Retries wait for their time, wherever the lane is by then; all ends with the validity."""
    expires = run.policy.valid_until
    if end is None or (expires is not None and end >= expires):
        return None if expires is None else max(now, expires)
    return end if run.last_due is None else max(end, run.last_due)


def _apart(runs: Mapping[UUID, RunOutlook], lanes: Sequence[LaneOutlook]) -> list[list[LaneOutlook]]:
    """Lanes bear upon each other only where a campaign's daily limit is spent in several of them."""
    single: list[list[LaneOutlook]] = []
    coupled: list[LaneOutlook] = []
    for lane in lanes:
        limited = any(runs[campaign].policy.daily_limit is not None for campaign in lane.waiting if campaign in runs)
        if limited:
            coupled.append(lane)
        else:
            single.append([lane])
    return [*single, coupled] if coupled else single


class _Run:
    """A campaign on its way; times are seconds from the beginning."""

    def __init__(self, campaign_id: UUID, outlook: RunOutlook, now: datetime) -> None:
        self.contender = Contender(campaign_id, outlook.account_id)
        self.outlook = outlook
        self.policy = outlook.policy
        self._now = now
        self._day_ends_s = self._change_s = -1.0
        self._open = False
        self.expires_s = math.inf
        if self.policy.valid_until is not None:
            self.expires_s = max(0.0, (self.policy.valid_until - now).total_seconds())
        self.allowance = math.inf
        if self.policy.daily_limit is not None:
            self.allowance = float(max(0, self.policy.daily_limit - outlook.used_today))
            self._day_ends_s = self._from_now(hours.next_day(self.policy, now))

    def _from_now(self, instant: datetime | None) -> float:
        return math.inf if instant is None else (instant - self._now).total_seconds()

    def look(self, at_s: float) -> None:
        """Brings window and day up to this time."""
        if self._change_s <= at_s:
            at = self._now + timedelta(seconds=at_s)
            self._open, self._change_s = (
                hours.is_open(self.policy, at),
                self._from_now(hours.next_change(self.policy, at)),
            )
        if self.policy.daily_limit is not None and self._day_ends_s <= at_s:
            self.allowance = float(self.policy.daily_limit)
            self._day_ends_s = self._from_now(hours.next_day(self.policy, self._now + timedelta(seconds=at_s)))

    def goes(self, at_s: float) -> bool:
        return self._open and not self.outlook.held and self.allowance > _SPENT and at_s < self.expires_s

    def next_event_s(self) -> float:
        day_s = math.inf if self.policy.daily_limit is None else self._day_ends_s
        return min(self._change_s, self.expires_s, day_s)


class _Lane:
    """A lane on its way. `shares`: who sends now, and which part of it."""

    def __init__(self, outlook: LaneOutlook, runs: Mapping[UUID, RunOutlook], now: datetime) -> None:
        self.left = {
            campaign: float(count) for campaign, count in outlook.waiting.items() if count and campaign in runs
        }
        self.total = dict(self.left)
        self.shares: dict[UUID, float] = {}
        self._outlook = outlook
        self._ready_s = max(0.0, (outlook.ready_at - now).total_seconds()) if outlook.ready_at else 0.0
        self._since_rest, self._resting_s, self._idle_s = float(outlook.sent_since_rest), -math.inf, 0.0
        self._pace = Pace(1.0, 0.0, None, 0.0)
        self._quota_left, self._quota_begins_s = math.inf, math.inf
        if (quota := outlook.quota) is not None:
            self._quota_left = float(max(0, quota.limit - quota.used))
            frees_s = QUOTA_S if quota.frees_at is None else (quota.frees_at - now).total_seconds()
            self._quota_begins_s = max(0.0, frees_s)

    def movable(self, runs: Mapping[UUID, _Run]) -> list[UUID]:
        """Whose messages leave some day without a person's help."""
        if not self._outlook.usable:
            return []
        return [campaign for campaign, left in self.left.items() if left > 0 and not runs[campaign].outlook.held]

    def begin(self, at_s: float, runs: Mapping[UUID, _Run]) -> None:
        """Who sends from now on, and how fast."""
        if self._quota_begins_s <= at_s and self._outlook.quota is not None:
            self._quota_left, self._quota_begins_s = float(self._outlook.quota.limit), at_s + QUOTA_S
        self.shares = {}
        if not self._outlook.usable or at_s < self._ready_s or self._quota_left <= _NOTHING:
            return
        going = [runs[campaign] for campaign, left in self.left.items() if left > 0 and runs[campaign].goes(at_s)]
        if going:
            self.shares = shares_of([run.contender for run in going])
            before, self._pace = self._pace, Pace.of([run.policy for run in going], self._outlook.rate)
            if self._resting_s > 0:  # as the policies of those who share the lane now have it
                self._resting_s = max(0.0, self._resting_s + self._pace.rest_s - before.rest_s)
            self._resting_s = max(self._resting_s, -self._pace.delay_s)  # the first goes without a delay
            if self._pace.every is not None and self._idle_s >= self._pace.rest_s:
                self._since_rest = 0.0

    def average(self, campaign_id: UUID) -> float:
        """Messages a second of a campaign, rests included."""
        return self.shares.get(campaign_id, 0.0) / self._pace.average_s

    def spends_s(self, campaign_id: UUID, messages: float) -> float:
        """How long it takes until so many of a campaign's have left; it has a share."""
        return self._pace.takes_s(messages / self.shares[campaign_id], self._since_rest, self._resting_s)

    def next_event_s(self, at_s: float, runs: Mapping[UUID, _Run]) -> float:
        if not self.movable(runs):
            return math.inf
        if not self.shares:
            return min(each for each in (self._ready_s, self._quota_begins_s, math.inf) if each > at_s)
        through = [self.left[campaign] / share for campaign, share in self.shares.items()]
        through.append(self._quota_left / self._people_share(runs))
        return min(at_s + self._pace.takes_s(min(through), self._since_rest, self._resting_s), self._quota_begins_s)

    def _people_share(self, runs: Mapping[UUID, _Run]) -> float:
        """People reached by one message: one with several steps counts once."""
        if self._outlook.quota is not None and self._outlook.quota.of_messages:
            return 1.0
        return sum(share / runs[campaign].outlook.steps for campaign, share in self.shares.items())

    def go_on(self, step_s: float, runs: Mapping[UUID, _Run]) -> None:
        if not self.shares:
            self._idle_s += step_s
            self._resting_s -= step_s
            return
        self._idle_s = 0.0
        count, self._since_rest, self._resting_s = self._pace.sends(step_s, self._since_rest, self._resting_s)
        self._quota_left -= count * self._people_share(runs)
        for campaign, share in self.shares.items():
            runs[campaign].allowance -= count * share
            left = self.left[campaign] - count * share
            self.left[campaign] = left if left > _NOTHING else 0.0


def _play(runs: Mapping[UUID, _Run], lanes: Sequence[_Lane], now: datetime) -> dict[UUID, datetime | None]:
    at_s, ends_s = 0.0, dict[UUID, float]()
    for _ in range(_STEPS_MAX):
        for run in runs.values():
            run.look(at_s)
        for lane in lanes:
            for campaign in [one for one in lane.left if runs[one].expires_s <= at_s]:
                lane.left[campaign] = 0.0
            lane.begin(at_s, runs)
        waiting = {campaign for lane in lanes for campaign, left in lane.left.items() if left > 0}
        for campaign in runs.keys() - waiting - ends_s.keys():
            ends_s[campaign] = at_s
        waiting = {campaign for lane in lanes for campaign in lane.movable(runs)}
        ahead = chain(
            (lane.next_event_s(at_s, runs) for lane in lanes),
            (runs[one].next_event_s() for one in waiting),
            (at_s + _spent_s(runs[one], lanes) for one in waiting if runs[one].policy.daily_limit is not None),
        )
        next_s = min((each for each in ahead if each > at_s), default=math.inf)
        if not waiting or next_s > _NEVER_S:
            break
        step_s = max(_STEP_MIN_S, next_s - at_s)
        for lane in lanes:
            lane.go_on(step_s, runs)
        at_s += step_s
    else:
        ends_s |= _drawn_out(lanes, at_s)
    return {campaign: now + timedelta(seconds=ends_s[campaign]) if campaign in ends_s else None for campaign in runs}


def _spent_s(run: _Run, lanes: Sequence[_Lane]) -> float:
    """No later than its daily limit is reached: each lane is given a part by its pace, and one is through first."""
    campaign = run.contender.campaign_id
    paces = [(lane, rate) for lane in lanes if (rate := lane.average(campaign)) > 0]
    total = sum(rate for _, rate in paces)
    return min((lane.spends_s(campaign, run.allowance * rate / total) for lane, rate in paces), default=math.inf)


def _drawn_out(lanes: Sequence[_Lane], at_s: float) -> dict[UUID, float]:
    """Of years, the pace so far is carried on."""
    found: dict[UUID, float] = {}
    for lane in lanes:
        for campaign, left in lane.left.items():
            done = lane.total[campaign] - left
            end_s = at_s * lane.total[campaign] / done if left > 0 and done > 0 else math.inf if left > 0 else 0.0
            found[campaign] = max(found.get(campaign, 0.0), end_s)
    return {campaign: end_s for campaign, end_s in found.items() if 0 < end_s <= _NEVER_S}
