"""Lanes and the instances behind them: loading under lock, writing back, waking.

Lock order of every transaction of this service, so that none can deadlock: lanes by id, then campaigns by id, then
dispatches. A transaction that changes a campaign locks it exclusively and touches no lane afterwards.
"""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import datetime
from uuid import UUID

import asyncpg
import orjson

from scheduler.lane.pacing import Lane
from scheduler.rows import Row

COLUMNS = """
    l.instance_id, l.account_id, l.last_outcome_at, l.draw, l.sent_since_rest, l.in_flight, l.blocked_until,
    l.blocked_by, l.warm_allowance, l.warm_used, l.warm_until, l.turns, l.due_at, statement_timestamp() AS now,
    i.instance_id IS NOT NULL AS known, i.status, i.is_active, i.deleted, i.health,
    least(i.rate, i.target, i.detected_rate, i.throttled_rate) AS rate
"""
_DUE = f"""
SELECT {COLUMNS} FROM lane l LEFT JOIN instance i USING (instance_id, account_id)
WHERE l.due_at <= statement_timestamp() ORDER BY l.due_at LIMIT $1 FOR UPDATE OF l SKIP LOCKED
"""  # noqa: S608
_OF_INSTANCES = f"""
SELECT {COLUMNS} FROM lane l LEFT JOIN instance i USING (instance_id, account_id)
WHERE l.instance_id = ANY($1::uuid[]) ORDER BY l.instance_id FOR UPDATE OF l
"""  # noqa: S608
_SAVE = """
UPDATE lane l SET due_at = s.due_at, last_outcome_at = s.last_outcome_at, draw = s.draw,
    sent_since_rest = s.sent_since_rest, in_flight = s.in_flight, blocked_until = s.blocked_until,
    blocked_by = s.blocked_by, turns = s.turns::jsonb, warm_used = s.warm_used
FROM unnest($1::uuid[], $2::timestamptz[], $3::timestamptz[], $4::float8[], $5::int[], $6::int[], $7::timestamptz[],
    $8::text[], $9::text[], $10::int[]) AS s(instance_id, due_at, last_outcome_at, draw, sent_since_rest, in_flight,
    blocked_until, blocked_by, turns, warm_used)
WHERE l.instance_id = s.instance_id
"""
_WAKE = """
UPDATE lane SET due_at = statement_timestamp() WHERE instance_id IN (
    SELECT instance_id FROM lane WHERE instance_id = ANY($1::uuid[]) AND due_at > statement_timestamp()
    ORDER BY instance_id FOR UPDATE)
"""
_WAKE_CAMPAIGNS = """
UPDATE lane SET due_at = statement_timestamp() WHERE instance_id IN (
    SELECT instance_id FROM lane WHERE instance_id IN (SELECT instance_id FROM line WHERE campaign_id = ANY($1::uuid[]))
    AND due_at > statement_timestamp() ORDER BY instance_id FOR UPDATE)
"""
_CREATE = """
INSERT INTO lane (instance_id, account_id) SELECT * FROM unnest($1::uuid[], $2::uuid[]) AS n(instance_id, account_id)
ORDER BY 1 ON CONFLICT DO NOTHING
"""
UNKNOWN_RATE = 1.0


@dataclass(slots=True)
class LockedLane:
    """A lane's row while its lock is held: `lane` is what pacing sees; the rest is written back with it.

    Of a batch of outcomes: `answered` releases got one, `tried` something with the provider.
    """

    instance_id: UUID
    account_id: UUID
    lane: Lane
    due_at: datetime
    owed: Mapping[UUID, float] = field(default_factory=dict)
    answered: int = 0
    tried: bool = False
    tried_of_campaigns: int = 0
    came_back_of_campaigns: int = 0

    def count_answers(self, now: datetime, draw: float) -> None:
        """What a batch of outcomes means for the lane: the delay begins at the last thing that was tried."""
        lane = self.lane
        self.lane = replace(
            lane,
            in_flight=lane.in_flight - self.answered,
            sent_since_rest=lane.sent_since_rest + self.tried_of_campaigns,
            last_outcome_at=now if self.tried else lane.last_outcome_at,
            draw=draw if self.tried else lane.draw,
            warm_used=lane.warm_used - self.came_back_of_campaigns,
        )


