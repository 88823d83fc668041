"""What the intent transaction locks and loads: owners, gates (sorted), quotas, ledger, always in this order."""

from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass, field
from uuid import UUID

import asyncpg

from sender.instance.ownership import OwnerRow
from sender.lane.quota import WINDOW_S, Quota
from sender.ledger.delivery import Gate, GateKey, LedgerEntry
from sender.ledger.erasure import FORGOTTEN_KEY
from sender.work import Group

LOCK_OWNERS = """
SELECT instance_id, epoch, extract(epoch FROM tat)::float8 AS tat, extract(epoch FROM clock_timestamp())::float8 AS now
FROM instance_owner WHERE instance_id = ANY($1::uuid[]) ORDER BY instance_id FOR NO KEY UPDATE
"""
# Shares the gates' rows: closing one waits for us, we wait for one that is just being closed.
_GATES = """
SELECT g.scope, g.key, g.closed_through, g.cancelled, g.held,
       CASE WHEN g.stopped_reason IS NOT NULL
            THEN coalesce(extract(epoch FROM g.stopped_until)::float8, 'infinity') END AS stopped_until
FROM gate g JOIN unnest($1::text[], $2::text[]) AS k(scope, key) ON g.scope = k.scope AND g.key = k.key
ORDER BY g.scope, g.key FOR SHARE OF g
"""
_LEDGER = f"""
SELECT k.account_id, k.dispatch_id, k.recipient_key, o.account_id IS NOT NULL AS opted_out, a.attempt, a.state,
       a.release, a.epoch, a.reason, a.returned, a.counts, a.code, a.detail, a.not_before, a.outcome_at,
       a.provider_message_id, a.address, a.evidence, a.delivered
FROM unnest($1::uuid[], $2::uuid[], $3::text[]) AS k(account_id, dispatch_id, recipient_key)
LEFT JOIN attempt a ON a.account_id = k.account_id AND a.dispatch_id = k.dispatch_id
LEFT JOIN LATERAL (
  SELECT o.account_id FROM opt_out o
  WHERE o.account_id = k.account_id
    AND o.recipient_key IN (k.recipient_key, {FORGOTTEN_KEY.format(account="k.account_id", key="k.recipient_key")})
  LIMIT 1) o ON true
WHERE a.dispatch_id IS NOT NULL OR o.account_id IS NOT NULL
"""  # noqa: S608  a constant
_PAIRS = """
SELECT k.instance_id, k.recipient_key, extract(epoch FROM a.intent_at)::float8 AS at
FROM unnest($1::uuid[], $2::text[]) AS k(instance_id, recipient_key)
JOIN attempt a ON a.instance_id = k.instance_id AND a.recipient_key = k.recipient_key
WHERE a.intent_at > now() - interval '1 hour' ORDER BY a.intent_at
"""
# Locks the quotas' rows; what they count is read by the next statement, whose snapshot is younger than the lock.
_QUOTAS = """
SELECT q.account_id, q.scope, q.used
FROM quota q JOIN unnest($1::uuid[], $2::text[]) AS k(account_id, scope)
  ON q.account_id = k.account_id AND q.scope = k.scope
ORDER BY q.account_id, q.scope FOR NO KEY UPDATE OF q
"""
_EXPIRE = """
DELETE FROM quota_seen s USING unnest($1::uuid[], $2::text[]) AS k(account_id, scope)
WHERE s.account_id = k.account_id AND s.scope = k.scope AND s.last_at <= now() - make_interval(secs => $3)
RETURNING s.account_id, s.scope
"""
_OLDEST = """
SELECT k.account_id, k.scope, extract(epoch FROM min(s.last_at))::float8 AS oldest
FROM unnest($1::uuid[], $2::text[]) AS k(account_id, scope)
LEFT JOIN LATERAL (SELECT last_at FROM quota_seen s WHERE s.account_id = k.account_id AND s.scope = k.scope
                   ORDER BY last_at LIMIT 1) s ON true
GROUP BY 1, 2
"""
_SEEN = """
SELECT k.account_id, k.scope, k.instance_id, k.recipient_key, extract(epoch FROM s.last_at)::float8 AS last_at,
       w.open_until IS NOT NULL AS exempt
FROM unnest($1::uuid[], $2::text[], $3::uuid[], $4::text[]) AS k(account_id, scope, instance_id, recipient_key)
LEFT JOIN quota_seen s ON s.account_id = k.account_id AND s.scope = k.scope AND s.recipient_key = k.recipient_key
LEFT JOIN service_window w ON w.account_id = k.account_id AND w.instance_id = k.instance_id
  AND w.recipient_key = k.recipient_key AND w.open_until > now()
WHERE s.last_at IS NOT NULL OR w.open_until IS NOT NULL
"""

QuotaKey = tuple[UUID, str]


