"""Why something waits and until when: the same pure rules as the engine asks, in plain words for other services."""

from collections.abc import Mapping, Sequence
from dataclasses import replace
from datetime import datetime
from typing import Any
from uuid import UUID

import asyncpg

from contracts.operations import ExplainRequested
from contracts.progress import LaneExplained
from scheduler.lane import pacing
from scheduler.lane.outlooks import MOVED, Outlooks, Situation
from scheduler.lane.pacing import Wait
from scheduler.plan.forecast import LaneOutlook, RunOutlook, foresee
from scheduler.rows import Row

_LINES_OF_CAMPAIGNS = "SELECT instance_id FROM line WHERE account_id = $1 AND campaign_id = ANY($2::uuid[])"
_DISPATCH = """
SELECT dispatch_id, campaign_id, instance_id, state, waits, reason, due_at, attempt, awaiting, released_at, place
FROM dispatch WHERE account_id = $1 AND dispatch_id = $2
"""
# Index dispatch_ready.
_AHEAD = """
SELECT count(*) FROM dispatch WHERE instance_id = $1 AND campaign_id = $2 AND state = 'pending' AND waits IS NULL
    AND campaign_id IS NOT NULL AND place < $3
"""
# An answer that takes longer than any provider's time-out of a text: something behind the release is slow.
LATE_S = 12.0
_FAR_S = 365 * 86_400.0
Reason = dict[str, Any]


