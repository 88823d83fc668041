"""Leases in PostgreSQL: taking, renewing and giving back an instance, on the database's clock."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from uuid import UUID

from chassis.database import Database, driver
from sender.lane.pace import FREE, Pace

# A row of one's own name is taken at once: a process that was killed has nothing under way any more, and if it was
# not killed, the higher epoch fences it.
_ACQUIRE = """
INSERT INTO instance_owner AS o (instance_id, account_id, epoch, owner, lease_until)
VALUES ($1, $2, 1, $3, clock_timestamp() + make_interval(secs => $4))
ON CONFLICT (instance_id) DO UPDATE
SET epoch = o.epoch + 1, owner = excluded.owner, lease_until = excluded.lease_until, account_id = excluded.account_id,
    released = false
WHERE o.lease_until < clock_timestamp() OR o.owner = excluded.owner
RETURNING o.epoch, coalesce(old.released, true) AS released,
  extract(epoch FROM greatest(o.tat - clock_timestamp(), interval '0'))::float8 AS wait_s,
  o.pace_cap, o.pace_refused, extract(epoch FROM o.pace_at)::float8 AS pace_at
"""
_RENEW = """
UPDATE instance_owner o SET lease_until = clock_timestamp() + make_interval(secs => $4)
FROM (SELECT instance_id, epoch FROM unnest($1::uuid[], $2::bigint[]) AS k(instance_id, epoch)
      ORDER BY instance_id) k
WHERE o.instance_id = k.instance_id AND o.epoch = k.epoch AND o.owner = $3 AND o.lease_until > clock_timestamp()
RETURNING o.instance_id
"""
_RELEASE = """
UPDATE instance_owner
SET lease_until = clock_timestamp(), released = true,
    tat = greatest(tat, clock_timestamp() + make_interval(secs => $4))
WHERE instance_id = $1 AND epoch = $2 AND owner = $3
"""


@dataclass(frozen=True, slots=True)
class Acquired:
    """`wait_s`: how far the stored limiter lies ahead of now; exact only if the last owner gave the lease back.
    `pace`: what the provider accepts, as the last owner found."""

    epoch: int
    wait_s: float
    released: bool
    pace: Pace = FREE


class Owners:
    """Leases of this process, named `owner`."""

    def __init__(self, database: Database, owner: str, lease_s: float) -> None:
        self._database = database
        self._owner = owner
        self._lease_s = lease_s

    async def acquire(self, instance_id: UUID, account_id: UUID) -> Acquired | None:
        """None while another owner's lease runs. Locks the row."""
        async with self._database.transaction() as connection:
            raw = await driver(connection)
            row = await raw.fetchrow(_ACQUIRE, instance_id, account_id, self._owner, self._lease_s)
        if row is None:
            return None
        pace = FREE if row["pace_cap"] is None else Pace(row["pace_cap"], row["pace_refused"], row["pace_at"])
        return Acquired(row["epoch"], row["wait_s"], row["released"], pace)

    async def renew(self, epochs: Mapping[UUID, int]) -> frozenset[UUID]:
        """The instances that are still ours. A lapsed lease is not renewed: its intents may be swept already."""
        if not epochs:
            return frozenset()
        ids: Sequence[UUID] = list(epochs)
        async with self._database.transaction() as connection:
            raw = await driver(connection)
            rows = await raw.fetch(_RENEW, ids, [epochs[key] for key in ids], self._owner, self._lease_s)
        return frozenset(row["instance_id"] for row in rows)

    async def release(self, instance_id: UUID, epoch: int, limiter_wait_s: float) -> None:
        """Lets the next owner begin at once, where our limiter stands. Nothing of ours may leave any more."""
        async with self._database.transaction() as connection:
            raw = await driver(connection)
            await raw.execute(_RELEASE, instance_id, epoch, self._owner, limiter_wait_s)
