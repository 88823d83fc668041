"""The numbers that a campaign may use: which are usable, and how many more people each may have."""

from collections.abc import Collection, Sequence
from dataclasses import replace
from uuid import UUID

import asyncpg

from contracts.campaigns import Definition
from scheduler.campaign.runs import CampaignRun
from scheduler.lane import lanes
from scheduler.plan import bindings
from scheduler.plan.assignment import Candidate

_POOL = """
SELECT i.instance_id, i.max_users, i.is_default, i.deleted, i.is_active, i.status, i.health FROM instance i
WHERE i.account_id = $1 AND (i.instance_id = ANY($2::uuid[]) OR cardinality($2::uuid[]) = 0 AND NOT i.deleted)
"""
_LINES = """
INSERT INTO line (instance_id, campaign_id, account_id)
SELECT instance_id, $2, $3 FROM unnest($1::uuid[]) AS n(instance_id) ON CONFLICT DO NOTHING
"""


async def load(raw: asyncpg.Connection, account_id: UUID, definition: Definition) -> list[Candidate]:
    """Instances of the definition that are not known (yet) are taken only if there is no other."""
    rows = await raw.fetch(_POOL, account_id, list(definition.pool))
    bound = await bindings.bound_counts(raw, [row["instance_id"] for row in rows])
    known = [
        Candidate(
            instance_id=row["instance_id"],
            room=row["max_users"] - bound.get(row["instance_id"], 0),
            usable=lanes.why_stopped(row) is None,
            is_default=row["is_default"],
            bound=bound.get(row["instance_id"], 0),
        )
        for row in rows
    ]
    found = {candidate.instance_id for candidate in known}
    return known + [Candidate(each, 0, usable=False) for each in definition.pool if each not in found]


async def with_room(
    raw: asyncpg.Connection, account_id: UUID, pool: Sequence[Candidate], also: Collection[UUID] = ()
) -> list[Candidate]:
    """The same pool with counts that cannot change any more until the transaction ends; those of `also` neither."""
    locked = await bindings.lock_counts(raw, account_id, [*(one.instance_id for one in pool), *also])
    now_bound = {one.instance_id: locked.get(one.instance_id, 0) for one in pool}
    return [
        replace(one, room=one.room + one.bound - now_bound[one.instance_id], bound=now_bound[one.instance_id])
        for one in pool
    ]


async def enter(raw: asyncpg.Connection, run: CampaignRun, instance_ids: Collection[UUID]) -> None:
    """The campaign is in the lanes of these."""
    used = sorted(instance_ids)
    await raw.execute(_LINES, used, run.campaign_id, run.account_id)
    await lanes.create(raw, dict.fromkeys(used, run.account_id))
