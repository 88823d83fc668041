"""The intent transaction: lock and load (see loading), decide, write once.

Groups of several lanes share a transaction, because its round trips are what an intent costs.
"""

from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import Any
from uuid import UUID

import asyncpg

from chassis.database import Database, driver
from sender.lane import throttle
from sender.lane.quota import Quota
from sender.ledger import delivery
from sender.ledger.delivery import Admission, GateKey, Intend, Limiter, Loaded
from sender.ledger.loading import LOCK_OWNERS, Locked, QuotaKey, load, quota_key
from sender.settlement.reconcile import hash_text
from sender.work import Group, Work, own_message_id

_MAKE_GATES = """
INSERT INTO gate (scope, key) SELECT * FROM unnest($1::text[], $2::text[]) AS k(scope, key) ORDER BY scope, key
ON CONFLICT DO NOTHING
"""
_MAKE_QUOTAS = """
INSERT INTO quota (account_id, scope) SELECT * FROM unnest($1::uuid[], $2::text[]) AS k(account_id, scope)
ORDER BY account_id, scope ON CONFLICT DO NOTHING
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
  recipient_key, text_hash, state, intent_at, times_out_at, quota_scope, may_duplicate, traceparent, queued,
  provider_message_id)
SELECT account_id, dispatch_id, attempt, release, instance_id, campaign_id, run_epoch, epoch, recipient_key, text_hash,
  'intent', now(), now() + make_interval(secs => times_out_s), quota_scope, may_duplicate, traceparent, queued, own_id
FROM unnest($3::uuid[], $4::uuid[], $5::int[], $6::int[], $7::uuid[], $8::uuid[], $9::int[], $10::bigint[],
  $11::text[], $12::bigint[], $13::float8[], $14::text[], $15::bool[], $16::text[], $17::bytea[], $18::bool[],
  $19::text[])
  AS k(account_id, dispatch_id, attempt, release, instance_id, campaign_id, run_epoch, epoch, recipient_key,
       text_hash, times_out_s, quota_scope, may_duplicate, traceparent, queued, retaken, own_id)
ORDER BY dispatch_id, attempt
ON CONFLICT (account_id, dispatch_id, attempt) DO UPDATE
SET release = excluded.release, instance_id = excluded.instance_id, run_epoch = excluded.run_epoch,
    epoch = excluded.epoch, state = 'intent', intent_at = excluded.intent_at, times_out_at = excluded.times_out_at,
    quota_scope = excluded.quota_scope, queued = excluded.queued, returned = false, reason = NULL, not_before = NULL,
    outcome_at = NULL, traceparent = excluded.traceparent, provider_message_id = excluded.provider_message_id
WHERE (a.state = 'not_sent' AND a.returned AND a.release < excluded.release)
   OR (a.state = 'intent' AND a.instance_id = excluded.instance_id AND a.epoch = excluded.epoch
       AND a.release = excluded.release)
RETURNING dispatch_id, attempt
"""


