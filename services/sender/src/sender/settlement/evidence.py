"""Evidence from webhooks: what fits an attempt settles it, what fits nothing yet is kept until it does."""

from collections.abc import Collection, Sequence
from datetime import datetime, timedelta
from typing import Any, NamedTuple
from uuid import UUID

import asyncpg
from sqlalchemy.ext.asyncio import AsyncConnection

from chassis.database import driver
from sender.instance.counts import Counts
from sender.ledger.attempt import Finding, WasAccepted
from sender.settlement.consequences import Consequence
from sender.settlement.reconcile import ARRIVED, Echo, OpenAttempt, pair_echoes, read_status, weigh
from sender.settlement.settling import Key, note_heard, settle

SERVICE_WINDOW = timedelta(hours=24)

# Most reports are of attempts whose answer said it all already.
_STATES = """
SELECT a.account_id, a.dispatch_id, a.attempt, a.state, a.delivered, a.reported
FROM attempt a JOIN unnest($1::uuid[], $2::uuid[], $3::int[]) AS k(account_id, dispatch_id, attempt)
  ON a.account_id = k.account_id AND a.dispatch_id = k.dispatch_id AND a.attempt = k.attempt
WHERE a.state <> 'accepted' OR NOT a.delivered
"""
_BOUND = """
SELECT a.account_id, a.instance_id, a.provider_message_id, a.dispatch_id, a.attempt, a.state, a.delivered,
       a.reported
FROM attempt a JOIN unnest($1::uuid[], $2::text[]) AS k(instance_id, provider_message_id)
  ON a.instance_id = k.instance_id AND a.provider_message_id = k.provider_message_id
"""
_KEEP = """
INSERT INTO evidence (account_id, instance_id, provider_message_id, fact, recipient_key, text_hash, failure, code,
                      detail, at, received_at)
SELECT * FROM unnest($1::uuid[], $2::uuid[], $3::text[], $4::text[], $5::text[], $6::bigint[], $7::text[], $8::text[],
                     $9::text[], $10::timestamptz[], $11::timestamptz[])
ON CONFLICT DO NOTHING
"""
_WATERMARK = """
INSERT INTO ingest_watermark AS w (instance_id, account_id, at)
SELECT * FROM unnest($1::uuid[], $2::uuid[], $3::timestamptz[]) AS k(instance_id, account_id, at) ORDER BY instance_id
ON CONFLICT (instance_id) DO UPDATE SET at = greatest(w.at, excluded.at)
"""
_WINDOWS = """
INSERT INTO service_window AS w (account_id, instance_id, recipient_key, open_until)
SELECT * FROM unnest($1::uuid[], $2::uuid[], $3::text[], $4::timestamptz[])
  AS k(account_id, instance_id, recipient_key, open_until) ORDER BY 1, 2, 3
ON CONFLICT (account_id, instance_id, recipient_key) DO UPDATE
SET open_until = excluded.open_until WHERE w.open_until < excluded.open_until
RETURNING w.account_id, w.instance_id
"""
# Kept reports whose message is known by now (index attempt_provider_id).
_FITTING_REPORTS = """
SELECT e.*, a.dispatch_id, a.attempt FROM evidence e
JOIN attempt a ON a.instance_id = e.instance_id AND a.provider_message_id = e.provider_message_id
WHERE e.fact <> 'echo' ORDER BY e.received_at LIMIT 500
"""
# Kept echoes to a chat where something with that text is open (indexes attempt_open, evidence_echo).
_FITTING_ECHOES = """
SELECT e.account_id, e.instance_id, e.provider_message_id, e.recipient_key, e.text_hash, e.at,
       a.dispatch_id, a.attempt, a.state, a.intent_at, a.times_out_at
FROM attempt a JOIN evidence e ON e.instance_id = a.instance_id AND e.recipient_key = a.recipient_key
  AND e.text_hash = a.text_hash AND e.fact = 'echo' AND e.account_id = a.account_id
WHERE a.state IN ('intent', 'ambiguous', 'unresolved')
  AND NOT EXISTS (SELECT FROM attempt b WHERE b.instance_id = e.instance_id
                  AND b.provider_message_id = e.provider_message_id)
ORDER BY e.at, a.intent_at LIMIT 500
"""
_FORGET = """
DELETE FROM evidence e USING unnest($1::uuid[], $2::uuid[], $3::text[], $4::text[])
  AS k(account_id, instance_id, provider_message_id, fact)
WHERE e.account_id = k.account_id AND e.instance_id = k.instance_id
  AND e.provider_message_id = k.provider_message_id AND e.fact = k.fact
"""


