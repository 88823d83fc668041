"""What the forecast is made from, as the database has it: campaigns and their lanes, beside those that share them."""

import asyncio
from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from typing import NamedTuple
from uuid import UUID

import asyncpg

from contracts.operations import PeopleWritten
from scheduler.campaign.runs import CampaignRun, Definitions
from scheduler.lane import hours, lanes, pacing
from scheduler.lane.lanes import LockedLane
from scheduler.lane.pacing import Run
from scheduler.order.holds import Holds
from scheduler.plan.forecast import LaneOutlook, Quota, RunOutlook
from scheduler.rows import Row

_RUNS = """
SELECT c.campaign_id, c.account_id, c.status, c.run_epoch, c.definition_version, c.recipient_count, c.chunk_count,
    c.planned_dispatches, p.planned,
    CASE WHEN c.planned_dispatches IS NULL THEN
        (SELECT count(*) FROM chunk k WHERE k.campaign_id = c.campaign_id AND k.chunk >= c.first_chunk) END AS chunks
FROM campaign c LEFT JOIN plan p USING (campaign_id, account_id)
WHERE c.account_id = $1 AND c.campaign_id = ANY($2::uuid[])
"""
_LANES = f"""
SELECT {lanes.COLUMNS}, least(i.rate, i.target) AS full_rate, i.throttled_rate, i.detected_rate
FROM lane l LEFT JOIN instance i USING (instance_id, account_id)
WHERE l.account_id = $1 AND l.instance_id = ANY($2::uuid[]) ORDER BY l.instance_id
"""  # noqa: S608
_LINES = """
SELECT n.instance_id, n.campaign_id FROM line n JOIN campaign c USING (campaign_id, account_id)
WHERE n.account_id = $1 AND n.instance_id = ANY($2::uuid[]) AND c.status = 'running'
"""
_USED = "SELECT used FROM release_day WHERE campaign_id = $1 AND day = $2"
# Index dispatch_open.
_OPEN = """
SELECT instance_id, count(*) AS messages, max(due_at) AS last_due FROM dispatch
WHERE campaign_id = $1 AND ended_at IS NULL GROUP BY instance_id
"""
# Index dispatch_released, which has only what is out.
_OUT = """
SELECT instance_id, count(*) AS messages, min(released_at) AS oldest FROM dispatch
WHERE state = 'released' AND awaiting AND instance_id = ANY($1::uuid[]) GROUP BY instance_id
"""
# A count is used again until so many times the time that it took have passed.
_COUNT_SHARE = 20
# A breaker that only a person closes is kept as one that opens in years.
_SOON = timedelta(days=365)
MOVED = frozenset({"banned", "deleted", "disconnected"})


class Out(NamedTuple):
    """Released and without an outcome."""

    messages: int
    oldest: datetime


class Open(NamedTuple):
    """A campaign's messages that are not final, by instance."""

    messages: Mapping[UUID, int]
    last_due: datetime | None


@dataclass(frozen=True, slots=True)
class Situation:
    """Lanes with all running campaigns in them; `states` is what pacing sees of each. `rows` of runs and lanes as
    they are stored."""

    now: datetime
    runs: Mapping[UUID, CampaignRun]
    states: Mapping[UUID, Run]
    run_rows: Mapping[UUID, Row]
    lanes: Mapping[UUID, LockedLane]
    lane_rows: Mapping[UUID, Row]
    lines: Mapping[UUID, frozenset[UUID]]
    out: Mapping[UUID, Out]

    def bounds(self, instance_id: UUID) -> pacing.Bounds:
        """Of those that contend for the lane now."""
        present = [self.states[one] for one in self.lines.get(instance_id, ()) if one in self.states]
        return pacing.combine([run.policy for run in present if not pacing.run_waits(run, self.now)])


