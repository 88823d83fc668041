"""Plans in the simulation: dispatches are made, cancelled and tried again, and their waits end. `allocate` is real."""

from typing import Any

from contracts import ids
from scheduler.dispatch import automaton
from scheduler.dispatch.dispatches import read_dispatch
from scheduler.plan.assignment import Candidate, Listed, allocate, expand
from simulation.clock import Process, Steps
from simulation.postgres import Transaction
from simulation.scheduler_tables import (
    CAMPAIGN,
    CHORE,
    DISPATCH,
    LANE,
    NEW_LANE,
    OPT_OUT,
    RECIPIENT,
    Row,
    Tables,
    change,
    ended,
    fields_of,
    new_dispatch,
)


class Planning:
    """A page is a whole campaign here; what is told of it goes through the outbox."""

    def __init__(self, tables: Tables) -> None:
        self.tables, self.database = tables, tables.database

    def plan(self, process: Process) -> Steps[None]:
        for campaign_id, row in list(self.database.tables[CAMPAIGN].items()):
            if row["planned"] is not None or row["chunk_count"] is None or row["chunks"] < row["chunk_count"]:
                continue
            transaction = self.database.begin(process)
            yield from transaction.lock(CAMPAIGN, campaign_id)
            row = transaction.read(CAMPAIGN, campaign_id)
            if row["planned"] is not None:
                transaction.roll_back()
                continue
            listed = [
                Listed(r.recipient_id, r.contact_id, ids.phone_key(r.phone), chunk * 1000 + nth, None,
                       self._refused(transaction, r.phone))
                for _, (of, chunk, nth, r) in transaction.rows(RECIPIENT) if of == campaign_id
            ]  # fmt: skip
            listed.sort(key=lambda one: one.position)
            phones = {r.recipient_id: r.phone for _, (_, _, _, r) in transaction.rows(RECIPIENT)}
            pool = [Candidate(instance_id, 250) for instance_id in row["definition"].pool]
            places = allocate(listed, pool, self._pick)
            cancelled = row["status"] in automaton.CANCELLED
            planned = expand(places, len(row["definition"].steps), cancelled=cancelled)
            rows = [new_dispatch(transaction, campaign_id, one, phones[one.recipient_id]) for one in planned]
            for instance_id in {one.instance_id: None for one in planned}:
                if transaction.read(LANE, instance_id) is None:
                    transaction.write(LANE, instance_id, NEW_LANE)
            transaction.write(CAMPAIGN, campaign_id, {**row, "planned": len(planned)})
            self.tables.report(transaction, rows)
            yield from transaction.commit()

    def _pick(self, count: int) -> int:
        return int(self.database.loop.rng.random() * count)

    @staticmethod
    def _refused(transaction: Transaction, phone: str) -> Any:
        return "opted_out" if transaction.read(OPT_OUT, ids.phone_key(phone)) else None

    def do_chores(self, process: Process) -> Steps[None]:
        for campaign_id, kind in list(self.database.tables[CHORE]):
            transaction = self.database.begin(process)
            yield from transaction.lock(CHORE, (campaign_id, kind))
            yield from transaction.lock(CAMPAIGN, campaign_id, share=True)
            status = transaction.read(CAMPAIGN, campaign_id)["status"]
            rows = []
            for dispatch_id, row in list(transaction.rows(DISPATCH)):
                if row["campaign_id"] != campaign_id:
                    continue
                if kind == "cancel" and status in automaton.CANCELLED and row["state"] == "pending":
                    yield from transaction.lock(DISPATCH, dispatch_id)
                    row = transaction.read(DISPATCH, dispatch_id)
                    if row["state"] == "pending":
                        rows.append(change(transaction, row, **ended("cancelled", "cancelled")))
                elif kind == "requeue" and status not in automaton.CANCELLED and row["state"] == "failed":
                    yield from transaction.lock(DISPATCH, dispatch_id)
                    rows += self._requeue(transaction, transaction.read(DISPATCH, dispatch_id))
            self.tables.report(transaction, rows)
            planned = transaction.read(CAMPAIGN, campaign_id)["planned"] is not None
            left = kind == "cancel" and not planned
            if not left:
                transaction.write(CHORE, (campaign_id, kind), None)
            yield from transaction.commit()
            yield from self.tables.wake(process)

    def _requeue(self, transaction: Transaction, row: Row) -> list[Row]:
        before = read_dispatch(row)
        after = automaton.requeue(before)
        if after == before:
            return []
        rows = [change(transaction, row, **fields_of(after))]
        steps = len(transaction.read(CAMPAIGN, row["campaign_id"])["definition"].steps)
        for step in range(row["step"] + 1, steps):
            later = transaction.read(DISPATCH, ids.dispatch_id(row["recipient_id"], step))
            if later["state"] == "skipped" and later["reason"] == "previous_step":
                rows.append(change(transaction, later, state="pending", waits="previous_step"))
        return rows

    def end_waits(self, process: Process) -> Steps[None]:
        now = self.database.loop.at()
        due = [
            dispatch_id for dispatch_id, row in self.database.tables[DISPATCH].items()
            if row["waits"] == "time" and row["due_at"] <= now
        ]  # fmt: skip
        if not due:
            return
        transaction = self.database.begin(process)
        for dispatch_id in due:
            if transaction.try_lock(DISPATCH, dispatch_id):
                row = transaction.read(DISPATCH, dispatch_id)
                if row["waits"] == "time" and row["due_at"] <= now:
                    transaction.write(DISPATCH, dispatch_id, {**row, "waits": None, "due_at": None})
        yield from transaction.commit()
        yield from self.tables.wake(process)
