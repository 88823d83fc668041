"""The intent transaction: lock and load owner, gates, quota, ledger, always in this order; decide; write once.

Groups of several lanes share a transaction, because its round trips are what an intent costs.
"""

from collections import defaultdict
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from uuid import UUID

import asyncpg

from chassis.database import Database, driver
from sender import delivery, throttle
from sender.delivery import Admission, Gate, GateKey, Intend, LedgerEntry, Limiter, Loaded
from sender.ownership import OwnerRow
from sender.quota import WINDOW_S, Quota
from sender.reconcile import hash_text
from sender.work import Group

# Locks the owners' rows. The planner must not take a ledger that has no statistics yet for a small table.
_OWNERS = """
SELECT instance_id, epoch, extract(epoch FROM tat)::float8 AS tat, extract(epoch FROM clock_timestamp())::float8 AS now,
       set_config('enable_seqscan', 'off', true)
FROM instance_owner WHERE instance_id = ANY($1::uuid[]) ORDER BY instance_id FOR NO KEY UPDATE
"""
# Shares the gates' rows: closing one waits for us, we wait for one that is just being closed.
_GATES = """
SELECT g.scope, g.key, g.closed_through, g.cancelled, g.held
FROM gate g JOIN unnest($1::text[], $2::text[]) AS k(scope, key) ON g.scope = k.scope AND g.key = k.key
ORDER BY g.scope, g.key FOR SHARE OF g
"""
_MAKE_GATES = """
INSERT INTO gate (scope, key) SELECT * FROM unnest($1::text[], $2::text[]) AS k(scope, key) ORDER BY scope, key
ON CONFLICT DO NOTHING
"""
_LEDGER = """
SELECT k.account_id, k.dispatch_id, k.recipient_key, o.account_id IS NOT NULL AS opted_out, a.attempt, a.state,
       a.release, a.epoch, a.reason, a.returned, a.counts, a.code, a.detail, a.not_before, a.outcome_at,
       a.provider_message_id, a.address, a.evidence, a.delivered
FROM unnest($1::uuid[], $2::uuid[], $3::text[]) AS k(account_id, dispatch_id, recipient_key)
LEFT JOIN attempt a ON a.account_id = k.account_id AND a.dispatch_id = k.dispatch_id
LEFT JOIN opt_out o ON o.account_id = k.account_id AND o.recipient_key = k.recipient_key
WHERE a.dispatch_id IS NOT NULL OR o.account_id IS NOT NULL
"""
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
_MAKE_QUOTAS = """
INSERT INTO quota (account_id, scope) SELECT * FROM unnest($1::uuid[], $2::text[]) AS k(account_id, scope)
ORDER BY account_id, scope ON CONFLICT DO NOTHING
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
SELECT k.account_id, k.scope, k.recipient_key, extract(epoch FROM s.last_at)::float8 AS last_at,
       w.open_until IS NOT NULL AS exempt
FROM unnest($1::uuid[], $2::text[], $3::uuid[], $4::text[]) AS k(account_id, scope, instance_id, recipient_key)
LEFT JOIN quota_seen s ON s.account_id = k.account_id AND s.scope = k.scope AND s.recipient_key = k.recipient_key
LEFT JOIN service_window w ON w.account_id = k.account_id AND w.instance_id = k.instance_id
  AND w.recipient_key = k.recipient_key AND w.open_until > now()
WHERE s.last_at IS NOT NULL OR w.open_until IS NOT NULL
"""
_CHARGE = """
WITH counts AS (
  UPDATE quota q SET used = k.used FROM unnest($1::uuid[], $2::text[], $3::int[]) AS k(account_id, scope, used)
  WHERE q.account_id = k.account_id AND q.scope = k.scope
)
INSERT INTO quota_seen (account_id, scope, recipient_key, last_at)
SELECT k.account_id, k.scope, k.recipient_key, now()
FROM unnest($4::uuid[], $5::text[], $6::text[]) AS k(account_id, scope, recipient_key)
ON CONFLICT (account_id, scope, recipient_key) DO UPDATE SET last_at = excluded.last_at
"""
# An attempt that we returned at departure, or whose commit ended unknown to ourselves, may be made again.
_WRITE = """
WITH limiters AS (
  UPDATE instance_owner o SET tat = to_timestamp(k.tat) FROM unnest($1::uuid[], $2::float8[]) AS k(instance_id, tat)
  WHERE o.instance_id = k.instance_id
)
INSERT INTO attempt AS a (account_id, dispatch_id, attempt, release, instance_id, campaign_id, run_epoch, epoch,
  recipient_key, text_hash, state, intent_at, times_out_at, quota_scope, may_duplicate, traceparent, queued)
SELECT account_id, dispatch_id, attempt, release, instance_id, campaign_id, run_epoch, epoch, recipient_key, text_hash,
  'intent', now(), now() + make_interval(secs => times_out_s), quota_scope, may_duplicate, traceparent, queued
FROM unnest($3::uuid[], $4::uuid[], $5::int[], $6::int[], $7::uuid[], $8::uuid[], $9::int[], $10::bigint[],
  $11::text[], $12::bigint[], $13::float8[], $14::text[], $15::bool[], $16::text[], $17::bytea[], $18::bool[])
  AS k(account_id, dispatch_id, attempt, release, instance_id, campaign_id, run_epoch, epoch, recipient_key,
       text_hash, times_out_s, quota_scope, may_duplicate, traceparent, queued, retaken)
ORDER BY dispatch_id, attempt
ON CONFLICT (account_id, dispatch_id, attempt) DO UPDATE
SET release = excluded.release, instance_id = excluded.instance_id, run_epoch = excluded.run_epoch,
    epoch = excluded.epoch, state = 'intent', intent_at = excluded.intent_at, times_out_at = excluded.times_out_at,
    quota_scope = excluded.quota_scope, queued = excluded.queued, returned = false, reason = NULL, not_before = NULL,
    outcome_at = NULL, traceparent = excluded.traceparent
WHERE (a.state = 'not_sent' AND a.returned AND a.release < excluded.release)
   OR (a.state = 'intent' AND a.epoch = excluded.epoch AND a.release = excluded.release)
RETURNING dispatch_id, attempt
"""

