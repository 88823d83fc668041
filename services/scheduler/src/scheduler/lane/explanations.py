"""Why something waits and until when, and what a plan would look like: the same pure rules as the engine asks."""

from collections.abc import Sequence
from dataclasses import replace
from datetime import datetime
from typing import Any
from uuid import UUID

import asyncpg

from contracts.operations import ExplainRequested, PlanPreviewRequested
from contracts.progress import LaneExplained, PlanPreviewed
from scheduler.campaign.runs import CampaignRun, Definitions
from scheduler.lane import hours, lanes, pacing
from scheduler.lane.pacing import Run, Wait
from scheduler.order.holds import Holds
from scheduler.plan import bindings
from scheduler.plan.forecast import LaneOutlook, RunOutlook, foresee
from scheduler.rows import Row

_RUN = """
SELECT campaign_id, account_id, status, run_epoch, definition_version FROM campaign
WHERE account_id = $1 AND campaign_id = ANY($2::uuid[])
"""
_LANES = f"""
SELECT {lanes.COLUMNS} FROM lane l LEFT JOIN instance i USING (instance_id, account_id)
WHERE l.account_id = $1 AND l.instance_id = ANY($2::uuid[]) ORDER BY l.instance_id
"""  # noqa: S608
_LINES_OF_CAMPAIGN = "SELECT instance_id, campaign_id FROM line WHERE account_id = $1 AND campaign_id = $2"
_LINES_OF_INSTANCES = """
SELECT n.instance_id, n.campaign_id FROM line n JOIN campaign c USING (campaign_id, account_id)
WHERE n.account_id = $1 AND n.instance_id = ANY($2::uuid[]) AND c.status = 'running'
"""
_DISPATCH = """
SELECT dispatch_id, campaign_id, instance_id, state, waits, reason, due_at FROM dispatch
WHERE account_id = $1 AND dispatch_id = $2
"""
_USED = "SELECT used FROM release_day WHERE campaign_id = $1 AND day = $2"
_OPEN = """
SELECT instance_id, count(*) AS messages FROM dispatch WHERE campaign_id = $1 AND ended_at IS NULL GROUP BY instance_id
"""
_AUDIENCE = """
SELECT b.instance_id, o.recipient_key IS NOT NULL AS opted_out, count(*) AS people
FROM recipient r LEFT JOIN binding b USING (account_id, recipient_key)
LEFT JOIN opt_out o USING (account_id, recipient_key)
WHERE r.account_id = $1 AND r.campaign_id = $2 GROUP BY 1, 2
"""
_POOL = """
SELECT instance_id, max_users, is_default, is_active, status, deleted, health,
    least(rate, target, detected_rate, throttled_rate) AS rate
FROM instance WHERE account_id = $1 AND (instance_id = ANY($2::uuid[]) OR cardinality($2::uuid[]) = 0 AND NOT deleted)
ORDER BY instance_id
"""


