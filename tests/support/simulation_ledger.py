"""The sender's ledger in the simulation: `admit`, the attempt automaton, quota, gates and reconciling are real.

Around them its tables and statements, thin: locks in the real order (owner, gates, quota, attempts), one write.
"""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from typing import Any, NamedTuple
from uuid import UUID

from chassis.kafka import Outgoing, outgoing
from contracts import ids, topics
from contracts.messages import MessageQueued
from contracts.progress import GateClosed
from sender.instance.ownership import OwnerRow
from sender.lane import throttle
from sender.lane.quota import WINDOW_S, Quota
from sender.ledger import answers, attempt, delivery
from sender.ledger.attempt import Finding, NeverLeft, NoAnswer, NoEvidence, State, WasAccepted, WasRejected
from sender.ledger.delivery import Admission, AlreadyInFlight, Gate, GateKey, Intend, LedgerEntry, Limiter, Loaded
from sender.settlement import reconcile
from sender.settlement.settling import columns
from sender.work import Instance, Work
from simulation_clock import Process, Steps
from simulation_postgres import Database, Transaction
from simulation_town import ACCOUNT, SENDER, TRACE

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


class Ledger:
    """Transactions of one sender process."""

    def __init__(self, database: Database, flaws: frozenset[str]) -> None:
        self.database, self.flaws = database, flaws

    # Intents

    def intend(
        self, process: Process, instance: Instance, works: Sequence[Work], epoch: int, pairs: dict[str, float]
    ) -> Steps[Admission]:
        transaction = self.database.begin(process)
        yield from transaction.lock(OWNER, instance.instance_id)
        owner: Owner | None = transaction.read(OWNER, instance.instance_id)
        gates = yield from self._share_gates(transaction, sorted({gate for work in works for gate in work.gates}))
        quota = yield from self._load_quota(transaction, instance, works)
        ledger: dict[UUID, list[LedgerEntry]] = {}
        for (dispatch_id, _), row in transaction.rows(ATTEMPT):
            ledger.setdefault(dispatch_id, []).append(row.entry())
        known, tat_s = self._pairs(transaction, instance, works, pairs), owner.tat_s if owner else 0.0
        loaded = Loaded(
            owner=None if owner is None else OwnerRow(owner.epoch, owner.tat_s),
            gates=gates,
            ledger=ledger,
            opted_out=frozenset((ACCOUNT, key) for key, _ in transaction.rows(OPT_OUT)),
            quota=quota,
            limiter=Limiter(instance.rate, instance.pair_rate, tat_s, known, SENDER.lookahead_s),
        )  # fmt: skip
        now_s = self.database.loop.seconds()
        admission = delivery.admit([work.candidate() for work in works], epoch, loaded, now_s)
        written = yield from self._write(transaction, instance, works, epoch, admission)
        intends = any(isinstance(one, Intend) for one in admission.decisions)
        if owner is not None and intends and "limiter_reset" not in self.flaws:
            transaction.write(OWNER, instance.instance_id, owner._replace(tat_s=admission.tat_s))
        if instance.quota_limit is not None:
            transaction.write(USED, instance.quota_scope, admission.quota.used)
        yield from transaction.commit()
        keys = [(work.message.dispatch_id, work.message.attempt) for work in works]
        decisions = tuple(
            AlreadyInFlight() if isinstance(one, Intend) and key not in written else one
            for key, one in zip(keys, admission.decisions, strict=True)
        )
        return replace(admission, decisions=decisions)

    def _share_gates(self, transaction: Transaction, keys: Sequence[GateKey]) -> Steps[dict[GateKey, Gate]]:
        gates: dict[GateKey, Gate] = {}
        for key in keys:
            if key[0] in ("everything", "instance"):
                continue  # nobody closes these here
            if "gate_not_shared" not in self.flaws:
                yield from transaction.lock(GATE, key, share=True)
            row: GateRow | None = transaction.read(GATE, key)
            if row is not None:
                gates[key] = Gate(row.closed_through, row.cancelled)
        return gates

    def _load_quota(self, transaction: Transaction, instance: Instance, works: Sequence[Work]) -> Steps[Quota]:
        if instance.quota_limit is None:
            return Quota(limit=None)
        scope, now_s = instance.quota_scope, self.database.loop.seconds()
        if "quota_not_locked" not in self.flaws:
            yield from transaction.lock(USED, scope)
        used: int = transaction.read(USED, scope) or 0
        seen: dict[str, float] = {}
        for (of, recipient), last_s in list(transaction.rows(SEEN)):
            if of != scope:
                continue
            if last_s <= now_s - WINDOW_S:
                transaction.write(SEEN, (of, recipient), None)
                used -= 1
            else:
                seen[recipient] = last_s
        return Quota(instance.quota_limit, used, min(seen.values(), default=None), seen)

    def _pairs(
        self, transaction: Transaction, instance: Instance, works: Sequence[Work], known: dict[str, float]
    ) -> dict[str, float]:
        """What the lane remembers; else rebuilt from the ledger."""
        pairs = {}
        for recipient in dict.fromkeys(work.recipient for work in works):
            if recipient in known:
                pairs[recipient] = known[recipient]
                continue
            sent = sorted(
                row.intent_at.timestamp() for _, row in transaction.rows(ATTEMPT)
                if row.instance_id == instance.instance_id and row.recipient == recipient
            )  # fmt: skip
            pairs[recipient] = throttle.replay(sent, instance.pair_rate)
        return pairs

    def _write(
        self, transaction: Transaction, instance: Instance, works: Sequence[Work], epoch: int, admission: Admission
    ) -> Steps[set[Key]]:
        """Whom another transaction had written meanwhile is not among the result (the statement's WHERE)."""
        now, written = self.database.loop.at(), set()
        for work, decision in zip(works, admission.decisions, strict=True):
            if not isinstance(decision, Intend):
                continue
            message = work.message
            key = message.dispatch_id, message.attempt
            yield from transaction.lock(ATTEMPT, key)
            known: Attempt | None = transaction.read(ATTEMPT, key)
            allowed = known is None or _may_be_made_again(known, message.release, epoch, instance.instance_id)
            if not allowed and "attempts_overwritten" not in self.flaws:
                continue
            written.add(key)
            age_s = SENDER.intent_age_max_s + SENDER.text_timeout_s + 1.0
            row = Attempt(
                message, instance.instance_id, message.release, epoch, work.recipient, now,
                now + timedelta(seconds=age_s), instance.quota_scope if decision.charged else None,
                None if instance.labelled else reconcile.hash_text(message.content.text),
            )  # fmt: skip
            transaction.write(ATTEMPT, key, row)
            transaction.notes.append(("intent", instance.instance_id, epoch, work.recipient))
            if instance.quota_limit is not None:
                transaction.write(SEEN, (instance.quota_scope, work.recipient), now.timestamp())
        return written

    # Outcomes

    def record_outcomes(self, process: Process, outcomes: Sequence[tuple[Work, int, Finding]]) -> Steps[list[Outgoing]]:
        """What is still at intent of our epoch is written at once and told by us, the rest is settled the long way."""
        transaction, now = self.database.begin(process), self.database.loop.at()
        told, late, refunds = [], [], []
        for work, epoch, finding in sorted(
            outcomes, key=lambda one: (one[0].message.dispatch_id, one[0].message.attempt)
        ):
            key = work.message.dispatch_id, work.message.attempt
            yield from transaction.lock(ATTEMPT, key)
            row: Attempt = transaction.read(ATTEMPT, key)
            if row.state != "intent" or row.epoch != epoch:
                late.append((key, finding))
                continue
            state = attempt.record("intent", row.delivered, finding)
            assert state is not None
            transaction.write(ATTEMPT, key, row.settled(state, finding, now))
            told.append(answers.tell(row.about, "intent", finding, now))
            refunds += self._refund_due(row, finding)
        refunds += yield from self.settle(transaction, late)
        yield from transaction.commit()
        yield from self.refund(process, refunds)
        return told

    def settle(self, transaction: Transaction, findings: Sequence[tuple[Key, Finding]]) -> Steps[list[Any]]:
        """As settling.settle; gives the refunds that are due."""
        now, refunds = self.database.loop.at(), []
        for key, finding in sorted(findings, key=lambda one: one[0]):
            yield from transaction.lock(ATTEMPT, key)
            row: Attempt | None = transaction.read(ATTEMPT, key)
            if row is None:
                continue
            after = attempt.record(row.state, row.delivered, finding)
            if after is None:
                if isinstance(finding, WasAccepted) and finding.delivered and not row.delivered:
                    transaction.write(ATTEMPT, key, replace(row, delivered=True))
                continue
            transaction.write(ATTEMPT, key, row.settled(after, finding, now))
            transaction.append(SCHEMA, [answers.tell(row.about, row.state, finding, now)])
            refunds += self._refund_due(row, finding)
        return refunds

    def _refund_due(self, row: Attempt, finding: Finding) -> list[tuple[str, str, float]]:
        given_back = WasRejected | NeverLeft
        if row.quota_scope is None:
            return []
        if not isinstance(finding, given_back) and not (
            "ambiguous_refunded" in self.flaws and isinstance(finding, NoAnswer)
        ):
            return []
        return [(row.quota_scope, row.recipient, row.intent_at.timestamp())]

    def refund(self, process: Process, refunds: Iterable[tuple[str, str, float]]) -> Steps[None]:
        """In a transaction of its own, as quotas are locked before attempts."""
        for scope, recipient, charged_s in refunds:
            transaction = self.database.begin(process)
            yield from transaction.lock(USED, scope)
            if transaction.read(SEEN, (scope, recipient)) == charged_s:
                transaction.write(SEEN, (scope, recipient), None)
                transaction.write(USED, scope, transaction.read(USED, scope) - 1)
            yield from transaction.commit()

    # Sweeps

    def next_sweep_s(self) -> float | None:
        """When one of the sweeps may have something to do; the real ones look again and again."""
        times = []
        for row in self.database.tables[ATTEMPT].values():
            if row.state == "intent":
                times.append(row.times_out_at + timedelta(seconds=SENDER.lease_s))
            elif row.state == "ambiguous":
                wait = timedelta(seconds=SENDER.reconcile_wait_s)
                times += [row.intent_at + wait, row.intent_at + 2 * wait]
        now = self.database.loop.at()
        later = [time for time in times if time > now]
        return (min(later) - now).total_seconds() + 0.01 if later else None

    def sweep_gates(self, process: Process) -> Steps[bool]:
        """True if some are still closing."""
        closing = [key for key, row in self.database.tables[GATE].items() if row.closing]
        for key in closing:
            transaction = self.database.begin(process)
            row = self.database.tables[GATE][key]
            if not self._is_quiet(transaction, key, row) or not transaction.try_lock(GATE, key):
                transaction.roll_back()
                continue
            row = transaction.read(GATE, key)
            if not row.closing or not self._is_quiet(transaction, key, row):
                transaction.roll_back()
                continue
            transaction.write(GATE, key, row._replace(closing=False))
            name = f"gate:{row.closed_through}:{row.asked_by}"
            transaction.append(SCHEMA, [outgoing(
                topics.CAMPAIGN_PROGRESS, key[1], GateClosed(run_epoch=row.closed_through), source=topics.SENDER,
                account_id=ACCOUNT, time=self.database.loop.at(), event_id=ids.event_id(topics.SENDER, key[1], name),
                traceparent=TRACE,
            )])  # fmt: skip
            yield from transaction.commit()
        return any(row.closing for row in self.database.tables[GATE].values())

    def _is_quiet(self, transaction: Transaction, key: GateKey, gate: GateRow) -> bool:
        if "gate_told_at_once" in self.flaws:
            return True
        return not any(
            str(row.message.campaign_id) == key[1] and row.state == "intent"
            and row.message.run_epoch <= gate.closed_through
            for _, row in transaction.rows(ATTEMPT)
        )  # fmt: skip

    def sweep_orphans(self, process: Process) -> Steps[None]:
        now, now_s = self.database.loop.at(), self.database.loop.seconds()
        owners = self.database.tables[OWNER]
        findings: list[tuple[Key, Finding]] = [
            (key, NoAnswer("sender_gone")) for key, row in self.database.tables[ATTEMPT].items()
            if row.state == "intent" and row.times_out_at < now
            and (row.epoch < owners[row.instance_id].epoch or owners[row.instance_id].lease_until_s < now_s)
        ]  # fmt: skip
        yield from self._settle_all(process, findings)

    def sweep_silent(self, process: Process) -> Steps[None]:
        now, wait = self.database.loop.at(), timedelta(seconds=SENDER.reconcile_wait_s)
        findings: list[tuple[Key, Finding]] = [
            (key, NoEvidence()) for key, row in self.database.tables[ATTEMPT].items()
            if row.state == "ambiguous"
            and reconcile.is_unresolved(row.intent_at, self.database.tables[WATERMARK].get(row.instance_id), now, wait)
        ]  # fmt: skip
        yield from self._settle_all(process, findings)

    def _settle_all(self, process: Process, findings: Sequence[tuple[Key, Finding]]) -> Steps[None]:
        if not findings:
            return
        transaction = self.database.begin(process)
        refunds = yield from self.settle(transaction, findings)
        yield from transaction.commit()
        yield from self.refund(process, refunds)


def _may_be_made_again(known: Attempt, release: int, epoch: int, instance_id: UUID) -> bool:
    if known.state == "not_sent":
        return known.returned and known.release < release
    return (
        known.state == "intent" and known.epoch == epoch and known.release == release
        and known.instance_id == instance_id
    )  # fmt: skip
