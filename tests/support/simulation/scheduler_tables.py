"""The scheduler's tables in the simulation: rows as dicts, and what several of its statements do to them alike."""

from collections.abc import Iterable, Sequence
from dataclasses import replace
from datetime import datetime
from typing import Any
from uuid import UUID

from chassis.kafka import Outgoing, outgoing
from contracts import ids, topics
from contracts.campaigns import Definition
from contracts.ids import Address
from contracts.messages import MessageQueued
from scheduler.campaign.runs import CampaignRun
from scheduler.dispatch import automaton, reports
from scheduler.lane import allowances, hours
from scheduler.lane.lanes import LockedLane
from scheduler.plan.rendering import Person, render
from scheduler.settings import PacingSettings
from simulation.clock import START, Process, Steps
from simulation.postgres import Database, Transaction
from simulation.town import ACCOUNT, TRACE, Town

SCHEMA = "scheduler"
PACING = PacingSettings(stuck_s=30.0, idle_s=3600.0)
Row = dict[str, Any]
CAMPAIGN, DISPATCH, LANE = "scheduler.campaign", "scheduler.dispatch", "scheduler.lane"
RECIPIENT, OPT_OUT, USED, CHORE = "scheduler.recipient", "scheduler.opt_out", "scheduler.used", "scheduler.chore"
NEW_CAMPAIGN: Row = {
    "status": "draft", "run_epoch": 0, "stream_version": 0, "definition": Definition(name=""), "chunk_count": None,
    "chunks": 0, "planned": None, "drained": False, "drained_count": 0,
}  # fmt: skip
NEW_LANE: Row = {
    "account_id": ACCOUNT, "last_outcome_at": None, "draw": 0.5, "sent_since_rest": 0, "in_flight": 0,
    "blocked_until": None, "blocked_by": None, "turns": {}, "due_at": START, "known": True, "status": "active",
    "is_active": True, "deleted": False, "health": None,
    "warm_allowance": None, "warm_used": 0, "warm_until": None, "warm_begins_at": None,
}  # fmt: skip


class Tables:
    """What every part of the scheduler asks of the database."""

    def __init__(self, town: Town, database: Database) -> None:
        self.town, self.database = town, database

    def run(self, transaction: Transaction, campaign_id: UUID) -> CampaignRun:
        row = transaction.read(CAMPAIGN, campaign_id)
        return CampaignRun(campaign_id, ACCOUNT, row["status"], row["run_epoch"], row["definition"])

    def lane_row(self, instance_id: UUID, row: Row) -> Row:
        return {**row, "instance_id": instance_id, "rate": self.town.instances[instance_id].rate.per_second}

    def save_lanes(self, transaction: Transaction, locked: Iterable[LockedLane]) -> None:
        for one in locked:
            lane = one.lane
            transaction.write(LANE, one.instance_id, {
                **transaction.read(LANE, one.instance_id), "warm_used": max(0, lane.warm_used),
                "last_outcome_at": lane.last_outcome_at, "draw": lane.draw,
                "sent_since_rest": lane.sent_since_rest, "in_flight": max(0, lane.in_flight),
                "blocked_until": lane.blocked_until, "blocked_by": lane.blocked_by,
                "turns": {str(key): value for key, value in one.owed.items()}, "due_at": one.due_at,
            })  # fmt: skip

    def used(self, transaction: Transaction, run: CampaignRun, now: datetime) -> int:
        return transaction.read(USED, (run.campaign_id, hours.local_day(run.definition.policy, now))) or 0

    def charge(
        self, transaction: Transaction, rows: Iterable[Any], runs: dict[UUID, CampaignRun], now: datetime, sign: int
    ) -> None:
        for row in rows:
            run = runs[row["campaign_id"]]
            if allowances.left(run, {}) < 1_000_000:
                day = hours.local_day(run.definition.policy, now)
                used = self.used(transaction, run, now)
                transaction.write(USED, (run.campaign_id, day), max(0, used + sign))

    def queued(self, row: Row) -> Outgoing:
        definition: Definition = self.database.tables[CAMPAIGN][row["campaign_id"]]["definition"]
        event = MessageQueued(
            dispatch_id=row["dispatch_id"], attempt=row["attempt"], release=row["release"],
            campaign_id=row["campaign_id"], run_epoch=row["run_epoch"], recipient_id=row["recipient_id"],
            contact_id=row["contact_id"], step=row["step"], priority="campaign", address=Address(phone=row["phone"]),
            content=render(definition.steps[row["step"]], Person(row["phone"])), send_before=row["send_before"],
            may_duplicate=row["may_duplicate"],
        )  # fmt: skip
        kind = f"queued:{row['attempt']}:{row['release']}"
        return outgoing(
            topics.MESSAGE_QUEUED, str(row["instance_id"]), event, source=topics.SCHEDULER, account_id=ACCOUNT,
            time=row["released_at"], event_id=ids.event_id(topics.SCHEDULER, str(row["dispatch_id"]), kind),
            traceparent=TRACE,
        )  # fmt: skip

    def report(self, transaction: Transaction, rows: Sequence[Row]) -> None:
        transaction.append(SCHEMA, told(rows, self.database.loop.at()))

    def wake(self, process: Process) -> Steps[None]:
        """Lanes come before dispatches in the order of locks: a transaction of its own."""
        transaction = self.database.begin(process)
        for instance_id in sorted(self.database.tables[LANE]):
            yield from transaction.lock(LANE, instance_id)
        self.wake_lanes(transaction)
        yield from transaction.commit()

    def wake_lanes(self, transaction: Transaction) -> None:
        now = self.database.loop.at()
        for instance_id, row in list(transaction.rows(LANE)):
            if row["due_at"] > now:
                transaction.write(LANE, instance_id, {**row, "due_at": now})

    @staticmethod
    def pending(transaction: Transaction) -> list[Row]:
        return [row for _, row in transaction.rows(DISPATCH) if row["state"] == "pending"]


def told(rows: Iterable[Row], now: datetime) -> list[Outgoing]:
    return reports.in_records([reports.Changed(r["campaign_id"], ACCOUNT, reports.describe(r)) for r in rows], now)


def change(transaction: Transaction, row: Row, **fields: Any) -> Row:
    """Every change of a dispatch has its own version."""
    changed = {**row, **fields, "version": row["version"] + 1}
    transaction.write(DISPATCH, row["dispatch_id"], changed)
    return changed


def ended(state: str, reason: str) -> Row:
    return {"state": state, "reason": reason, "waits": None, "due_at": None, "awaiting": False}


def fields_of(dispatch: automaton.Dispatch) -> Row:
    names = dispatch.__dataclass_fields__
    return {name: getattr(dispatch, name) for name in names}


def is_ready(row: Row) -> bool:
    return row["state"] == "pending" and row["waits"] is None


def new_dispatch(transaction: Transaction, campaign_id: UUID, planned: Any, phone: str) -> Row:
    row = {
        **fields_of(replace(automaton.Dispatch(), state=planned.state, waits=planned.waits, reason=planned.reason)),
        "dispatch_id": planned.dispatch_id, "account_id": ACCOUNT, "campaign_id": campaign_id,
        "recipient_id": planned.recipient_id, "contact_id": planned.contact_id, "instance_id": planned.instance_id,
        "step": planned.step, "place": planned.place, "version": 0, "released_at": None, "published_at": None,
        "send_before": None, "phone": phone,
    }  # fmt: skip
    transaction.write(DISPATCH, planned.dispatch_id, row)
    return row