# Only what is still at intent of that very release and epoch; the rest was never written, or is another's by now.
_WITHDRAW = """
UPDATE attempt a SET state = 'not_sent', returned = true, reason = k.reason, outcome_at = now()
FROM unnest($1::uuid[], $2::uuid[], $3::int[], $4::int[], $5::text[])
  AS k(account_id, dispatch_id, attempt, release, reason)
WHERE a.account_id = k.account_id AND a.dispatch_id = k.dispatch_id AND a.attempt = k.attempt
  AND a.release = k.release AND a.state = 'intent' AND a.epoch = $6
"""
_STILL_OPEN = """
SELECT a.dispatch_id
FROM attempt a JOIN unnest($1::uuid[], $2::uuid[], $3::int[]) AS k(account_id, dispatch_id, attempt)
  ON a.account_id = k.account_id AND a.dispatch_id = k.dispatch_id AND a.attempt = k.attempt
WHERE a.state IN ('intent', 'ambiguous')
"""


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
            locked = await load(raw, groups)
            admissions = [self._admit(group, locked) for group in groups]
            lost = await _write(raw, groups, admissions)
            await _charge(raw, groups, admissions, locked)
            self._crash_point("before_intent_commit")
        self._crash_point("after_intent")
        return [_without(group, admission, lost) for group, admission in zip(groups, admissions, strict=True)]

    async def withdraw(self, instance_id: UUID, epoch: int, refused: Sequence[tuple[Work, str]]) -> frozenset[UUID]:
        """Ends the intents that a commit of unknown end may have left, of messages that are refused now and have
        certainly not left; else a pause would wait for their outcome for ever. The dispatches whose outcome somebody
        else will tell. A charge stays, which errs on the safe side."""
        keys = [(work.account_id, work.message.dispatch_id, work.message.attempt) for work, _ in refused]
        keyed: list[list[Any]] = list(map(list, zip(*keys, strict=True)))
        releases, reasons = [work.message.release for work, _ in refused], [reason for _, reason in refused]
        async with self._database.transaction() as connection:
            raw = await driver(connection)
            await raw.execute(LOCK_OWNERS, [instance_id])  # waits for that commit, should it still be under way
            await raw.execute(_WITHDRAW, *keyed, releases, reasons, epoch)
            return frozenset(row["dispatch_id"] for row in await raw.fetch(_STILL_OPEN, *keyed))

    async def _make_rows(self, groups: Sequence[Group]) -> None:
        """Rows are made before they are locked, in transactions of their own."""
        gates = {key for group in groups for work in group.works for key in work.gates} - self._made
        quotas = {quota_key(group) for group in groups if group.instance.quota_limit is not None} - self._made_quotas
        if not gates and not quotas:
            return
        async with self._database.transaction() as connection:
            raw = await driver(connection)
            await raw.execute(_MAKE_GATES, [key[0] for key in gates], [key[1] for key in gates])
            await raw.execute(_MAKE_QUOTAS, [key[0] for key in quotas], [key[1] for key in quotas])
        self._made |= gates
        self._made_quotas |= quotas

    def _admit(self, group: Group, locked: Locked) -> Admission:
        instance = group.instance
        owner = locked.owners.get(instance.instance_id)
        known = group.pairs
        pairs = {work.recipient: known[work.recipient] for work in group.works if work.recipient in known}
        for (instance_id, recipient), sent_at in locked.pairs.items():
            if instance_id == instance.instance_id:
                pairs[recipient] = throttle.replay(sent_at, instance.pair_rate)
        exempt = frozenset(who for number, who in locked.windows if number == instance.instance_id)
        quota = replace(locked.quotas.get(quota_key(group), Quota(limit=None)), exempt=exempt)
        loaded = Loaded(
            owner=owner,
            gates=locked.gates,
            ledger=locked.ledger,
            opted_out=frozenset(locked.opted_out),
            quota=quota,
            limiter=Limiter(instance.rate, instance.pair_rate, owner.tat_s if owner else 0.0, pairs, self._horizon_s),
        )
        admission = delivery.admit([work.candidate() for work in group.works], group.epoch, loaded, locked.now_s)
        if quota_key(group) in locked.quotas:
            locked.quotas[quota_key(group)] = admission.quota
        return admission


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
                    work.value, work.retaken, own_message_id(message, instance),
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
    raw: asyncpg.Connection, groups: Sequence[Group], admissions: Sequence[Admission], locked: Locked
) -> None:
    if not locked.quotas:
        return
    seen = {
        (*quota_key(group), work.recipient)
        for group, admission in zip(groups, admissions, strict=True)
        for work, decision in zip(group.works, admission.decisions, strict=True)
        if isinstance(decision, Intend) and quota_key(group) in locked.quotas
        and (group.instance.instance_id, work.recipient) not in locked.windows
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
    return Admission(decisions, admission.tat_s, admission.pairs, admission.quota, admission.at_s)
