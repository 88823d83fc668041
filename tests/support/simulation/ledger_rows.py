"""The sender's tables in the simulation: owners, gates, and attempts as the ledger keeps them."""

from dataclasses import dataclass, replace
from datetime import datetime
from typing import NamedTuple
from uuid import UUID

from contracts.messages import MessageQueued
from sender.ledger import answers
from sender.ledger.attempt import Finding, State
from sender.ledger.delivery import LedgerEntry
from sender.settlement.settling import columns
from simulation.town import ACCOUNT, TRACE

SCHEMA = "sender"
OWNER, GATE, ATTEMPT, USED, SEEN = "sender.owner", "sender.gate", "sender.attempt", "sender.quota", "sender.seen"
OPT_OUT, KEPT, WATERMARK = "sender.opt_out", "sender.evidence", "sender.watermark"
Key = tuple[UUID, int]


class Owner(NamedTuple):
    epoch: int = 0
    owner: str = ""
    lease_until_s: float = 0.0
    tat_s: float = 0.0
    released: bool = True


class GateRow(NamedTuple):
    closed_through: int = -1
    cancelled: bool = False
    closing: bool = False
    asked_by: UUID | None = None


@dataclass(frozen=True, slots=True)
class Attempt:
    """A row of the ledger. `finding` columns as settling.columns gives them."""

    message: MessageQueued
    instance_id: UUID
    release: int
    epoch: int
    recipient: str
    intent_at: datetime
    times_out_at: datetime
    quota_scope: str | None
    text_hash: int | None
    state: State = "intent"
    provider_message_id: str | None = None
    address: bytes | None = None
    reason: str | None = None
    returned: bool = False
    counts: bool = True
    code: str | None = None
    detail: str = ""
    not_before: datetime | None = None
    evidence: str | None = None
    delivered: bool = False
    reported: bool = False
    outcome_at: datetime | None = None

    @property
    def key(self) -> Key:
        return self.message.dispatch_id, self.message.attempt

    @property
    def about(self) -> answers.About:
        return answers.About(ACCOUNT, self.instance_id, self.message, self.release, TRACE)

    def entry(self) -> LedgerEntry:
        return LedgerEntry(
            attempt=self.message.attempt, state=self.state, release=self.release, epoch=self.epoch, reason=self.reason,
            returned=self.returned, counts=self.counts, code=self.code, detail=self.detail, not_before=self.not_before,
            outcome_at=self.outcome_at, provider_message_id=self.provider_message_id, address=self.address,
            evidence=self.evidence, delivered=self.delivered,
        )  # fmt: skip

    def settled(self, state: State, finding: Finding, now: datetime) -> "Attempt":
        identity, address, reason, returned, counts, code, detail, not_before, by, delivered = columns(finding)
        return replace(
            self, state=state, provider_message_id=identity or self.provider_message_id,
            address=address or self.address, reason=reason, returned=returned, counts=counts, code=code, detail=detail,
            not_before=not_before, evidence=by, delivered=self.delivered or delivered, outcome_at=now,
        )  # fmt: skip


def may_be_made_again(known: Attempt, release: int, epoch: int, instance_id: UUID) -> bool:
    if known.state == "not_sent":
        return known.returned and known.release < release
    return (
        known.state == "intent" and known.epoch == epoch and known.release == release
        and known.instance_id == instance_id
    )  # fmt: skip