def why_stopped(row: Row) -> str | None:
    """Why an instance cannot send at all; None if it can. `health` is what the provider said last."""
    if row["deleted"]:
        return "deleted"
    if not row["is_active"]:
        return "inactive"
    if row["status"] != "active":
        return str(row["status"])
    return row["health"] if row["health"] in ("banned", "account_disabled", "disconnected") else None


def read_lane(row: Row) -> LockedLane:
    stopped_by = why_stopped(row) if row["known"] else None
    lane = Lane(
        rate=row["rate"] or UNKNOWN_RATE,
        in_flight=row["in_flight"],
        sent_since_rest=row["sent_since_rest"],
        last_outcome_at=row["last_outcome_at"],
        draw=row["draw"],
        known=row["known"],
        usable=stopped_by is None,
        stopped_by=stopped_by,
        blocked_until=row["blocked_until"],
        blocked_by=row["blocked_by"],
        warm_allowance=row["warm_allowance"],
        warm_used=row["warm_used"],
        warm_until=row["warm_until"],
    )
    owed = {UUID(campaign): value for campaign, value in row["turns"].items()}
    return LockedLane(row["instance_id"], row["account_id"], lane, row["due_at"], owed)


async def lock_due(raw: asyncpg.Connection, limit: int) -> tuple[list[LockedLane], datetime | None]:
    """Due lanes that no other replica holds (index lane_due), and the database's time."""
    rows = await raw.fetch(_DUE, limit)
    return [read_lane(row) for row in rows], rows[0]["now"] if rows else None


async def lock(raw: asyncpg.Connection, instance_ids: Iterable[UUID]) -> dict[UUID, LockedLane]:
    """Waits for the locks, in order of id."""
    rows = await raw.fetch(_OF_INSTANCES, sorted(set(instance_ids)))
    return {row["instance_id"]: read_lane(row) for row in rows}


async def save(raw: asyncpg.Connection, lanes: Sequence[LockedLane]) -> None:
    if not lanes:
        return
    await raw.execute(
        _SAVE,
        [locked.instance_id for locked in lanes],
        [locked.due_at for locked in lanes],
        [locked.lane.last_outcome_at for locked in lanes],
        [locked.lane.draw for locked in lanes],
        [locked.lane.sent_since_rest for locked in lanes],
        [max(0, locked.lane.in_flight) for locked in lanes],
        [locked.lane.blocked_until for locked in lanes],
        [locked.lane.blocked_by for locked in lanes],
        [orjson.dumps({str(key): value for key, value in locked.owed.items()}).decode() for locked in lanes],
        [max(0, locked.lane.warm_used) for locked in lanes],
    )


def block(locked: LockedLane, until: datetime, reason: str) -> None:
    """Nothing leaves before `until`; a longer block stays."""
    current = locked.lane.blocked_until
    if current is None or current < until:
        locked.lane = replace(locked.lane, blocked_until=until, blocked_by=reason)


async def create(raw: asyncpg.Connection, owners: Mapping[UUID, UUID]) -> None:
    """`owners`: instance -> account."""
    await raw.execute(_CREATE, list(owners), list(owners.values()))


async def wake(raw: asyncpg.Connection, instance_ids: Iterable[UUID]) -> None:
    """In a transaction of its own: it locks lanes."""
    await raw.execute(_WAKE, list(instance_ids))


async def wake_campaigns(raw: asyncpg.Connection, campaign_ids: Iterable[UUID]) -> None:
    """In a transaction of its own: it locks lanes."""
    await raw.execute(_WAKE_CAMPAIGNS, list(campaign_ids))