class Explanations:
    def __init__(self, outlooks: Outlooks, horizon_s: float) -> None:
        self._outlooks = outlooks
        self._horizon_s = horizon_s

    async def explain(
        self, raw: asyncpg.Connection, account_id: UUID, request: ExplainRequested, asked_at: datetime | None = None
    ) -> LaneExplained:
        """Every reason that holds the subject now. Takes no lock."""
        now: datetime = await raw.fetchval("SELECT statement_timestamp()")
        behind_s = 0.0 if asked_at is None else max(0.0, (now - asked_at).total_seconds())
        if request.dispatch_id is not None:
            answer = await self._of_dispatch(raw, account_id, request, now)
        elif request.campaign_id is not None:
            answer = await self._of_campaign(raw, account_id, request, request.campaign_id, now)
        else:
            answer = await self._of_instance(raw, account_id, request, now)
        return answer.model_copy(update={"behind_s": behind_s})

    async def _of_campaign(
        self, raw: asyncpg.Connection, account_id: UUID, request: ExplainRequested, campaign_id: UUID, now: datetime
    ) -> LaneExplained:
        instance_ids = await self._numbers_of(raw, account_id, [campaign_id]) | set(request.instance_ids)
        situation = await self._outlooks.load(raw, account_id, [campaign_id], instance_ids, now)
        reasons: list[Reason] = []
        if campaign_id not in situation.states:  # we have not read yet that it was started, or have let go of it
            return LaneExplained(request_id=request.request_id, reasons=(_named("campaign", "unknown"),))
        found = await self._outlooks.count_open(raw, campaign_id, now)
        reasons += _of_plan(situation.run_rows[campaign_id])
        reasons += self._of_run(situation, campaign_id)
        for instance_id in situation.lanes:
            if found.messages.get(instance_id):
                reasons += self._of_lane(situation, instance_id)
        end = None
        if situation.runs[campaign_id].status == "running":
            runs, lanes = await self._outlooks.outlook(raw, situation, request.people_written)
            end = foresee(runs, list(lanes.values()), now)[campaign_id]
        return LaneExplained(
            request_id=request.request_id,
            reasons=tuple(reasons),
            estimated_end=end,
            waiting=sum(found.messages.values()),
        )

    async def _of_instance(
        self, raw: asyncpg.Connection, account_id: UUID, request: ExplainRequested, now: datetime
    ) -> LaneExplained:
        """Its end: when all that running campaigns have in its lane has left."""
        assert request.instance_id is not None
        situation = await self._outlooks.load(raw, account_id, (), [request.instance_id], now)
        if request.instance_id not in situation.lanes:
            return LaneExplained(request_id=request.request_id, reasons=())
        reasons = self._of_lane(situation, request.instance_id)
        for campaign_id in sorted(situation.states):
            reasons += self._of_run(situation, campaign_id)
        situation = await self._with_all_numbers(raw, account_id, situation)
        runs, lanes = await self._outlooks.outlook(raw, situation, request.people_written)
        lane = lanes[request.instance_id]
        busy = [_turn(runs, lanes, each, request.instance_id, lane.waiting[each], None, now) for each in lane.waiting]
        return LaneExplained(
            request_id=request.request_id,
            reasons=tuple(reasons),
            estimated_end=_last(busy),
            waiting=round(sum(lane.waiting.values())),
        )

    async def _of_dispatch(
        self, raw: asyncpg.Connection, account_id: UUID, request: ExplainRequested, now: datetime
    ) -> LaneExplained:
        row = await raw.fetchrow(_DISPATCH, account_id, request.dispatch_id)
        if row is None:
            return LaneExplained(request_id=request.request_id, reasons=(_named("dispatch", "unknown"),))
        campaign_id, instance_id = row["campaign_id"], row["instance_id"]
        if row["state"] != "pending":
            return LaneExplained(request_id=request.request_id, reasons=(_of_row(row),))
        ahead = 0
        if campaign_id is not None and row["waits"] is None:
            ahead = await raw.fetchval(_AHEAD, instance_id, campaign_id, row["place"])
        reasons = [_of_row(row, ahead)]
        campaigns = [campaign_id] if campaign_id is not None else []
        situation = await self._outlooks.load(raw, account_id, campaigns, [instance_id], now)
        if campaign_id in situation.states:
            reasons += self._of_run(situation, campaign_id)
        if instance_id in situation.lanes:
            reasons += self._of_lane(situation, instance_id)
        end = None
        if row["waits"] in (None, "time") and campaign_id in situation.runs and instance_id in situation.lanes:
            situation = await self._with_all_numbers(raw, account_id, situation)
            runs, lanes = await self._outlooks.outlook(raw, situation, request.people_written)
            end = _turn(runs, lanes, campaign_id, instance_id, ahead + 1, row["due_at"], now)
        return LaneExplained(request_id=request.request_id, reasons=tuple(reasons), estimated_end=end)

    async def _numbers_of(self, raw: asyncpg.Connection, account_id: UUID, campaigns: Sequence[UUID]) -> set[UUID]:
        return {row["instance_id"] for row in await raw.fetch(_LINES_OF_CAMPAIGNS, account_id, campaigns)}

    async def _with_all_numbers(self, raw: asyncpg.Connection, account_id: UUID, situation: Situation) -> Situation:
        """All numbers of a campaign use up its limit of a day."""
        limited = [each for each, run in situation.states.items() if run.policy.daily_limit is not None]
        numbers = await self._numbers_of(raw, account_id, limited) if limited else set[UUID]()
        if numbers <= situation.lanes.keys():
            return situation
        return await self._outlooks.load(
            raw, account_id, situation.states, numbers | set(situation.lanes), situation.now
        )

    def _of_run(self, situation: Situation, campaign_id: UUID) -> list[Reason]:
        state = situation.states[campaign_id]
        limit, waits = state.policy.daily_limit, pacing.run_waits(state, situation.now)
        return [
            _told("campaign", wait, campaign_id=campaign_id, limit=limit if wait.reason == "daily_limit" else None)
            for wait in waits
        ]

    def _of_lane(self, situation: Situation, instance_id: UUID) -> list[Reason]:
        locked, now = situation.lanes[instance_id], situation.now
        waits = pacing.lane_waits(locked.lane, situation.bounds(instance_id), now, self._horizon_s)
        reasons = [_told("instance", _in_sight(wait, now), instance_id=instance_id) for wait in waits]
        out, moved = situation.out.get(instance_id), locked.lane.stopped_by in MOVED
        for reason in reasons:
            if reason["reason"] in ("credit", "rest") and out is not None:
                reason |= {"count": out.messages, "since": out.oldest.isoformat()}
            if reason["reason"] == "warm_up":
                reason |= {"count": locked.lane.warm_used, "limit": locked.lane.warm_allowance}
            if reason["reason"] == "instance_stopped" and moved:
                reason["moves"] = True
        if out is not None and (now - out.oldest).total_seconds() > LATE_S:
            late = _named("instance", "outcomes_late", instance_id=instance_id)
            reasons.append(late | {"count": out.messages, "since": out.oldest.isoformat()})
        row = situation.lane_rows[instance_id]
        if (slower := row["throttled_rate"] or row["detected_rate"]) and slower < row["full_rate"]:
            slowed = _named("instance", "throttled", instance_id=instance_id)
            reasons.append(slowed | {"slows": True, "count": round(slower, 2), "limit": round(row["full_rate"], 2)})
        return reasons