QuotaKey = tuple[UUID, str]


@dataclass(slots=True)
class _Locked:
    """What one transaction has loaded for all its groups."""

    now_s: float = 0.0
    owners: dict[UUID, OwnerRow] = field(default_factory=dict)
    gates: dict[GateKey, Gate] = field(default_factory=dict)
    ledger: dict[UUID, list[LedgerEntry]] = field(default_factory=lambda: defaultdict(list))
    opted_out: set[tuple[UUID, str]] = field(default_factory=set)
    pairs: dict[tuple[UUID, str], list[float]] = field(default_factory=lambda: defaultdict(list))
    quotas: dict[QuotaKey, Quota] = field(default_factory=dict)


class IntentStore:
    """Runs intent transactions. `crash_point` is called before and after the commit."""

    def __init__(self, database: Database, horizon_s: float, crash_point: Callable[[str], None]) -> None:
        self._database = database
        self._horizon_s = horizon_s
        self._crash_point = crash_point
        self._made: set[GateKey] = set()
        self._made_quotas: set[QuotaKey] = set()

    async def commit(self, groups: Sequence[Group]) -> list[Admission]:
        """One admission per group, durable. Raises what the database raises; then nothing may be sent."""
        await self._make_rows(groups)
        async with self._database.transaction() as connection:
            raw = await driver(connection)
            locked = await self._load(raw, groups)
            admissions = [self._admit(group, locked) for group in groups]
            lost = await _write(raw, groups, admissions)
            await _charge(raw, groups, admissions, locked)
            self._crash_point("before_intent_commit")
        self._crash_point("after_intent")
        return [_without(group, admission, lost) for group, admission in zip(groups, admissions, strict=True)]

    async def _make_rows(self, groups: Sequence[Group]) -> None:
        """Rows are made before they are locked, in transactions of their own."""
        gates = {key for group in groups for work in group.works for key in work.gates} - self._made
        quotas = {_quota_key(group) for group in groups if group.instance.quota_limit is not None} - self._made_quotas
        if not gates and not quotas:
            return
        async with self._database.transaction() as connection:
            raw = await driver(connection)
            await raw.execute(_MAKE_GATES, [key[0] for key in gates], [key[1] for key in gates])
            await raw.execute(_MAKE_QUOTAS, [key[0] for key in quotas], [key[1] for key in quotas])
        self._made |= gates
        self._made_quotas |= quotas

    async def _load(self, raw: asyncpg.Connection, groups: Sequence[Group]) -> _Locked:
        locked = _Locked()
        for row in await raw.fetch(_OWNERS, [group.instance.instance_id for group in groups]):
            locked.owners[row["instance_id"]] = OwnerRow(row["epoch"], row["tat"])
            locked.now_s = row["now"]
        gates = sorted({key for group in groups for work in group.works for key in work.gates})
        for row in await raw.fetch(_GATES, [key[0] for key in gates], [key[1] for key in gates]):
            locked.gates[row["scope"], row["key"]] = Gate(row["closed_through"], row["cancelled"], row["held"])
        if len(locked.gates) < len(gates):
            raise MissingGate(str(set(gates) - set(locked.gates)))
        await _load_quotas(raw, groups, locked)
        await _load_ledger(raw, groups, locked)
        return locked

    def _admit(self, group: Group, locked: _Locked) -> Admission:
        instance = group.instance
        owner = locked.owners.get(instance.instance_id)
        pairs = dict(group.pairs)
        for (instance_id, recipient), sent_at in locked.pairs.items():
            if instance_id == instance.instance_id:
                pairs[recipient] = throttle.replay(sent_at, instance.pair_rate)
        quota = locked.quotas.get(_quota_key(group), Quota(limit=None))
        loaded = Loaded(
            owner=owner,
            gates=locked.gates,
            ledger=locked.ledger,
            opted_out=frozenset(locked.opted_out),
            quota=quota,
            limiter=Limiter(instance.rate, instance.pair_rate, owner.tat_s if owner else 0.0, pairs, self._horizon_s),
        )
        admission = delivery.admit([work.candidate() for work in group.works], group.epoch, loaded, locked.now_s)
        if _quota_key(group) in locked.quotas:
            locked.quotas[_quota_key(group)] = admission.quota
        return admission