class Outlooks:
    def __init__(self, definitions: Definitions, horizon_s: float) -> None:
        self._definitions = definitions
        self._horizon_s = horizon_s
        self._counted: dict[UUID, tuple[datetime, Open]] = {}

    async def load(
        self,
        raw: asyncpg.Connection,
        account_id: UUID,
        campaign_ids: Iterable[UUID],
        instance_ids: Iterable[UUID],
        now: datetime,
    ) -> Situation:
        """Takes no lock."""
        lane_rows = await raw.fetch(_LANES, account_id, list(instance_ids))
        lines = defaultdict[UUID, set[UUID]](set)
        for row in await raw.fetch(_LINES, account_id, list(instance_ids)):
            lines[row["instance_id"]].add(row["campaign_id"])
        wanted = set(campaign_ids).union(*lines.values())
        rows = await raw.fetch(_RUNS, account_id, list(wanted))
        parsed = await self._definitions.of(raw, {(row["campaign_id"], row["definition_version"]) for row in rows})
        runs = {
            row["campaign_id"]: CampaignRun(
                row["campaign_id"], account_id, row["status"], row["run_epoch"], parsed[row["campaign_id"]]
            )
            for row in rows
        }
        holds = await Holds.load(raw)
        out = await raw.fetch(_OUT, [row["instance_id"] for row in lane_rows])
        return Situation(
            now=now,
            runs=runs,
            states={each: await _state(raw, run, holds, now) for each, run in runs.items()},
            run_rows={row["campaign_id"]: row for row in rows},
            lanes={row["instance_id"]: _lane(row, holds) for row in lane_rows},
            lane_rows={row["instance_id"]: row for row in lane_rows},
            lines={each: frozenset(present) for each, present in lines.items()},
            out={row["instance_id"]: Out(row["messages"], row["oldest"]) for row in out},
        )

    async def count_open(self, raw: asyncpg.Connection, campaign_id: UUID, now: datetime) -> Open:
        """Of a million dispatches it takes a second: then it is a little old."""
        known = self._counted.get(campaign_id)
        if known is not None and now < known[0]:
            return known[1]
        loop = asyncio.get_running_loop()
        began_s = loop.time()
        rows = await raw.fetch(_OPEN, campaign_id)
        due = [row["last_due"] for row in rows if row["last_due"] is not None]
        found = Open({row["instance_id"]: row["messages"] for row in rows}, max(due, default=None))
        took_s = loop.time() - began_s
        if took_s > 0.05:
            if len(self._counted) > 1000:
                self._counted.clear()
            self._counted[campaign_id] = (now + timedelta(seconds=_COUNT_SHARE * took_s), found)
        return found

    async def outlook(
        self, raw: asyncpg.Connection, situation: Situation, written: Sequence[PeopleWritten] = ()
    ) -> tuple[dict[UUID, RunOutlook], dict[UUID, LaneOutlook]]:
        """Of running campaigns only: what is paused may stay so."""
        waiting = defaultdict[UUID, dict[UUID, float]](dict)
        runs: dict[UUID, RunOutlook] = {}
        for campaign_id, run in situation.runs.items():
            if run.status != "running":
                continue
            found = await self.count_open(raw, campaign_id, situation.now)
            runs[campaign_id] = run_outlook(run, situation.states[campaign_id], found.last_due)
            counts = _with_unplanned(found.messages, situation.run_rows[campaign_id], run)
            for instance_id, messages in _moved(counts, run.definition.pool, situation).items():
                waiting[instance_id][campaign_id] = messages
        quotas = {one.instance_id: one for one in written}
        return runs, {
            each: self.lane_outlook(situation, each, waiting[each], quotas.get(each)) for each in situation.lanes
        }

    def lane_outlook(
        self,
        situation: Situation,
        instance_id: UUID,
        waiting: Mapping[UUID, float],
        written: PeopleWritten | None,
    ) -> LaneOutlook:
        lane, now = situation.lanes[instance_id].lane, situation.now
        bounds = situation.bounds(instance_id)
        waits = pacing.lane_waits(lane, bounds, now, self._horizon_s)
        untils = [wait.until for wait in waits if wait.until is not None]
        full = next((wait.until for wait in waits if wait.detail == "quota"), None)
        quota = None
        if written is not None:
            used = written.limit if full is not None else min(written.used, written.limit)
            quota = Quota(written.limit, used, full)
        if lane.warm_allowance is not None and (quota is None or lane.warm_allowance < quota.limit):
            quota = Quota(lane.warm_allowance, lane.warm_used, lane.warm_until, of_messages=True)
        resting = any(wait.reason == "rest" for wait in waits) or pacing.rested(lane, bounds, now)
        return LaneOutlook(
            rate=lane.rate,
            waiting=waiting,
            usable=lane.known and lane.usable and not lane.held and all(until - now < _SOON for until in untils),
            ready_at=max(untils, default=None),
            sent_since_rest=0 if resting else lane.sent_since_rest,
            quota=quota,
        )


def run_outlook(run: CampaignRun, state: Run, last_due: datetime | None) -> RunOutlook:
    return RunOutlook(
        account_id=run.account_id,
        policy=run.definition.policy,
        held=state.held,
        used_today=state.used_today,
        last_due=last_due,
        steps=max(1, len(run.definition.steps)),
    )


async def _state(raw: asyncpg.Connection, run: CampaignRun, holds: Holds, now: datetime) -> Run:
    policy = run.definition.policy
    used = await raw.fetchval(_USED, run.campaign_id, hours.local_day(policy, now)) if policy.daily_limit else 0
    held_by = holds.template_of(run)
    return Run(
        policy,
        running=run.status == "running",
        held=holds.of_campaign(run),
        used_today=used or 0,
        status=run.status,
        held_by=None if held_by is None else f"template: {held_by}",
    )


def _lane(row: Row, holds: Holds) -> LockedLane:
    locked = lanes.read_lane(row)
    held_by = holds.scope_of_instance(locked.account_id, locked.instance_id)
    locked.lane = replace(locked.lane, held=held_by is not None, held_by=held_by)
    return locked


def _with_unplanned(planned: Mapping[UUID, int], row: Row, run: CampaignRun) -> dict[UUID, float]:
    """What the plan has not come to yet goes to the pool in equal parts, as far as anybody can tell."""
    counts = {each: float(messages) for each, messages in planned.items()}
    if row["planned_dispatches"] is not None or not row["recipient_count"]:
        return counts
    missing = row["recipient_count"] * len(run.definition.steps) - (row["planned"] or 0)
    pool = run.definition.pool or tuple(counts)
    for instance_id in pool:
        counts[instance_id] = counts.get(instance_id, 0.0) + max(0, missing) / len(pool)
    return counts


def _moved(counts: Mapping[UUID, float], pool: Sequence[UUID], situation: Situation) -> dict[UUID, float]:
    """What a lost number has not sent, others of the pool send."""
    known = {each: situation.lanes[each].lane for each in (*counts, *pool) if each in situation.lanes}
    lost = {each for each in counts if each in known and known[each].stopped_by in MOVED}
    able = [each for each, lane in known.items() if lane.known and lane.usable]
    if not lost or not able:
        return dict(counts)
    share = sum(counts[each] for each in lost) / len(able)
    stay = {each: messages for each, messages in counts.items() if each not in lost}
    return stay | {each: stay.get(each, 0.0) + share for each in able}
