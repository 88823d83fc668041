"""Releases in the simulation: due lanes are locked, what may go is released, committed, published, marked."""

from collections.abc import Iterable, Sequence
from datetime import datetime, timedelta
from uuid import UUID

from scheduler.campaign.runs import CampaignRun, Definitions
from scheduler.dispatch import automaton
from scheduler.dispatch.dispatches import read_dispatch
from scheduler.lane import lanes
from scheduler.lane.releases import Line, Releasing, Turn
from scheduler.order.holds import Holds
from scheduler.settings import BatchSettings
from simulation.clock import Process, Steps
from simulation.kafka import Kafka
from simulation.postgres import Transaction
from simulation.scheduler_tables import CAMPAIGN, DISPATCH, LANE, PACING, Row, Tables, change, fields_of, is_ready, told


class Releases:
    """`Releasing` decides; what it does in SQL is done here."""

    def __init__(self, tables: Tables, kafka: Kafka, flaws: frozenset[str]) -> None:
        self.tables, self.database, self.kafka, self.flaws = tables, tables.database, kafka, flaws
        self.releasing = Releasing(None, Definitions(), PACING, BatchSettings())  # type: ignore[arg-type]

    def release(self, process: Process) -> Steps[bool]:
        """As releases.release_due; its decisions are those methods of Releasing that do no I/O."""
        now = self.database.loop.at()
        due = [i for i, row in sorted(self.database.tables[LANE].items()) if row["due_at"] <= now]
        waiting = {row["instance_id"] for row in self.database.tables[DISPATCH].values() if is_ready(row)}
        if not waiting.intersection(due):
            return False
        transaction = self.database.begin(process)
        locked = [
            lanes.read_lane(self.tables.lane_row(instance_id, transaction.read(LANE, instance_id)))
            for instance_id in due if transaction.try_lock(LANE, instance_id)
        ]  # fmt: skip
        locked = [lane for lane in locked if lane.due_at <= now]
        lines, runs = [], {}
        for campaign_id in sorted({row["campaign_id"] for _, row in transaction.rows(DISPATCH)}):
            yield from transaction.lock(CAMPAIGN, campaign_id, share=True)
            run = self.tables.run(transaction, campaign_id)
            if run.status == "running":
                runs[campaign_id] = run
                lines += [
                    Line(lane.instance_id, run, bool(self._ready(transaction, lane.instance_id, run)))
                    for lane in locked
                ]
        used = {run.campaign_id: self.tables.used(transaction, run, now) for run in runs.values()}
        turns: list[Turn] = []
        for lane in locked:
            of_lane = [line for line in lines if line.instance_id == lane.instance_id]
            turns += self.releasing._decide(lane, of_lane, Holds(()), used, now)
        rows = self._take(transaction, turns, now)
        self.tables.charge(transaction, rows, runs, now, 1)
        self.releasing._settle_lanes(locked, turns, rows, now)
        self.tables.save_lanes(transaction, locked)
        yield from transaction.commit()
        if rows:
            yield from self._publish(process, rows)
        return bool(rows)

    def _ready(self, transaction: Transaction, instance_id: UUID, run: CampaignRun) -> list[Row]:
        rows = [
            row for _, row in transaction.rows(DISPATCH)
            if row["instance_id"] == instance_id and row["campaign_id"] == run.campaign_id and is_ready(row)
        ]  # fmt: skip
        return sorted(rows, key=lambda row: row["place"])

    def _take(self, transaction: Transaction, turns: Iterable[Turn], now: datetime) -> list[Row]:
        """The same transition as automaton.release; who holds a row now is passed over."""
        rows = []
        for turn in turns:
            for row in self._ready(transaction, turn.line.instance_id, turn.line.run)[: turn.slots]:
                if transaction.try_lock(DISPATCH, row["dispatch_id"]):
                    after = automaton.release(read_dispatch(row), turn.line.run.run_epoch)
                    fields = {
                        **fields_of(after),
                        "released_at": now,
                        "published_at": None,
                        "send_before": turn.send_before,
                    }
                    rows.append(change(transaction, row, **fields))
        return rows

    def _publish(self, process: Process, rows: Sequence[Row]) -> Steps[None]:
        yield from self.kafka.publish(
            process, [self.tables.queued(row) for row in rows] + told(rows, self.database.loop.at())
        )
        transaction = self.database.begin(process)
        for row in rows:
            yield from transaction.lock(DISPATCH, row["dispatch_id"])
            known = transaction.read(DISPATCH, row["dispatch_id"])
            if known["awaiting"] and (known["attempt"], known["release"]) == (row["attempt"], row["release"]):
                transaction.write(DISPATCH, row["dispatch_id"], {**known, "published_at": self.database.loop.at()})
        yield from transaction.commit()

    def publish_forgotten(self, process: Process) -> Steps[None]:
        if "forgotten_not_published" in self.flaws:
            return
        now = self.database.loop.at()
        unpublished, stuck = now - timedelta(seconds=PACING.unpublished_s), now - timedelta(seconds=PACING.stuck_s)
        forgotten = [
            row for row in self.database.tables[DISPATCH].values()
            if row["state"] == "released" and row["awaiting"] and row["released_at"] <= unpublished
            and (row["published_at"] is None or row["published_at"] <= stuck)
        ]  # fmt: skip
        if not forgotten:
            return
        transaction = self.database.begin(process)
        rows = []
        for row in forgotten:
            if (
                transaction.try_lock(DISPATCH, row["dispatch_id"])
                and transaction.read(DISPATCH, row["dispatch_id"]) is row
            ):
                transaction.write(DISPATCH, row["dispatch_id"], {**row, "published_at": now})
                rows.append(row)
        yield from transaction.commit()
        yield from self.kafka.publish(process, [self.tables.queued(row) for row in rows])