def _turn(
    runs: Mapping[UUID, RunOutlook],
    lanes: Mapping[UUID, LaneOutlook],
    campaign_id: UUID,
    instance_id: UUID,
    count: float,
    due_at: datetime | None,
    now: datetime,
) -> datetime | None:
    """When the campaign's next `count` messages in this lane have left: as if it ended with them, and as if this lane
    had its share by pace of the campaign's limit of a day."""
    if campaign_id not in runs:
        return None
    lane, own = lanes[instance_id], runs[campaign_id]
    others = [
        one.rate for each, one in lanes.items() if each != instance_id and one.usable and one.waiting.get(campaign_id)
    ]
    share = lane.rate / (lane.rate + sum(others)) if others else 1.0
    policy, used = own.policy, own.used_today
    if policy.daily_limit is not None:
        used = round(used * share)
        policy = policy.model_copy(update={"daily_limit": max(1, round(policy.daily_limit * share))})
    alone = RunOutlook(own.account_id, policy, own.held, used, due_at, own.steps)
    until = replace(lane, waiting={**lane.waiting, campaign_id: count})
    return foresee({**runs, campaign_id: alone}, [until], now)[campaign_id]


def _last(ends: Sequence[datetime | None]) -> datetime | None:
    known = [end for end in ends if end is not None]
    return max(known) if known and len(known) == len(ends) else None


def _of_plan(row: Row) -> list[Reason]:
    """Started, and not all of it is in its lanes yet."""
    if row["status"] != "running" or row["planned_dispatches"] is not None:
        return []
    if row["chunks"] < (row["chunk_count"] or 0):
        return [_named("campaign", "recipients_arriving") | {"count": row["chunks"], "limit": row["chunk_count"]}]
    return [_named("campaign", "planning") | {"count": row["planned"] or 0, "limit": row["recipient_count"]}]


def _of_row(row: Row, ahead: int = 0) -> Reason:
    match row["state"], row["waits"]:
        case "pending", "previous_step":
            return _named("dispatch", "previous_step")
        case "pending", "time":
            waits = _told("dispatch", Wait("delay", row["due_at"], row["reason"]))
            return waits | {"reason": "retry_or_return", "count": row["attempt"]}
        case "pending", "run":
            return _named("dispatch", "next_run")
        case "pending", _:
            return _named("dispatch", "its_turn") | {"count": ahead}
        case "released", _:
            name = "with_sender" if row["awaiting"] else "ambiguous"
            return _named("dispatch", name) | {"since": row["released_at"].isoformat()}
        case state, _:
            return _named("dispatch", "not_waiting") | {"detail": state if row["reason"] is None else row["reason"]}


def _in_sight(wait: Wait, now: datetime) -> Wait:
    """What only a person ends is kept as a time in years."""
    if wait.until is not None and (wait.until - now).total_seconds() > _FAR_S:
        return Wait(wait.reason, None, wait.detail)
    return wait


def _named(scope: str, reason: str, *, instance_id: UUID | None = None) -> Reason:
    return {
        "scope": scope,
        "reason": reason,
        "until": None,
        "detail": None,
        "campaign_id": None,
        "instance_id": None if instance_id is None else str(instance_id),
    }


def _told(
    scope: str,
    wait: Wait,
    *,
    campaign_id: UUID | None = None,
    instance_id: UUID | None = None,
    limit: int | None = None,
) -> Reason:
    """As it stands in LaneExplained: plain JSON values."""
    told = {
        "scope": scope,
        "reason": wait.reason,
        "until": None if wait.until is None else wait.until.isoformat(),
        "detail": wait.detail,
        "campaign_id": None if campaign_id is None else str(campaign_id),
        "instance_id": None if instance_id is None else str(instance_id),
    }
    return told if limit is None else told | {"limit": limit}
