"""What a refusal asks for beyond its message: the charge given back, the template's gate held.

In transactions of their own, because gates and quotas are locked before attempts. Best effort: what was settled must
not be undone for it. A charge that stays errs on the safe side, and a template's next refusal asks again.
"""

from collections.abc import Sequence
from datetime import datetime, timedelta
from typing import NamedTuple
from uuid import UUID

from sqlalchemy.ext.asyncio import AsyncConnection

from chassis.database import Database, driver
from chassis.lifecycle import utc_now
from chassis.telemetry import log
from contracts.messages import MessageQueued
from providers.failures import FAILURES
from sender import templates
from sender.gates import Stop
from sender.ledger.attempt import Finding, NeverLeft, WasRejected
from sender.work import template_gate

# What a refused message had used up is given back; an uncertain one stays counted.
_REFUND = """
WITH refunded AS (
  DELETE FROM quota_seen s USING unnest($1::uuid[], $2::text[], $3::text[], $4::timestamptz[])
    AS k(account_id, scope, recipient_key, last_at)
  WHERE s.account_id = k.account_id AND s.scope = k.scope AND s.recipient_key = k.recipient_key
    AND s.last_at = k.last_at
  RETURNING s.account_id, s.scope
)
UPDATE quota q SET used = q.used - r.refunds
FROM (SELECT account_id, scope, count(*) AS refunds FROM refunded GROUP BY 1, 2) r
WHERE q.account_id = r.account_id AND q.scope = r.scope
"""
_LOCK_QUOTAS = """
SELECT 1 FROM quota q JOIN unnest($1::uuid[], $2::text[]) AS k(account_id, scope)
  ON q.account_id = k.account_id AND q.scope = k.scope
ORDER BY q.account_id, q.scope FOR NO KEY UPDATE OF q
"""


class Refund(NamedTuple):
    """`charged_at`: the time of the charge, so that a later one stays."""

    account_id: UUID
    scope: str
    recipient: str
    charged_at: datetime


Consequence = Refund | Stop


def follow_up(
    finding: Finding,
    message: MessageQueued,
    account_id: UUID,
    *,
    quota_scope: str | None,
    recipient: str,
    intent_at: datetime,
    now: datetime,
) -> list[Consequence]:
    """`quota_scope`: where the attempt's intent was charged, None if it was not."""
    if not isinstance(finding, WasRejected | NeverLeft):
        return []
    found: list[Consequence] = []
    if quota_scope is not None:
        found.append(Refund(account_id, quota_scope, recipient, intent_at))
    name, failure = message.content.template_name, FAILURES.get(finding.reason)
    if name and failure is not None and failure.action == "stop_template":
        until = None if failure.retry_after_s is None else now + timedelta(seconds=failure.retry_after_s)
        found.append(Stop(template_gate(account_id, name)[1], account_id, failure.name, until))
    return found


async def carry_out(database: Database, consequences: Sequence[Consequence]) -> None:
    refunds = [one for one in consequences if isinstance(one, Refund)]
    stops = [one for one in consequences if isinstance(one, Stop)]
    try:
        if refunds:
            async with database.transaction() as connection:
                await _refund(connection, refunds)
        if stops:
            async with database.transaction() as connection:
                await templates.stop(connection, stops, utc_now())
    except Exception as error:  # noqa: BLE001  what was settled is written and must be told
        log.warning("consequences_not_written", count=len(consequences), error=type(error).__name__)


async def _refund(connection: AsyncConnection, refunds: Sequence[Refund]) -> None:
    raw = await driver(connection)
    await raw.execute(_LOCK_QUOTAS, [one.account_id for one in refunds], [one.scope for one in refunds])
    await raw.execute(_REFUND, *map(list, zip(*refunds, strict=True)))
