"""The sender's ledger in the simulation: `admit`, the attempt automaton, quota and gates are real.

Around them its statements, thin: locks in the real order (owner, gates, quota, attempts), one write.
"""

from collections.abc import Iterable, Sequence
from dataclasses import replace
from datetime import timedelta
from typing import Any
from uuid import UUID

from chassis.kafka import Outgoing
from sender.instance.counts import Counts
from sender.instance.ownership import OwnerRow
from sender.lane import throttle
from sender.lane.quota import WINDOW_S, Quota
from sender.ledger import answers, attempt, delivery
from sender.ledger.attempt import Finding, NeverLeft, NoAnswer, WasAccepted, WasRejected
from sender.ledger.delivery import Admission, AlreadyInFlight, Gate, GateKey, Intend, LedgerEntry, Limiter, Loaded
from sender.settlement import reconcile
from sender.settlement.settling import REPORTED_BY, is_unexplained
from sender.work import Instance, Work
from simulation.clock import Process, Steps
from simulation.ledger_rows import (
    ATTEMPT,
    GATE,
    OPT_OUT,
    OWNER,
    SCHEMA,
    SEEN,
    USED,
    Attempt,
    GateRow,
    Key,
    Owner,
    may_be_made_again,
)
from simulation.postgres import Database, Transaction
from simulation.town import ACCOUNT, SENDER


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

    def withdraw(
        self, process: Process, instance_id: UUID, epoch: int, refused: Sequence[tuple[Work, str]]
    ) -> Steps[set[UUID]]:
        """As IntentStore.withdraw."""
        transaction, now = self.database.begin(process), self.database.loop.at()
        yield from transaction.lock(OWNER, instance_id)
        still_open: set[UUID] = set()
        for work, reason in refused:
            key = work.message.dispatch_id, work.message.attempt
            yield from transaction.lock(ATTEMPT, key)
            row: Attempt | None = transaction.read(ATTEMPT, key)
            if row is None:
                continue
            if row.state == "intent" and (row.release, row.epoch) == (work.message.release, epoch):
                transaction.write(ATTEMPT, key, row.settled("not_sent", NeverLeft(reason, returned=True), now))
            elif row.state in ("intent", "ambiguous"):
                still_open.add(key[0])
        yield from transaction.commit()
        return still_open

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
            allowed = known is None or may_be_made_again(known, message.release, epoch, instance.instance_id)
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

    def settle(
        self, transaction: Transaction, findings: Sequence[tuple[Key, Finding]], counts: Counts | None = None
    ) -> Steps[list[Any]]:
        """As settling.settle; gives the refunds that are due."""
        now, refunds = self.database.loop.at(), []
        for key, finding in sorted(findings, key=lambda one: one[0]):
            yield from transaction.lock(ATTEMPT, key)
            row: Attempt | None = transaction.read(ATTEMPT, key)
            if row is None:
                continue
            after = attempt.record(row.state, row.delivered, finding)
            if isinstance(finding, WasAccepted) and finding.by in REPORTED_BY:
                row = self._note_heard(transaction, row, finding.delivered, counts)
            if after is None:
                continue
            if counts is not None and is_unexplained(finding):
                counts.add(row.instance_id, ACCOUNT, errors=1)
            transaction.write(ATTEMPT, key, row.settled(after, finding, now))
            transaction.append(SCHEMA, [answers.tell(row.about, row.state, finding, now)])
            refunds += self._refund_due(row, finding)
        return refunds

    def _note_heard(self, transaction: Transaction, row: Attempt, arrived: bool, counts: Counts | None) -> Attempt:
        """As settling.note_heard."""
        heard = replace(row, reported=True, delivered=row.delivered or arrived)
        if heard == row:
            return row
        transaction.write(ATTEMPT, row.key, heard)
        if counts is not None:
            counts.add(row.instance_id, ACCOUNT, sent=not row.reported, delivered=heard.delivered and not row.delivered)
        return heard

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

    def settle_all(self, process: Process, findings: Sequence[tuple[Key, Finding]]) -> Steps[None]:
        if not findings:
            return
        transaction = self.database.begin(process)
        refunds = yield from self.settle(transaction, findings)
        yield from transaction.commit()
        yield from self.refund(process, refunds)