@dataclass(slots=True)
class Locked:
    """What one transaction has loaded for all its groups. `windows`: (instance, recipient) with an open service window,
    who does not count; the window is the number's own, also where numbers share a quota."""

    now_s: float = 0.0
    owners: dict[UUID, OwnerRow] = field(default_factory=dict)
    gates: dict[GateKey, Gate] = field(default_factory=dict)
    ledger: dict[UUID, list[LedgerEntry]] = field(default_factory=lambda: defaultdict(list))
    opted_out: set[tuple[UUID, str]] = field(default_factory=set)
    pairs: dict[tuple[UUID, str], list[float]] = field(default_factory=lambda: defaultdict(list))
    quotas: dict[QuotaKey, Quota] = field(default_factory=dict)
    windows: set[tuple[UUID, str]] = field(default_factory=set)


class MissingGate(Exception):
    """A gate's row that was made is gone: rows of `gate` must never be deleted."""


async def load(raw: asyncpg.Connection, groups: Sequence[Group]) -> Locked:
    """All that the groups' decisions need, locked in the one order: owners, gates, quotas, ledger."""
    locked = Locked()
    for row in await raw.fetch(LOCK_OWNERS, [group.instance.instance_id for group in groups]):
        locked.owners[row["instance_id"]] = OwnerRow(row["epoch"], row["tat"])
        locked.now_s = row["now"]
    gates = sorted({key for group in groups for work in group.works for key in work.gates})
    for row in await raw.fetch(_GATES, [key[0] for key in gates], [key[1] for key in gates]):
        locked.gates[row["scope"], row["key"]] = Gate(
            row["closed_through"], row["cancelled"], row["held"], row["stopped_until"]
        )
    if len(locked.gates) < len(gates):
        raise MissingGate(str(set(gates) - set(locked.gates)))
    await _load_quotas(raw, groups, locked)
    await _load_ledger(raw, groups, locked)
    return locked


def quota_key(group: Group) -> QuotaKey:
    return group.instance.account_id, group.instance.quota_scope


async def _load_quotas(raw: asyncpg.Connection, groups: Sequence[Group], locked: Locked) -> None:
    limits: dict[QuotaKey, int] = {}
    for group in groups:
        if (limit := group.instance.quota_limit) is not None:
            limits[quota_key(group)] = min(limit, limits.get(quota_key(group), limit))
    keys = sorted(limits)
    if not keys:
        return
    accounts, scopes = [key[0] for key in keys], [key[1] for key in keys]
    used = {(row["account_id"], row["scope"]): row["used"] for row in await raw.fetch(_QUOTAS, accounts, scopes)}
    for row in await raw.fetch(_EXPIRE, accounts, scopes, float(WINDOW_S)):
        used[row["account_id"], row["scope"]] -= 1
    oldest = {(row["account_id"], row["scope"]): row["oldest"] for row in await raw.fetch(_OLDEST, accounts, scopes)}
    wanted = [
        (*quota_key(group), group.instance.instance_id, work.recipient)
        for group in groups
        if quota_key(group) in limits
        for work in group.works
    ]
    seen: dict[QuotaKey, dict[str, float]] = defaultdict(dict)
    for row in await raw.fetch(_SEEN, *map(list, zip(*wanted, strict=True))):
        key = row["account_id"], row["scope"]
        if row["last_at"] is not None:
            seen[key][row["recipient_key"]] = row["last_at"]
        if row["exempt"]:
            locked.windows.add((row["instance_id"], row["recipient_key"]))
    for key in keys:
        locked.quotas[key] = Quota(limits[key], used[key], oldest.get(key), seen[key])


async def _load_ledger(raw: asyncpg.Connection, groups: Sequence[Group], locked: Locked) -> None:
    works = [work for group in groups for work in group.works]
    rows = await raw.fetch(
        _LEDGER,
        [work.account_id for work in works],
        [work.message.dispatch_id for work in works],
        [work.recipient for work in works],
    )
    for row in rows:
        if row["opted_out"]:
            locked.opted_out.add((row["account_id"], row["recipient_key"]))
        if row["attempt"] is not None:
            locked.ledger[row["dispatch_id"]].append(read_entry(row))
    unknown = {
        (group.instance.instance_id, work.recipient)
        for group in groups
        if not group.pairs_complete
        for work in group.works
        if work.recipient not in group.pairs
    }
    if unknown:
        for row in await raw.fetch(_PAIRS, [key[0] for key in unknown], [key[1] for key in unknown]):
            locked.pairs[row["instance_id"], row["recipient_key"]].append(row["at"])


def read_entry(row: asyncpg.Record) -> LedgerEntry:
    return LedgerEntry(
        attempt=row["attempt"],
        state=row["state"],
        release=row["release"],
        epoch=row["epoch"],
        reason=row["reason"],
        returned=row["returned"],
        counts=row["counts"],
        code=row["code"],
        detail=row["detail"],
        not_before=row["not_before"],
        outcome_at=row["outcome_at"],
        provider_message_id=row["provider_message_id"],
        address=row["address"],
        evidence=row["evidence"],
        delivered=row["delivered"],
    )