class MissingGate(Exception):
    """A gate's row that was made is gone: rows of `gate` must never be deleted."""


def _quota_key(group: Group) -> QuotaKey:
    return group.instance.account_id, group.instance.quota_scope


async def _load_quotas(raw: asyncpg.Connection, groups: Sequence[Group], locked: _Locked) -> None:
    limits = {_quota_key(group): group.instance.quota_limit for group in groups}
    keys = sorted(key for key, limit in limits.items() if limit is not None)
    if not keys:
        return
    accounts, scopes = [key[0] for key in keys], [key[1] for key in keys]
    used = {(row["account_id"], row["scope"]): row["used"] for row in await raw.fetch(_QUOTAS, accounts, scopes)}
    for row in await raw.fetch(_EXPIRE, accounts, scopes, float(WINDOW_S)):
        used[row["account_id"], row["scope"]] -= 1
    oldest = {(row["account_id"], row["scope"]): row["oldest"] for row in await raw.fetch(_OLDEST, accounts, scopes)}
    wanted = [
        (*_quota_key(group), group.instance.instance_id, work.recipient)
        for group in groups
        if group.instance.quota_limit is not None
        for work in group.works
    ]
    seen: dict[QuotaKey, dict[str, float]] = defaultdict(dict)
    exempt: dict[QuotaKey, set[str]] = defaultdict(set)
    for row in await raw.fetch(_SEEN, *map(list, zip(*wanted, strict=True))):
        key = row["account_id"], row["scope"]
        if row["last_at"] is not None:
            seen[key][row["recipient_key"]] = row["last_at"]
        if row["exempt"]:
            exempt[key].add(row["recipient_key"])
    for key in keys:
        locked.quotas[key] = Quota(limits[key], used[key], oldest.get(key), seen[key], frozenset(exempt[key]))


async def _load_ledger(raw: asyncpg.Connection, groups: Sequence[Group], locked: _Locked) -> None:
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


async def _write(
    raw: asyncpg.Connection, groups: Sequence[Group], admissions: Sequence[Admission]
) -> frozenset[tuple[UUID, int]]:
    """Writes intents and limiters; the intents that another transaction had written at the same time."""
    rows = []
    for group, admission in zip(groups, admissions, strict=True):
        instance = group.instance
        for work, times_out_s, decision in zip(group.works, group.times_out_s, admission.decisions, strict=True):
            if isinstance(decision, Intend):
                message = work.message
                rows.append((
                    work.account_id, message.dispatch_id, message.attempt, message.release, instance.instance_id,
                    message.campaign_id, message.run_epoch, group.epoch, work.recipient,
                    None if instance.labelled else hash_text(message.content.text), times_out_s,
                    instance.quota_scope if decision.charged else None, message.may_duplicate, work.traceparent,
                    work.value, work.retaken,
                ))  # fmt: skip
    if not rows:
        return frozenset()
    written = await raw.fetch(
        _WRITE,
        [group.instance.instance_id for group in groups],
        [admission.tat_s for admission in admissions],
        *map(list, zip(*rows, strict=True)),
    )
    if len(written) == len(rows):
        return frozenset()
    return frozenset((row[1], row[2]) for row in rows) - {(row["dispatch_id"], row["attempt"]) for row in written}


async def _charge(
    raw: asyncpg.Connection, groups: Sequence[Group], admissions: Sequence[Admission], locked: _Locked
) -> None:
    if not locked.quotas:
        return
    seen = {
        (*_quota_key(group), work.recipient)
        for group, admission in zip(groups, admissions, strict=True)
        for work, decision in zip(group.works, admission.decisions, strict=True)
        if isinstance(decision, Intend) and group.instance.quota_limit is not None
        and work.recipient not in locked.quotas[_quota_key(group)].exempt
    }  # fmt: skip
    keys = list(locked.quotas)
    await raw.execute(
        _CHARGE,
        [key[0] for key in keys],
        [key[1] for key in keys],
        [locked.quotas[key].used for key in keys],
        [key[0] for key in seen],
        [key[1] for key in seen],
        [key[2] for key in seen],
    )


def _without(group: Group, admission: Admission, lost: frozenset[tuple[UUID, int]]) -> Admission:
    if not lost:
        return admission
    decisions = tuple(
        delivery.AlreadyInFlight()
        if isinstance(decision, Intend) and (work.message.dispatch_id, work.message.attempt) in lost
        else decision
        for work, decision in zip(group.works, admission.decisions, strict=True)
    )
    return Admission(decisions, admission.tat_s, admission.pairs, admission.quota)
