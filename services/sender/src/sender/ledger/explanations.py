"""What the sender says to why nothing leaves: the same gates, quota and limiter as an intent meets. Takes no lock."""

from collections.abc import Iterable, Sequence
from datetime import UTC, datetime
from typing import Any
from uuid import UUID

import asyncpg

from contracts.operations import ExplainRequested
from contracts.progress import SendingExplained
from sender.instance.instances import read_config
from sender.lane.quota import WINDOW_S, Full, Quota, charge
from sender.ledger.delivery import Gate, GateKey, shut_gates
from sender.work import EVERYTHING, template_gate

_GATES = """
SELECT g.scope, g.key, g.closed_through, g.cancelled, g.held, g.closing, g.stopped_reason,
    CASE WHEN g.stopped_reason IS NOT NULL
         THEN coalesce(extract(epoch FROM g.stopped_until)::float8, 'infinity') END AS stopped_until
FROM gate g JOIN unnest($1::text[], $2::text[]) AS k(scope, key) ON g.scope = k.scope AND g.key = k.key
"""
# Index attempt_under_way.
_UNDER_WAY = "SELECT count(*) FROM attempt WHERE campaign_id = $1 AND state = 'intent'"
_INSTANCES = """
SELECT i.instance_id, i.config, i.stopped_reason, i.stopped_at, o.instance_id IS NOT NULL AS owned,
    o.lease_until, o.released, extract(epoch FROM o.tat)::float8 AS tat
FROM instance i LEFT JOIN instance_owner o USING (instance_id)
WHERE i.account_id = $1 AND i.instance_id = ANY($2::uuid[]) ORDER BY i.instance_id
"""
# Index quota_seen_age, from both ends of the window.
_QUOTA = """
SELECT q.used - (SELECT count(*) FROM quota_seen s WHERE s.account_id = q.account_id AND s.scope = q.scope
        AND s.last_at <= clock_timestamp() - make_interval(secs => $3)) AS used,
    (SELECT extract(epoch FROM min(s.last_at))::float8 FROM quota_seen s WHERE s.account_id = q.account_id
        AND s.scope = q.scope AND s.last_at > clock_timestamp() - make_interval(secs => $3)) AS oldest
FROM quota q WHERE q.account_id = $1 AND q.scope = $2
"""
_ATTEMPT = """
SELECT attempt, state, reason, intent_at, times_out_at, outcome_at, not_before FROM attempt
WHERE account_id = $1 AND dispatch_id = $2 ORDER BY attempt DESC LIMIT 1
"""
# A limiter that is further ahead than intents are ever made: a new owner, or a pace that was put back.
_LIMITER_S = 1.0
Reason = dict[str, Any]


async def explain(
    raw: asyncpg.Connection, account_id: UUID, request: ExplainRequested, asked_at: datetime
) -> SendingExplained:
    now: datetime = await raw.fetchval("SELECT clock_timestamp()")
    instance_ids = [*request.instance_ids, *([request.instance_id] if request.instance_id else [])]
    reasons = await _of_gates(raw, account_id, request, instance_ids, now)
    for row in await raw.fetch(_INSTANCES, account_id, instance_ids):
        reasons += await _of_instance(raw, account_id, row, now)
    if request.dispatch_id is not None:
        reasons += _of_attempt(await raw.fetchrow(_ATTEMPT, account_id, request.dispatch_id))
    return SendingExplained(
        request_id=request.request_id,
        reasons=tuple(reasons),
        behind_s=max(0.0, (now - asked_at).total_seconds()),
    )


