"""What a plan would look like before anything is sent: people by instance, what is wrong, and the end."""

from collections.abc import Sequence
from dataclasses import replace
from datetime import datetime
from typing import Any
from uuid import UUID

import asyncpg

from contracts.campaigns import Definition
from contracts.operations import PlanPreviewRequested
from contracts.progress import PlanPreviewed
from scheduler.lane import hours, lanes
from scheduler.lane.outlooks import Outlooks
from scheduler.plan import bindings
from scheduler.plan.forecast import LaneOutlook, RunOutlook, foresee
from scheduler.rows import Row

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


class Previews:
    def __init__(self, outlooks: Outlooks) -> None:
        self._outlooks = outlooks

    async def preview(self, raw: asyncpg.Connection, account_id: UUID, request: PlanPreviewRequested) -> PlanPreviewed:
        """Sticky contacts count where they are bound; the others, before the start all, spread over the usable
        instances with room."""
        now: datetime = await raw.fetchval("SELECT statement_timestamp()")
        definition, audience = request.definition, list[Row | dict[str, Any]]()
        if definition is None:
            situation = await self._outlooks.load(raw, account_id, [request.campaign_id], (), now)
            if request.campaign_id not in situation.runs:
                return PlanPreviewed(request_id=request.request_id, by_instance={}, problems=("unknown_campaign",))
            definition = situation.runs[request.campaign_id].definition
            audience += await raw.fetch(_AUDIENCE, account_id, request.campaign_id)
        elif request.recipient_count:
            audience.append({"instance_id": None, "opted_out": False, "people": request.recipient_count})
        pool = await raw.fetch(_POOL, account_id, list(definition.pool))
        usable = [row for row in pool if lanes.why_stopped(row) is None]
        counts = await _spread(raw, usable or pool, audience)
        end = await self._end(
            raw, account_id, request, definition, {row["instance_id"]: row for row in pool}, counts, now
        )
        problems = _problems(definition, pool, usable, audience, now)
        until = definition.policy.valid_until
        if until is not None and end is not None and end >= until:
            problems.append("ends_after_validity")
        return PlanPreviewed(
            request_id=request.request_id,
            by_instance={str(instance_id): count for instance_id, count in counts.items()},
            problems=tuple(problems),
            estimated_end=end,
        )

    async def _end(
        self,
        raw: asyncpg.Connection,
        account_id: UUID,
        request: PlanPreviewRequested,
        definition: Definition,
        pool: dict[UUID, Row],
        counts: dict[UUID, int],
        now: datetime,
    ) -> datetime | None:
        """If it were started now, beside all that runs in the same lanes."""
        situation = await self._outlooks.load(raw, account_id, (), counts, now)
        runs, outlooks = await self._outlooks.outlook(raw, situation, request.people_written)
        steps = max(1, len(definition.steps))
        runs[request.campaign_id] = RunOutlook(account_id, definition.policy, steps=steps)
        loads: list[LaneOutlook] = []
        for instance_id, people in counts.items():
            rate = pool[instance_id]["rate"] or lanes.UNKNOWN_RATE
            beside = outlooks.get(instance_id) or LaneOutlook(rate, {})
            usable = beside.usable and lanes.why_stopped(pool[instance_id]) is None
            waiting = {**beside.waiting, request.campaign_id: people * steps}
            loads.append(replace(beside, waiting=waiting, usable=usable))
        return foresee(runs, loads, now)[request.campaign_id]


def _problems(
    definition: Definition,
    pool: Sequence[Row],
    usable: Sequence[Row],
    audience: Sequence[Row | dict[str, Any]],
    now: datetime,
) -> list[str]:
    policy = definition.policy
    problems = [f"instance_{lanes.why_stopped(row)}: {row['instance_id']}" for row in pool if row not in usable]
    problems += [] if usable else ["no_usable_instance"]
    problems += [] if definition.steps else ["no_steps"]
    problems += [] if audience else ["no_recipients"]
    opted_out = sum(row["people"] for row in audience if row["opted_out"])
    problems += [f"opted_out: {opted_out}"] if opted_out else []
    opens = hours.is_open(policy, now) or hours.next_change(policy, now) is not None
    return problems + ([] if opens else ["hours_never_open"])


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
