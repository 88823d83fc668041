"""What the ledger newly learnt of numbers' messages, counted in slots of five minutes.

Counted is what a transaction changed in the ledger, never what it was told: duplicates change nothing.
"""

from collections import defaultdict
from collections.abc import Sequence
from datetime import datetime, timedelta
from uuid import UUID

import asyncpg

from sender.instance.rules import Policy, Reports

SLOT_S = 300

_COUNT = """
INSERT INTO instance_report AS r (instance_id, account_id, slot, sent, delivered, errors, answers)
SELECT instance_id, account_id, $7, sent, delivered, errors, answers
FROM unnest($1::uuid[], $2::uuid[], $3::int[], $4::int[], $5::int[], $6::int[])
  AS k(instance_id, account_id, sent, delivered, errors, answers) ORDER BY instance_id
ON CONFLICT (instance_id, slot) DO UPDATE
SET sent = r.sent + excluded.sent, delivered = r.delivered + excluded.delivered, errors = r.errors + excluded.errors,
    answers = r.answers + excluded.answers
"""
# Since its last rest: what led to that one leads to no other.
_WITHIN = """
SELECT r.instance_id, sum(r.sent)::int AS sent, sum(r.delivered)::int AS delivered, sum(r.errors)::int AS errors
FROM instance_report r JOIN instance i ON i.instance_id = r.instance_id
WHERE r.instance_id = ANY($1::uuid[]) AND r.slot > greatest($2, coalesce(i.rest_until, '-infinity'))
GROUP BY 1 ORDER BY 1
"""


class Counts:
    """Of one transaction, which writes them at its end: attempts are locked before these."""

    def __init__(self) -> None:
        self.of_numbers: dict[tuple[UUID, UUID], Reports] = defaultdict(Reports)  # instance, account

    def add(
        self, instance_id: UUID, account_id: UUID, *, sent: int = 0, delivered: int = 0, errors: int = 0,
        answers: int = 0,
    ) -> None:  # fmt: skip
        known = self.of_numbers[instance_id, account_id]
        self.of_numbers[instance_id, account_id] = Reports(
            known.sent + sent, known.delivered + delivered, known.errors + errors, known.answers + answers
        )

    @property
    def refused(self) -> list[UUID]:
        """Numbers with unexplained errors."""
        return sorted(instance_id for (instance_id, _), reports in self.of_numbers.items() if reports.errors)

    async def write(self, raw: asyncpg.Connection, now: datetime) -> None:
        if rows := [(*number, *reports) for number, reports in self.of_numbers.items()]:
            await raw.execute(_COUNT, *map(list, zip(*rows, strict=True)), slot_of(now))


async def count_within(
    raw: asyncpg.Connection, instance_ids: Sequence[UUID], now: datetime, policy: Policy
) -> dict[UUID, Reports]:
    since = slot_of(now - timedelta(seconds=policy.window_s))
    rows = await raw.fetch(_WITHIN, list(instance_ids), since)
    return {row["instance_id"]: Reports(row["sent"], row["delivered"], row["errors"]) for row in rows}


def slot_of(at: datetime) -> datetime:
    return at - timedelta(seconds=at.timestamp() % SLOT_S)