class Report(NamedTuple):
    """A status or an echo as it came. `key`: the attempt that its label names. `fact`: the status, or `echo`."""

    account_id: UUID
    instance_id: UUID
    provider_message_id: str
    fact: str
    at: datetime
    received_at: datetime
    key: Key | None = None
    recipient: str = ""
    text_hash: int | None = None
    failure: str | None = None
    code: str | None = None
    detail: str = ""

    def finding(self, by: Any) -> Finding:
        if self.fact == "echo":
            return WasAccepted(self.provider_message_id, by="echo")
        return read_status(
            self.fact, self.provider_message_id, self.failure, self.code, self.detail, by, self.received_at
        )


async def apply(
    connection: AsyncConnection, reports: Sequence[Report], now: datetime, counts: Counts
) -> list[Consequence]:
    """Settles what the reports prove; keeps those without a label that fit nothing yet."""
    raw = await driver(connection)
    consequences: list[Consequence] = []
    findings: list[tuple[Key, Finding]] = []
    heard: dict[Key, bool] = {}
    known = await _by_label(raw, {report.key for report in reports if report.key is not None})
    bound = await _by_provider_id(raw, [report for report in reports if report.key is None])
    if any(report.fact == "failed" and report.key is None for report in reports):
        # What came before it and was kept, because nobody knew whose it was, may show that the message had arrived.
        # After the look at whose it is, which may have been written this moment: `settle` sees what this finds.
        consequences += await fit_kept(connection, now, counts)
    keep: list[Report] = []
    for report in reports:
        key = report.key
        if key is not None:
            if key not in known:
                continue
            state, delivered, reported = known[key]
        else:
            entry = bound.get((report.instance_id, report.provider_message_id))
            if entry is None or entry[0][0] != report.account_id:
                keep.append(report)
                continue
            key, state, delivered, reported = entry
        match weigh(state, delivered, reported, report.fact):
            case "settles":
                findings.append((key, report.finding("label" if report.key else "bound_id")))
            case "shows":
                heard[key] = heard.get(key, False) or report.fact in ARRIVED
    await _keep(raw, keep)
    await note_heard(raw, heard, counts)
    if findings:
        _, settled = await settle(connection, findings, now, counts)
        consequences += settled
    if any(report.fact == "echo" for report in keep):
        consequences += await fit_echoes(connection, now)
    return consequences


async def fit_kept(connection: AsyncConnection, now: datetime, counts: Counts) -> list[Consequence]:
    """Tries what was kept once more: attempts may have become uncertain, or their ids known, since."""
    raw = await driver(connection)
    rows = await raw.fetch(_FITTING_REPORTS)
    findings: list[tuple[Key, Finding]] = []
    for row in rows:
        report = Report(
            row["account_id"], row["instance_id"], row["provider_message_id"], row["fact"], row["at"],
            row["received_at"], failure=row["failure"], code=row["code"], detail=row["detail"],
        )  # fmt: skip
        findings.append(((row["account_id"], row["dispatch_id"], row["attempt"]), report.finding("bound_id")))
    consequences: list[Consequence] = []
    if rows:
        _, consequences = await settle(connection, findings, now, counts)
        await _forget(raw, [(r["account_id"], r["instance_id"], r["provider_message_id"], r["fact"]) for r in rows])
    return consequences + await fit_echoes(connection, now)


