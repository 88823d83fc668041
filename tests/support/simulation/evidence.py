"""What the sender hears, in the simulation: orders (gates, opt-outs) and evidence (statuses, echoes)."""

from collections.abc import Sequence
from datetime import datetime
from typing import Any
from uuid import UUID

from contracts.campaigns import CampaignCancelling, CampaignPausing
from contracts.contacts import ContactOptedOut
from contracts.conversations import MessageReceived
from contracts.ids import read_attempt_label, recipient_key
from contracts.statuses import StatusReceived
from sender.instance.counts import Counts
from sender.ledger.attempt import OPEN, Finding, WasAccepted
from sender.settlement.evidence import Report
from sender.settlement.reconcile import Echo, OpenAttempt, hash_text, pair_echoes, weigh
from simulation.clock import Process, Steps
from simulation.kafka import Record
from simulation.ledger import Ledger
from simulation.ledger_rows import ATTEMPT, GATE, KEPT, OPT_OUT, WATERMARK, GateRow, Key
from simulation.postgres import Transaction
from simulation.sender_warming import Warming
from simulation.town import ACCOUNT


class Ears:
    def __init__(self, ledger: Ledger, warming: Warming | None = None) -> None:
        self.ledger, self.warming = ledger, warming
        self._refunds: list[tuple[str, str, float]] = []

    def heed(self, transaction: Transaction, batch: Sequence[Record]) -> Steps[None]:
        """As gates.change: rows locked sorted by scope and key."""
        closes: dict[tuple[str, str], list[Record]] = {}
        for one in batch:
            match one.event:
                case CampaignPausing() | CampaignCancelling():
                    closes.setdefault(("campaign", str(one.key)), []).append(one)
        opted_out = [one.event.recipient_key for one in batch if isinstance(one.event, ContactOptedOut)]
        account = ("account", str(ACCOUNT))
        for key in sorted([*closes, *([account] if opted_out else [])]):
            yield from transaction.lock(GATE, key)
            row: GateRow = transaction.read(GATE, key) or GateRow()
            for record in closes.get(key, ()):
                event: Any = record.event
                cancelled = row.cancelled or isinstance(event, CampaignCancelling)
                row = GateRow(max(row.closed_through, event.run_epoch), cancelled, True, record.envelope.id)
            transaction.write(GATE, key, row)
        for recipient in opted_out:
            transaction.write(OPT_OUT, recipient, True)
            transaction.notes.append(("opted_out", recipient))

    def hear(self, transaction: Transaction, batch: Sequence[Record]) -> Steps[None]:
        """As Evidence.handle and evidence.apply."""
        reports: list[Report] = []
        for one in batch:
            event, at = one.event, one.envelope.time
            if isinstance(event, StatusReceived):
                reports.append(_status(event, at))
            elif isinstance(event, MessageReceived) and event.direction == "out":
                reports.append(_echo(event))
            if isinstance(event, StatusReceived | MessageReceived):
                known: datetime | None = transaction.read(WATERMARK, event.instance_id)
                transaction.write(WATERMARK, event.instance_id, max(known, at) if known else at)
        counts = Counts()
        bound = [self._bind(transaction, report) for report in reports]
        late = any(one.fact == "failed" and one.key is None for one in reports)
        if late and "kept_fitted_late" not in self.ledger.flaws:
            self._refunds += yield from self._fit(transaction, counts)
        findings: list[tuple[Key, Finding]] = []
        for report, found in zip(reports, bound, strict=True):
            if found is None:
                if report.key is None and "evidence_not_kept" not in self.ledger.flaws:
                    transaction.write(KEPT, (report.instance_id, report.provider_message_id, report.fact), report)
            elif report.fact != "echo":
                row = transaction.read(ATTEMPT, found)
                if weigh(row.state, row.delivered, row.reported, report.fact) is not None:
                    findings.append((found, report.finding("label" if report.key else "bound_id")))
        self._refunds += yield from self.ledger.settle(transaction, findings, counts)
        if self.warming is not None:
            told_twice = "told_twice_counts_twice" in self.ledger.flaws
            yield from self.warming.count(transaction, _counted(reports) if told_twice else counts)

    def _bind(self, transaction: Transaction, report: Report) -> Key | None:
        if report.key is not None:
            _, dispatch_id, number = report.key
            named = dispatch_id, number
            return named if transaction.read(ATTEMPT, named) is not None else None
        for key, row in transaction.rows(ATTEMPT):
            if (row.instance_id, row.provider_message_id) == (report.instance_id, report.provider_message_id):
                found: Key = key
                return found
        return None

    def after(self, process: Process) -> Steps[None]:
        refunds, self._refunds = self._refunds, []
        yield from self.ledger.refund(process, refunds)

    def fit_kept(self, process: Process) -> Steps[bool]:
        """Tries what was kept once more, as evidence.fit_kept. True if something fitted: then more may fit now."""
        database = self.ledger.database
        kept = len(database.tables[KEPT])
        if not kept:
            return False
        transaction, counts = database.begin(process), Counts()
        refunds = yield from self._fit(transaction, counts)
        if not transaction.writes:
            transaction.roll_back()
            return False
        if self.warming is not None:
            yield from self.warming.count(transaction, counts)
        yield from transaction.commit()
        yield from self.ledger.refund(process, refunds)
        return True

    def _fit(self, transaction: Transaction, counts: Counts) -> Steps[list[tuple[str, str, float]]]:
        findings: list[tuple[Key, Finding]] = []
        used: list[tuple[UUID, str, str]] = []
        for place, report in transaction.rows(KEPT):
            if report.fact != "echo" and (key := self._bind(transaction, report)) is not None:
                findings.append((key, report.finding("bound_id")))
                used.append(place)
        for place, found, finding in self._fit_echoes(transaction):
            findings.append((found, finding))
            used.append(place)
        refunds = yield from self.ledger.settle(transaction, findings, counts)
        for place in used:
            transaction.write(KEPT, place, None)
        return refunds

    def _fit_echoes(self, transaction: Transaction) -> list[tuple[tuple[UUID, str, str], Key, Finding]]:
        rows = [row for _, row in transaction.rows(ATTEMPT)]
        bound = {(row.instance_id, row.provider_message_id) for row in rows}
        fitted: list[tuple[tuple[UUID, str, str], Key, Finding]] = []
        for instance_id in dict.fromkeys(row.instance_id for row in rows):
            echoes = [
                Echo(report.provider_message_id, report.recipient, report.text_hash, report.at)
                for (of, identity, fact), report in transaction.rows(KEPT)
                if of == instance_id and fact == "echo" and (of, identity) not in bound
            ]
            attempts = [
                OpenAttempt(
                    ACCOUNT, row.key[0], row.key[1], row.state, row.recipient, row.text_hash,
                    row.intent_at, row.times_out_at,
                )
                for row in rows if row.instance_id == instance_id and row.state in OPEN
            ]  # fmt: skip
            for echo, attempt in pair_echoes(echoes, attempts):
                place = (instance_id, echo.provider_message_id, "echo")
                finding = WasAccepted(echo.provider_message_id, by="echo")
                fitted.append((place, (attempt.dispatch_id, attempt.attempt), finding))
        return fitted


def _counted(reports: Sequence[Report]) -> Counts:
    """What was told, instead of what was learnt."""
    counts = Counts()
    for report in reports:
        sent, delivered, failed = (report.fact == fact for fact in ("sent", "delivered", "failed"))
        counts.add(report.instance_id, ACCOUNT, sent=sent, delivered=delivered, errors=failed)
    return counts


def _status(event: StatusReceived, received_at: datetime) -> Report:
    label = read_attempt_label(event.client_ref) if event.client_ref else None
    return Report(
        ACCOUNT, event.instance_id, event.provider_message_id, event.status, event.at, received_at,
        key=None if label is None else (ACCOUNT, *label), failure=event.failure, code=event.code, detail=event.detail,
    )  # fmt: skip


def _echo(event: MessageReceived) -> Report:
    return Report(
        ACCOUNT, event.instance_id, event.provider_message_id, "echo", event.message_at, event.received_at,
        recipient=recipient_key(event.chat), text_hash=hash_text(event.text),
    )  # fmt: skip
