"""Settling attempts outside the fast path: by evidence, by the sweep, or by an answer that came too late.

One transaction locks the attempts, decides by `attempt.record`, writes, and leaves what is to be told in the outbox,
because no offset stands behind it.
"""

from collections.abc import Mapping, Sequence
from datetime import datetime
from typing import Any
from uuid import UUID

import asyncpg
from sqlalchemy.ext.asyncio import AsyncConnection

from chassis.database import driver
from chassis.kafka import Outgoing
from chassis.outbox import append
from sender.instance.counts import Counts
from sender.instance.rules import UNEXPLAINED
from sender.ledger.answers import About, tell, write_address
from sender.ledger.attempt import Finding, NeverLeft, NoAnswer, NoEvidence, State, WasAccepted, WasRejected, record
from sender.settlement.consequences import Consequence, follow_up
from sender.work import read_queued

Key = tuple[UUID, UUID, int]  # account, dispatch, attempt

# Locks the attempts in the order of their key.
_LOCK = """
SELECT a.account_id, a.dispatch_id, a.attempt, a.release, a.instance_id, a.state, a.delivered, a.queued, a.traceparent,
       a.provider_message_id, a.quota_scope, a.recipient_key, a.intent_at
FROM attempt a JOIN unnest($1::uuid[], $2::uuid[], $3::int[]) AS k(account_id, dispatch_id, attempt)
  ON a.account_id = k.account_id AND a.dispatch_id = k.dispatch_id AND a.attempt = k.attempt
ORDER BY a.account_id, a.dispatch_id, a.attempt FOR UPDATE OF a
"""
_WRITE = """
UPDATE attempt a
SET state = k.state, provider_message_id = coalesce(k.provider_message_id, a.provider_message_id),
    address = coalesce(k.address, a.address), reason = k.reason, returned = k.returned, counts = k.counts,
    code = k.code, detail = k.detail, not_before = k.not_before, evidence = k.evidence,
    delivered = a.delivered OR k.delivered, outcome_at = $15
FROM unnest($1::uuid[], $2::uuid[], $3::int[], $4::text[], $5::text[], $6::bytea[], $7::text[], $8::bool[], $9::bool[],
            $10::text[], $11::text[], $12::timestamptz[], $13::text[], $14::bool[])
  AS k(account_id, dispatch_id, attempt, state, provider_message_id, address, reason, returned, counts, code, detail,
       not_before, evidence, delivered)
WHERE a.account_id = k.account_id AND a.dispatch_id = k.dispatch_id AND a.attempt = k.attempt
"""
_HEARD = """
WITH heard AS (
  UPDATE attempt a SET reported = true, delivered = a.delivered OR k.arrived
  FROM unnest($1::uuid[], $2::uuid[], $3::int[], $4::bool[]) AS k(account_id, dispatch_id, attempt, arrived)
  WHERE a.account_id = k.account_id AND a.dispatch_id = k.dispatch_id AND a.attempt = k.attempt
    AND (NOT a.reported OR k.arrived AND NOT a.delivered)
  RETURNING new.instance_id, new.account_id, NOT old.reported AS sent, new.delivered AND NOT old.delivered AS delivered
)
SELECT instance_id, account_id, count(*) FILTER (WHERE sent) AS sent, count(*) FILTER (WHERE delivered) AS delivered
FROM heard GROUP BY 1, 2
"""
REPORTED_BY = frozenset({"label", "bound_id"})  # a provider's status


def columns(finding: Finding) -> tuple[Any, ...]:
    """What a finding leaves in the ledger, in the order of `_WRITE`'s columns after the state."""
    match finding:
        case WasAccepted(provider_message_id=identity, address=address, by=by, delivered=delivered):
            return (identity, write_address(address), None, False, True, None, "", None, by, delivered)
        case WasRejected(reason=reason, counts=counts, code=code, detail=detail, not_before=not_before, by=by):
            return (None, None, reason, False, counts, code, detail, not_before, by, False)
        case NeverLeft(reason=reason, returned=was_returned, not_before=not_before):
            return (None, None, reason, was_returned, False, None, "", not_before, None, False)
        case NoAnswer(reason=reason):
            return (None, None, reason, False, True, None, "", None, None, False)
        case NoEvidence():
            return (None, None, "no_evidence", False, True, None, "", None, "none", False)


async def settle(
    connection: AsyncConnection, findings: Sequence[tuple[Key, Finding]], now: datetime, counts: Counts | None = None
) -> tuple[list[Outgoing], list[Consequence]]:
    """Applies findings, several of one attempt in their order; what moved is in the outbox when this commits.

    Findings of unknown attempts do nothing. Gives also what was told, and what it asks for beyond the messages.
    `counts`: where statuses are among the findings, what they newly taught.
    """
    raw = await driver(connection)
    by_key: dict[Key, list[Finding]] = {}
    for key, finding in findings:
        by_key.setdefault(key, []).append(finding)
    rows = await raw.fetch(_LOCK, *_split(list(by_key), 3))
    writes: dict[Key, tuple[Any, ...]] = {}
    told: list[Outgoing] = []
    heard: dict[Key, bool] = {}
    consequences: list[Consequence] = []
    for row in rows:
        key = (row["account_id"], row["dispatch_id"], row["attempt"])
        state: State = row["state"]
        arrived = row["delivered"]
        for finding in by_key[key]:
            after = record(state, arrived, finding)
            if isinstance(finding, WasAccepted) and finding.by in REPORTED_BY:
                heard[key] = heard.get(key, False) or finding.delivered
                arrived = arrived or finding.delivered
            if after is not None:
                if counts is not None and is_unexplained(finding):
                    counts.add(row["instance_id"], key[0], errors=1)
                writes[key] = (*key, after, *columns(finding))
                about = read_about(row)
                told.append(tell(about, state, finding, now))
                consequences += follow_up(
                    finding, about.message, key[0], quota_scope=row["quota_scope"], recipient=row["recipient_key"],
                    intent_at=row["intent_at"], now=now,
                )  # fmt: skip
                state = after
    await note_heard(raw, heard, counts)
    if writes:
        await raw.execute(_WRITE, *_split(list(writes.values()), 14), now)
    await append(connection, told)
    return told, consequences


async def note_heard(raw: asyncpg.Connection, heard: Mapping[Key, bool], counts: Counts | None) -> None:
    """That a status told of these that they went, and whether they arrived: a failure that is reported later counts no
    more for those that did."""
    if not heard:
        return
    for row in await raw.fetch(_HEARD, *_split([(*key, heard[key]) for key in sorted(heard)], 4)):
        if counts is not None:
            counts.add(row["instance_id"], row["account_id"], sent=row["sent"], delivered=row["delivered"])


def is_unexplained(finding: Finding) -> bool:
    """A reported failure that tells nothing but that the number's messages are refused."""
    return isinstance(finding, WasRejected) and finding.by in REPORTED_BY and finding.reason in UNEXPLAINED


def read_about(row: asyncpg.Record | Mapping[str, Any]) -> About:
    """From a row of the ledger with its `queued` record."""
    return About(
        account_id=row["account_id"],
        instance_id=row["instance_id"],
        message=read_queued(row["queued"]),
        release=row["release"],
        traceparent=row["traceparent"],
    )


def _split(rows: Sequence[Sequence[Any]], width: int) -> list[list[Any]]:
    """Rows to columns, also of none."""
    return [list(column) for column in zip(*rows, strict=True)] if rows else [[] for _ in range(width)]