async def fit_echoes(connection: AsyncConnection, now: datetime) -> list[Consequence]:
    raw = await driver(connection)
    rows = await raw.fetch(_FITTING_ECHOES)
    echoes: dict[tuple[UUID, str], tuple[UUID, Echo]] = {}
    attempts: dict[UUID, dict[tuple[UUID, int], OpenAttempt]] = {}
    for row in rows:
        echo = Echo(row["provider_message_id"], row["recipient_key"], row["text_hash"], row["at"])
        echoes[row["instance_id"], row["provider_message_id"]] = (row["account_id"], echo)
        attempts.setdefault(row["instance_id"], {})[row["dispatch_id"], row["attempt"]] = OpenAttempt(
            row["account_id"], row["dispatch_id"], row["attempt"], row["state"], row["recipient_key"],
            row["text_hash"], row["intent_at"], row["times_out_at"],
        )  # fmt: skip
    findings: list[tuple[Key, Finding]] = []
    used: list[tuple[UUID, UUID, str, str]] = []
    for instance_id, open_attempts in attempts.items():
        of_instance = [echo for (owner, _), (_, echo) in echoes.items() if owner == instance_id]
        for echo, attempt in pair_echoes(of_instance, list(open_attempts.values())):
            key = (attempt.account_id, attempt.dispatch_id, attempt.attempt)
            findings.append((key, WasAccepted(echo.provider_message_id, by="echo")))
            used.append((attempt.account_id, instance_id, echo.provider_message_id, "echo"))
    if not findings:
        return []
    _, consequences = await settle(connection, findings, now)
    await _forget(raw, used)
    return consequences


async def note_traffic(raw: asyncpg.Connection, seen: dict[UUID, tuple[UUID, datetime]]) -> None:
    """The number's ingest watermark: instance -> account and the latest time at which a report of it came."""
    keys = list(seen)
    await raw.execute(_WATERMARK, keys, [seen[key][0] for key in keys], [seen[key][1] for key in keys])


async def open_windows(
    raw: asyncpg.Connection, inbound: dict[tuple[UUID, UUID, str], datetime], counts: Counts
) -> None:
    """(account, instance, recipient) -> last message from the person: for 24 h they do not count as new."""
    keys = list(inbound)
    rows = await raw.fetch(
        _WINDOWS,
        [key[0] for key in keys],
        [key[1] for key in keys],
        [key[2] for key in keys],
        [inbound[key] + SERVICE_WINDOW for key in keys],
    )
    for row in rows:
        counts.add(row["instance_id"], row["account_id"], answers=1)


async def _by_label(raw: asyncpg.Connection, keys: Collection[Key]) -> dict[Key, tuple[Any, bool, bool]]:
    """State, whether it arrived and whether any status told of it, of those about which there may be news."""
    if not keys:
        return {}
    rows = await raw.fetch(_STATES, *map(list, zip(*keys, strict=True)))
    return {
        (r["account_id"], r["dispatch_id"], r["attempt"]): (r["state"], r["delivered"], r["reported"]) for r in rows
    }


async def _by_provider_id(
    raw: asyncpg.Connection, reports: Sequence[Report]
) -> dict[tuple[UUID, str], tuple[Key, Any, bool, bool]]:
    keys = list({(report.instance_id, report.provider_message_id) for report in reports})
    if not keys:
        return {}
    rows = await raw.fetch(_BOUND, [key[0] for key in keys], [key[1] for key in keys])
    return {
        (r["instance_id"], r["provider_message_id"]): (
            (r["account_id"], r["dispatch_id"], r["attempt"]), r["state"], r["delivered"], r["reported"],
        )
        for r in rows
    }  # fmt: skip


async def _keep(raw: asyncpg.Connection, reports: Sequence[Report]) -> None:
    if not reports:
        return
    rows = [
        (r.account_id, r.instance_id, r.provider_message_id, r.fact, r.recipient, r.text_hash, r.failure, r.code,
         r.detail, r.at, r.received_at)
        for r in reports
    ]  # fmt: skip
    await raw.execute(_KEEP, *map(list, zip(*rows, strict=True)))


async def _forget(raw: asyncpg.Connection, keys: Sequence[tuple[UUID, UUID, str, str]]) -> None:
    if keys:
        await raw.execute(_FORGET, *map(list, zip(*keys, strict=True)))