class Explanations:
    def __init__(self, definitions: Definitions, horizon_s: float) -> None:
        self._definitions = definitions
        self._horizon_s = horizon_s

    async def explain(self, raw: asyncpg.Connection, account_id: UUID, request: ExplainRequested) -> LaneExplained:
        """Every reason that holds the subject now. Takes no lock."""
        now: datetime = await raw.fetchval("SELECT statement_timestamp()")
        campaign_id, instance_id, reasons = request.campaign_id, request.instance_id, list[dict[str, Any]]()
        if request.dispatch_id is not None:
            row = await raw.fetchrow(_DISPATCH, account_id, request.dispatch_id)
            if row is None:
                return LaneExplained(request_id=request.request_id, reasons=(_told("dispatch", Wait("unknown")),))
            reasons.append(_of_dispatch(row))
            if row["state"] != "pending":
                return LaneExplained(request_id=request.request_id, reasons=tuple(reasons))
            campaign_id, instance_id = row["campaign_id"], row["instance_id"]
        instance_ids = [instance_id] if instance_id is not None else []
        if not instance_ids and campaign_id is not None:
            lines = await raw.fetch(_LINES_OF_CAMPAIGN, account_id, campaign_id)
            instance_ids = [line["instance_id"] for line in lines]
        lines = await raw.fetch(_LINES_OF_INSTANCES, account_id, instance_ids)
        wanted = {line["campaign_id"] for line in lines} | ({campaign_id} if campaign_id is not None else set())
        runs = await self._runs(raw, account_id, wanted)
        holds = await Holds.load(raw)
        states = {each: await _run_state(raw, run, holds, now) for each, run in runs.items()}
        if campaign_id is not None and campaign_id in states:
            waits = pacing.run_waits(states[campaign_id], now)
            reasons.extend(_told("campaign", wait, campaign_id=campaign_id) for wait in waits)
        for row in await raw.fetch(_LANES, account_id, instance_ids):
            sharing = {line["campaign_id"] for line in lines if line["instance_id"] == row["instance_id"]}
            open_runs = [states[each] for each in sharing if each in states and not pacing.run_waits(states[each], now)]
            reasons.extend(self._of_lane(row, open_runs, holds, now))
        end = None
        if campaign_id is not None and campaign_id in runs and runs[campaign_id].status == "running":
            end = await self._end(raw, account_id, runs[campaign_id], states[campaign_id].used_today, now)
        return LaneExplained(request_id=request.request_id, reasons=tuple(reasons), estimated_end=end)

    def _of_lane(self, row: Row, open_runs: Sequence[Run], holds: Holds, now: datetime) -> list[dict[str, Any]]:
        locked = lanes.read_lane(row)
        lane = replace(locked.lane, held=holds.of_instance(locked.account_id, locked.instance_id))
        bounds = pacing.combine([run.policy for run in open_runs])
        waits = pacing.lane_waits(lane, bounds, now, self._horizon_s)
        return [_told("instance", wait, instance_id=locked.instance_id) for wait in waits]

    async def preview(self, raw: asyncpg.Connection, account_id: UUID, request: PlanPreviewRequested) -> PlanPreviewed:
        """Sticky contacts count where they are bound; the others, before the start all, spread over the usable
        instances with room."""
        definition, audience = request.definition, list[Row | dict[str, Any]]()
        if definition is None:
            runs = await self._runs(raw, account_id, {request.campaign_id})
            if request.campaign_id not in runs:
                return PlanPreviewed(request_id=request.request_id, by_instance={}, problems=("unknown_campaign",))
            definition = runs[request.campaign_id].definition
            audience += await raw.fetch(_AUDIENCE, account_id, request.campaign_id)
        elif request.recipient_count:
            audience.append({"instance_id": None, "opted_out": False, "people": request.recipient_count})
        now: datetime = await raw.fetchval("SELECT statement_timestamp()")
        policy, steps = definition.policy, max(1, len(definition.steps))
        pool = await raw.fetch(_POOL, account_id, list(definition.pool))
        usable = [row for row in pool if lanes.why_stopped(row) is None]
        counts = await _spread(raw, usable or pool, audience)
        rates = {row["instance_id"]: row["rate"] or lanes.UNKNOWN_RATE for row in pool}
        loads = [LaneOutlook(rates[each], {request.campaign_id: count * steps}) for each, count in counts.items()]
        problems = [f"instance_{lanes.why_stopped(row)}: {row['instance_id']}" for row in pool if row not in usable]
        problems += [] if usable else ["no_usable_instance"]
        problems += [] if definition.steps else ["no_steps"]
        problems += [] if audience else ["no_recipients"]
        opted_out = sum(row["people"] for row in audience if row["opted_out"])
        problems += [f"opted_out: {opted_out}"] if opted_out else []
        opens = hours.is_open(policy, now) or hours.next_change(policy, now) is not None
        problems += [] if opens else ["hours_never_open"]
        end = foresee({request.campaign_id: RunOutlook(account_id, policy)}, loads, now)[request.campaign_id]
        if policy.valid_until is not None and end is not None and end >= policy.valid_until:
            problems.append("ends_after_validity")
        return PlanPreviewed(
            request_id=request.request_id,
            by_instance={str(instance_id): count for instance_id, count in counts.items()},
            problems=tuple(problems),
            estimated_end=end,
        )

    async def _runs(self, raw: asyncpg.Connection, account_id: UUID, wanted: set[UUID]) -> dict[UUID, CampaignRun]:
        rows = await raw.fetch(_RUN, account_id, list(wanted))
        parsed = await self._definitions.of(raw, {(row["campaign_id"], row["definition_version"]) for row in rows})
        return {
            row["campaign_id"]: CampaignRun(
                row["campaign_id"], account_id, row["status"], row["run_epoch"], parsed[row["campaign_id"]]
            )
            for row in rows
        }

    async def _end(
        self, raw: asyncpg.Connection, account_id: UUID, run: CampaignRun, used_today: int, now: datetime
    ) -> datetime | None:
        open_rows = await raw.fetch(_OPEN, run.campaign_id)
        rows = await raw.fetch(_LANES, account_id, [row["instance_id"] for row in open_rows])
        rates = {row["instance_id"]: row["rate"] or lanes.UNKNOWN_RATE for row in rows}
        loads = [
            LaneOutlook(rates.get(row["instance_id"], lanes.UNKNOWN_RATE), {run.campaign_id: row["messages"]})
            for row in open_rows
        ]
        outlook = RunOutlook(account_id, run.definition.policy, used_today=used_today)
        return foresee({run.campaign_id: outlook}, loads, now)[run.campaign_id]