async def _of_gates(
    raw: asyncpg.Connection, account_id: UUID, request: ExplainRequested, instance_ids: Iterable[UUID], now: datetime
) -> list[Reason]:
    keys: list[GateKey] = [EVERYTHING, ("account", str(account_id))]
    keys += [("instance", str(each)) for each in instance_ids]
    keys += [template_gate(account_id, name) for name in request.template_names]
    if request.campaign_id is not None:
        keys.append(("campaign", str(request.campaign_id)))
    rows = {
        (row["scope"], row["key"]): row
        for row in await raw.fetch(_GATES, [key[0] for key in keys], [key[1] for key in keys])
    }
    gates = {
        key: Gate(row["closed_through"], row["cancelled"], row["held"], row["stopped_until"])
        for key, row in rows.items()
    }
    reasons: list[Reason] = []
    for key, refusal in shut_gates(keys, request.run_epoch, gates, now.timestamp()):
        scope, named = key
        row = rows[key]
        if scope == "campaign":
            told = _named("campaign", "gate_closed", campaign_id=request.campaign_id) | {"detail": refusal.reason}
            if row["closing"]:
                told |= {"reason": "gate_closing", "count": await raw.fetchval(_UNDER_WAY, request.campaign_id)}
        elif scope == "template" and not row["held"]:
            name = named.partition(":")[2]
            told = _named("campaign", "template_stopped") | {"detail": f"{name}: {row['stopped_reason']}"}
            told["until"] = _iso(row["stopped_until"])
        else:
            detail = f"template: {named.partition(':')[2]}" if scope == "template" else scope
            told = _named("campaign" if scope == "template" else scope, "held") | {"detail": detail}
            if scope == "instance":
                told |= {"instance_id": named}
        reasons.append(told)
    return reasons


async def _of_instance(raw: asyncpg.Connection, account_id: UUID, row: Any, now: datetime) -> list[Reason]:
    instance_id, now_s, config = row["instance_id"], now.timestamp(), read_config(row["config"])
    reasons: list[Reason] = []
    if row["stopped_reason"] is not None:
        stopped = _named("instance", "sender_stopped", instance_id=instance_id)
        reasons.append(
            stopped | {"detail": row["stopped_reason"], "since": row["stopped_at"] and row["stopped_at"].isoformat()}
        )
    if row["owned"] and not row["released"] and row["lease_until"] < now:
        lost = _named("instance", "no_owner", instance_id=instance_id)
        reasons.append(lost | {"since": row["lease_until"].isoformat(), "slows": True})
    if row["tat"] is not None and row["tat"] - now_s > _LIMITER_S:
        limited = _named("instance", "limiter", instance_id=instance_id)
        reasons.append(limited | {"until": _iso(row["tat"])})
    if (limit := config.limits.unique_per_24h) is not None:
        scope = f"portfolio:{config.portfolio_id}" if config.portfolio_id else f"instance:{instance_id}"
        used = await raw.fetchrow(_QUOTA, account_id, scope, float(WINDOW_S))
        quota = Quota(limit, max(0, used["used"]), used["oldest"]) if used is not None else Quota(limit)
        full = charge(quota, "", now_s)  # as somebody new would be
        if isinstance(full, Full):
            told = _named("instance", "quota", instance_id=instance_id)
            reasons.append(told | {"until": _iso(full.until_s), "count": quota.used, "limit": limit})
    return reasons


def _of_attempt(row: Any) -> Sequence[Reason]:
    if row is None:
        return []
    match row["state"]:
        case "intent":
            told = _named("dispatch", "under_way") | {"since": row["intent_at"].isoformat()}
            return [told | {"until": row["times_out_at"].isoformat(), "count": row["attempt"]}]
        case "ambiguous" | "unresolved" as state:
            told = _named("dispatch", f"attempt_{state}") | {"since": row["outcome_at"].isoformat()}
            return [told | {"detail": row["reason"], "count": row["attempt"]}]
        case _:
            return []


def _iso(seconds: float) -> str | None:
    """None for what only a person ends."""
    return None if seconds == float("inf") else datetime.fromtimestamp(seconds, UTC).isoformat()


def _named(scope: str, reason: str, *, campaign_id: UUID | None = None, instance_id: UUID | None = None) -> Reason:
    """As it stands in SendingExplained: plain JSON values."""
    return {
        "scope": scope,
        "reason": reason,
        "until": None,
        "detail": None,
        "campaign_id": None if campaign_id is None else str(campaign_id),
        "instance_id": None if instance_id is None else str(instance_id),
    }
