"""The sender's sweeps in the simulation: closing gates, intents whose sender is gone, attempts that nothing settles."""

from datetime import timedelta

from chassis.kafka import outgoing
from contracts import ids, topics
from contracts.progress import GateClosed
from sender.ledger.attempt import Finding, NoAnswer, NoEvidence
from sender.ledger.delivery import GateKey
from sender.settlement import reconcile
from simulation.clock import Process, Steps
from simulation.ledger import Ledger
from simulation.ledger_rows import ATTEMPT, GATE, OWNER, SCHEMA, WATERMARK, GateRow, Key
from simulation.postgres import Transaction
from simulation.town import ACCOUNT, SENDER, TRACE


class Sweeps:
    """Any sender runs them; each looks again under its locks."""

    def __init__(self, ledger: Ledger) -> None:
        self.ledger, self.database, self.flaws = ledger, ledger.database, ledger.flaws

    def next_look_s(self) -> float | None:
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

    def close_gates(self, process: Process) -> Steps[bool]:
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

    def end_orphans(self, process: Process) -> Steps[None]:
        now, now_s = self.database.loop.at(), self.database.loop.seconds()
        owners = self.database.tables[OWNER]
        findings: list[tuple[Key, Finding]] = [
            (key, NoAnswer("sender_gone")) for key, row in self.database.tables[ATTEMPT].items()
            if row.state == "intent" and row.times_out_at < now
            and (row.epoch < owners[row.instance_id].epoch or owners[row.instance_id].lease_until_s < now_s)
        ]  # fmt: skip
        yield from self.ledger.settle_all(process, findings)

    def end_silence(self, process: Process) -> Steps[None]:
        now, wait = self.database.loop.at(), timedelta(seconds=SENDER.reconcile_wait_s)
        findings: list[tuple[Key, Finding]] = [
            (key, NoEvidence()) for key, row in self.database.tables[ATTEMPT].items()
            if row.state == "ambiguous"
            and reconcile.is_unresolved(row.intent_at, self.database.tables[WATERMARK].get(row.instance_id), now, wait)
        ]  # fmt: skip
        yield from self.ledger.settle_all(process, findings)