async def _run_state(raw: asyncpg.Connection, run: CampaignRun, holds: Holds, now: datetime) -> Run:
    policy = run.definition.policy
    used = await raw.fetchval(_USED, run.campaign_id, hours.local_day(policy, now)) if policy.daily_limit else 0
    return Run(policy, running=run.status == "running", held=holds.of_campaign(run), used_today=used or 0)


def _of_dispatch(row: Row) -> dict[str, Any]:
    match row["state"], row["waits"]:
        case "pending", "previous_step":
            return _told("dispatch", Wait("previous_step"))
        case "pending", "time":
            return _told("dispatch", Wait("retry_or_return", row["due_at"], row["reason"]))
        case "pending", "run":
            return _told("dispatch", Wait("next_run"))
        case "pending", _:
            return _told("dispatch", Wait("its_turn"))
        case state, _:
            return _told("dispatch", Wait("not_waiting", detail=state if row["reason"] is None else row["reason"]))


def _told(
    scope: str, wait: Wait, *, campaign_id: UUID | None = None, instance_id: UUID | None = None
) -> dict[str, Any]:
    """As it stands in LaneExplained: plain JSON values."""
    return {
        "scope": scope,
        "reason": wait.reason,
        "until": None if wait.until is None else wait.until.isoformat(),
        "detail": wait.detail,
        "campaign_id": None if campaign_id is None else str(campaign_id),
        "instance_id": None if instance_id is None else str(instance_id),
    }


async def _spread(
    raw: asyncpg.Connection, pool: Sequence[Row], audience: Sequence[Row | dict[str, Any]]
) -> dict[UUID, int]:
    """Expected people by instance: exact for the bound ones, by share of the room for the others."""
    counts = {row["instance_id"]: 0 for row in pool}
    if not counts:
        return {}
    others = 0
    for row in audience:
        if row["opted_out"]:
            continue
        if row["instance_id"] in counts:
            counts[row["instance_id"]] += row["people"]
        else:
            others += row["people"]
    bound = await bindings.bound_counts(raw, list(counts))
    free = [row["instance_id"] for row in pool if row["max_users"] > bound.get(row["instance_id"], 0)]
    targets = free or [row["instance_id"] for row in pool if row["is_default"]] or list(counts)
    for index, instance_id in enumerate(targets):
        counts[instance_id] += others // len(targets) + (index < others % len(targets))
    return counts
