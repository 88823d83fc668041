"""The scheduler in the simulation: pacing, fairness, assignment and the dispatch automaton are real.

Around them its tables and drivers, thin: what a statement does to rows is written out here in a line each.
"""

from collections.abc import Iterable, Sequence
from dataclasses import replace
from datetime import datetime, timedelta
from functools import partial
from typing import Any
from uuid import UUID

from chassis.kafka import Outgoing, outgoing
from contracts import ids, topics
from contracts.campaigns import CampaignEvent, CampaignResumed, CampaignStarted, Definition, RecipientsAdded
from contracts.contacts import ContactOptedOut
from contracts.ids import Address
from contracts.messages import MessageQueued, Outcome
from contracts.progress import CampaignDrained
from scheduler.campaign.campaigns import _status
from scheduler.campaign.runs import CampaignRun, Definitions
from scheduler.dispatch import automaton, reports
from scheduler.dispatch.dispatches import Loaded, read_dispatch
from scheduler.dispatch.outcomes import _apply
from scheduler.lane import allowances, hours, lanes
from scheduler.lane.lanes import LockedLane
from scheduler.lane.releases import Line, Releasing, Turn
from scheduler.order.holds import Holds
from scheduler.plan.assignment import Candidate, Listed, allocate, expand
from scheduler.plan.rendering import Person, render
from scheduler.settings import BatchSettings, PacingSettings
from simulation_clock import START, Process, Steps
from simulation_drivers import AGAIN_S, consume, relay
from simulation_kafka import BrokerAway, Kafka, Record
from simulation_postgres import ConnectionLost, Database, Transaction
from simulation_town import ACCOUNT, TRACE, Town

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
}  # fmt: skip


class Scheduler:
    """Any number of processes run it on the same tables."""

    def __init__(self, town: Town, database: Database, kafka: Kafka, flaws: frozenset[str]) -> None:
        self.town, self.database, self.kafka, self.flaws = town, database, kafka, flaws
        self.releasing = Releasing(None, Definitions(), PACING, BatchSettings())  # type: ignore[arg-type]

    def boot(self, process: Process) -> list[Steps[None]]:
        hears = partial(consume, process, self.database, self.kafka)
        return [
            relay(process, self.database, self.kafka, SCHEMA, self.flaws),
            hears(
                "scheduler-campaigns",
                [topics.CAMPAIGNS, topics.CAMPAIGN_RECIPIENTS],
                self._follow,
                self.flaws,
                partial(self._wake, process),
            ),
            hears("scheduler-outcomes", [topics.MESSAGE_SENT], self._settle, self.flaws),
            hears("scheduler-contacts", [topics.CONTACTS], self._heed_opt_outs, self.flaws),
            self._work(process),
        ]

    # What campaigns say

    def _follow(self, transaction: Transaction, batch: Sequence[Record]) -> Steps[None]:
        for campaign_id in sorted({UUID(one.key) for one in batch}):
            yield from transaction.lock(CAMPAIGN, campaign_id)
        for one in batch:
            campaign_id, event, version = UUID(one.key), one.event, one.envelope.stream_version or 0
            row = {**(transaction.read(CAMPAIGN, campaign_id) or NEW_CAMPAIGN)}
            if isinstance(event, RecipientsAdded):
                for nth, recipient in enumerate(event.recipients):
                    transaction.write(RECIPIENT, recipient.recipient_id, (campaign_id, event.chunk, nth, recipient))
                row["chunks"] = len(
                    {chunk for _, (of, chunk, _, _) in transaction.rows(RECIPIENT) if of == campaign_id}
                )
            elif row["stream_version"] < version and isinstance(event, CampaignEvent):
                self._move(transaction, campaign_id, row, event, version)
            transaction.write(CAMPAIGN, campaign_id, row)

    def _move(self, transaction: Transaction, campaign_id: UUID, row: Row, event: CampaignEvent, version: int) -> None:
        status = _status(event)
        row |= {"stream_version": version, "run_epoch": max(row["run_epoch"], event.run_epoch)}
        if status is not None:
            row["status"] = status
        match event:
            case CampaignStarted():
                row |= {"definition": event.definition, "chunk_count": event.chunk_count, "drained": False}
            case CampaignResumed():
                row["drained"] = False
                freed = [
                    d for _, d in transaction.rows(DISPATCH) if d["campaign_id"] == campaign_id and d["waits"] == "run"
                ]
                self._report(transaction, [change(transaction, d, waits=None, reason=None) for d in freed])
                if event.retry == "failed":
                    transaction.write(CHORE, (campaign_id, "requeue"), True)
            case _ if status in ("cancelling", "cancelled"):
                transaction.write(CHORE, (campaign_id, "cancel"), True)
            case _:
                pass

    def _heed_opt_outs(self, transaction: Transaction, batch: Sequence[Record]) -> Steps[None]:
        keys = [one.event.recipient_key for one in batch if isinstance(one.event, ContactOptedOut)]
        for key in keys:
            transaction.write(OPT_OUT, key, True)
        pending = [row for row in self._pending(transaction) if ids.phone_key(row["phone"]) in keys]
        for instance_id in sorted({row["instance_id"] for row in pending}):
            yield from transaction.lock(LANE, instance_id)
        for campaign_id in sorted({row["campaign_id"] for row in pending}):
            yield from transaction.lock(CAMPAIGN, campaign_id, share=True)
        still = []
        for dispatch_id in sorted(row["dispatch_id"] for row in pending):
            yield from transaction.lock(DISPATCH, dispatch_id)
            if (row := transaction.read(DISPATCH, dispatch_id))["state"] == "pending":
                still.append(change(transaction, row, **ended("skipped", "opted_out")))
        self._report(transaction, still)

    @staticmethod
    def _pending(transaction: Transaction) -> list[Row]:
        return [row for _, row in transaction.rows(DISPATCH) if row["state"] == "pending"]

    # What the sender answers

    def _settle(self, transaction: Transaction, batch: Sequence[Record]) -> Steps[None]:
        outcomes = [(UUID(one.key), one.event) for one in batch if isinstance(one.event, Outcome)]
        locked: dict[UUID, LockedLane] = {}
        for instance_id in sorted({outcome.instance_id for _, outcome in outcomes}):
            yield from transaction.lock(LANE, instance_id)
            if (row := transaction.read(LANE, instance_id)) is not None:
                locked[instance_id] = lanes.read_lane(self._lane_row(instance_id, row))
        runs: dict[UUID, CampaignRun] = {}
        for campaign_id in sorted({outcome.campaign_id for _, outcome in outcomes if outcome.campaign_id}):
            yield from transaction.lock(CAMPAIGN, campaign_id, share=True)
            runs[campaign_id] = self._run(transaction, campaign_id)
        loaded: dict[UUID, Loaded] = {}
        for dispatch_id in sorted({dispatch_id for dispatch_id, _ in outcomes}):
            yield from transaction.lock(DISPATCH, dispatch_id)
            if (row := transaction.read(DISPATCH, dispatch_id)) is not None:
                dispatch = read_dispatch(row)
                loaded[dispatch_id] = Loaded(row, dispatch, dispatch)
        now = self.database.loop.at()
        returned: list[Any] = []
        for dispatch_id, outcome in outcomes:
            if (one := loaded.get(dispatch_id)) is not None:
                rules = runs[one.row["campaign_id"]].rules
                _apply(one, outcome, rules, locked.get(one.row["instance_id"]), returned, now)
        changed = [one for one in loaded.values() if one.changed]
        rows = [change(transaction, dict(one.row), **_fields(one.after)) for one in changed]
        self._report(transaction, rows + (yield from self._follow_up(transaction, changed, runs)))
        self._charge(transaction, returned, runs, now, -1)
        for lane in locked.values():
            lane.count_answers(now, self.database.loop.rng.random())
            lane.due_at = min(lane.due_at, now)
        self._save_lanes(transaction, locked.values())

    def _follow_up(
        self, transaction: Transaction, changed: Iterable[Loaded], runs: dict[UUID, CampaignRun]
    ) -> Steps[list[Row]]:
        """As outcomes.follow: an accepted step opens the next one, one that ended otherwise skips all later ones."""
        rows: list[Row] = []
        for one in changed:
            steps = len(runs[one.row["campaign_id"]].definition.steps)
            what = automaton.following(one.before, one.after)
            for step in range(one.row["step"] + 1, steps):
                if what is None:
                    continue
                dispatch_id = ids.dispatch_id(one.row["recipient_id"], step)
                yield from transaction.lock(DISPATCH, dispatch_id)
                row = transaction.read(DISPATCH, dispatch_id)
                if row is None or row["state"] != "pending":
                    continue
                if what == "skip":
                    reason = "opted_out" if one.after.reason == "opted_out" else "previous_step"
                    rows.append(change(transaction, row, **ended("skipped", reason)))
                elif what == "open" and step == one.row["step"] + 1 and row["waits"] == "previous_step":
                    rows.append(change(transaction, row, waits=None, reason=None))
        return rows

    # What time brings

    def _work(self, process: Process) -> Steps[None]:
        while True:
            try:
                yield from self._plan(process)
                yield from self._do_chores(process)
                yield from self._end_waits(process)
                released = yield from self._release(process)
                if not released:
                    yield from self._publish_forgotten(process)
                    yield from self._report_drained(process)
                    yield (self.database.changed(SCHEMA), self._next_look_s())
            except (ConnectionLost, BrokerAway):
                yield AGAIN_S

    def _next_look_s(self) -> float | None:
        """Until the next time that stands in some row; the real worker looks every `poll_s`."""
        now = self.database.loop.at()
        times: list[datetime] = []
        ready = set()
        for row in self.database.tables[DISPATCH].values():
            if row["waits"] == "time":
                times.append(row["due_at"])
            if _is_ready(row) and self.database.tables[CAMPAIGN][row["campaign_id"]]["status"] == "running":
                ready.add(row["instance_id"])
            if row["state"] == "released" and row["awaiting"]:
                wait_s = PACING.unpublished_s if row["published_at"] is None else PACING.stuck_s
                times.append((row["published_at"] or row["released_at"]) + timedelta(seconds=wait_s))
        times += [self.database.tables[LANE][instance_id]["due_at"] for instance_id in sorted(ready)]
        if not times:
            return None
        return max(0.05, (min(times) - now).total_seconds())

    def _plan(self, process: Process) -> Steps[None]:
        """A page is a whole campaign here; what is told of it goes through the outbox."""
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
            rows = [_new_dispatch(transaction, campaign_id, one, phones[one.recipient_id]) for one in planned]
            for instance_id in {one.instance_id: None for one in planned}:
                if transaction.read(LANE, instance_id) is None:
                    transaction.write(LANE, instance_id, NEW_LANE)
            transaction.write(CAMPAIGN, campaign_id, {**row, "planned": len(planned)})
            self._report(transaction, rows)
            yield from transaction.commit()

    def _pick(self, count: int) -> int:
        return int(self.database.loop.rng.random() * count)

    @staticmethod
    def _refused(transaction: Transaction, phone: str) -> Any:
        return "opted_out" if transaction.read(OPT_OUT, ids.phone_key(phone)) else None

    def _do_chores(self, process: Process) -> Steps[None]:
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
            self._report(transaction, rows)
            planned = transaction.read(CAMPAIGN, campaign_id)["planned"] is not None
            left = kind == "cancel" and not planned
            if not left:
                transaction.write(CHORE, (campaign_id, kind), None)
            yield from transaction.commit()
            yield from self._wake(process)

    def _requeue(self, transaction: Transaction, row: Row) -> list[Row]:
        before = read_dispatch(row)
        after = automaton.requeue(before)
        if after == before:
            return []
        rows = [change(transaction, row, **_fields(after))]
        steps = len(transaction.read(CAMPAIGN, row["campaign_id"])["definition"].steps)
        for step in range(row["step"] + 1, steps):
            later = transaction.read(DISPATCH, ids.dispatch_id(row["recipient_id"], step))
            if later["state"] == "skipped" and later["reason"] == "previous_step":
                rows.append(change(transaction, later, state="pending", waits="previous_step"))
        return rows

    def _end_waits(self, process: Process) -> Steps[None]:
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
        yield from self._wake(process)

    def _wake(self, process: Process) -> Steps[None]:
        """Lanes come before dispatches in the order of locks: a transaction of its own."""
        transaction = self.database.begin(process)
        for instance_id in sorted(self.database.tables[LANE]):
            yield from transaction.lock(LANE, instance_id)
        self._wake_lanes(transaction)
        yield from transaction.commit()

    def _wake_lanes(self, transaction: Transaction) -> None:
        now = self.database.loop.at()
        for instance_id, row in list(transaction.rows(LANE)):
            if row["due_at"] > now:
                transaction.write(LANE, instance_id, {**row, "due_at": now})

    def _release(self, process: Process) -> Steps[bool]:
        """As releases.release_due; its decisions are those methods of Releasing that do no I/O."""
        now = self.database.loop.at()
        due = [i for i, row in sorted(self.database.tables[LANE].items()) if row["due_at"] <= now]
        waiting = {row["instance_id"] for row in self.database.tables[DISPATCH].values() if _is_ready(row)}
        if not waiting.intersection(due):
            return False
        transaction = self.database.begin(process)
        locked = [
            lanes.read_lane(self._lane_row(instance_id, transaction.read(LANE, instance_id)))
            for instance_id in due if transaction.try_lock(LANE, instance_id)
        ]  # fmt: skip
        locked = [lane for lane in locked if lane.due_at <= now]
        lines, runs = [], {}
        for campaign_id in sorted({row["campaign_id"] for _, row in transaction.rows(DISPATCH)}):
            yield from transaction.lock(CAMPAIGN, campaign_id, share=True)
            run = self._run(transaction, campaign_id)
            if run.status == "running":
                runs[campaign_id] = run
                lines += [
                    Line(lane.instance_id, run, bool(self._ready(transaction, lane.instance_id, run)))
                    for lane in locked
                ]
        used = {run.campaign_id: self._used(transaction, run, now) for run in runs.values()}
        turns: list[Turn] = []
        for lane in locked:
            of_lane = [line for line in lines if line.instance_id == lane.instance_id]
            turns += self.releasing._decide(lane, of_lane, Holds(()), used, now)
        rows = self._take(transaction, turns, now)
        self._charge(transaction, rows, runs, now, 1)
        self.releasing._settle_lanes(locked, turns, rows, now)
        self._save_lanes(transaction, locked)
        yield from transaction.commit()
        if rows:
            yield from self._publish(process, rows)
        return bool(rows)

    def _ready(self, transaction: Transaction, instance_id: UUID, run: CampaignRun) -> list[Row]:
        rows = [
            row for _, row in transaction.rows(DISPATCH)
            if row["instance_id"] == instance_id and row["campaign_id"] == run.campaign_id and _is_ready(row)
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
                        **_fields(after),
                        "released_at": now,
                        "published_at": None,
                        "send_before": turn.send_before,
                    }
                    rows.append(change(transaction, row, **fields))
        return rows

    def _publish(self, process: Process, rows: Sequence[Row]) -> Steps[None]:
        yield from self.kafka.publish(
            process, [self._queued(row) for row in rows] + told(rows, self.database.loop.at())
        )
        transaction = self.database.begin(process)
        for row in rows:
            yield from transaction.lock(DISPATCH, row["dispatch_id"])
            known = transaction.read(DISPATCH, row["dispatch_id"])
            if known["awaiting"] and (known["attempt"], known["release"]) == (row["attempt"], row["release"]):
                transaction.write(DISPATCH, row["dispatch_id"], {**known, "published_at": self.database.loop.at()})
        yield from transaction.commit()

    def _publish_forgotten(self, process: Process) -> Steps[None]:
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
        yield from self.kafka.publish(process, [self._queued(row) for row in rows])

    def _report_drained(self, process: Process) -> Steps[None]:
        for campaign_id, row in list(self.database.tables[CAMPAIGN].items()):
            if row["status"] != "running" or row["planned"] is None or row["drained"] or self._open(campaign_id):
                continue
            transaction = self.database.begin(process)
            yield from transaction.lock(CAMPAIGN, campaign_id)
            row = transaction.read(CAMPAIGN, campaign_id)
            if row["status"] != "running" or row["drained"] or self._open(campaign_id):
                transaction.roll_back()
                continue
            transaction.write(
                CAMPAIGN, campaign_id, {**row, "drained": True, "drained_count": row["drained_count"] + 1}
            )
            transaction.notes.append(("drained", campaign_id))
            event = CampaignDrained(run_epoch=row["run_epoch"], planned=row["planned"])
            kind = f"drained:{row['run_epoch']}:{row['drained_count'] + 1}"
            transaction.append(
                SCHEMA, [reports.progress(campaign_id, ACCOUNT, event, kind=kind, now=self.database.loop.at())]
            )
            yield from transaction.commit()

    def _open(self, campaign_id: UUID) -> bool:
        if any(of == campaign_id for of, _ in self.database.tables[CHORE]):
            return True
        return any(
            row["campaign_id"] == campaign_id and not self._is_over(row)
            for row in self.database.tables[DISPATCH].values()
        )

    def _is_over(self, row: Row) -> bool:
        if "drained_while_ambiguous" in self.flaws and row["state"] == "released" and not row["awaiting"]:
            return True
        return automaton.is_final(read_dispatch(row))

    # Rows

    def _run(self, transaction: Transaction, campaign_id: UUID) -> CampaignRun:
        row = transaction.read(CAMPAIGN, campaign_id)
        return CampaignRun(campaign_id, ACCOUNT, row["status"], row["run_epoch"], row["definition"])

    def _lane_row(self, instance_id: UUID, row: Row) -> Row:
        return {**row, "instance_id": instance_id, "rate": self.town.instances[instance_id].rate.per_second}

    def _save_lanes(self, transaction: Transaction, locked: Iterable[LockedLane]) -> None:
        for one in locked:
            lane = one.lane
            transaction.write(LANE, one.instance_id, {
                **NEW_LANE, "last_outcome_at": lane.last_outcome_at, "draw": lane.draw,
                "sent_since_rest": lane.sent_since_rest, "in_flight": max(0, lane.in_flight),
                "blocked_until": lane.blocked_until, "blocked_by": lane.blocked_by,
                "turns": {str(key): value for key, value in one.owed.items()}, "due_at": one.due_at,
            })  # fmt: skip

    def _used(self, transaction: Transaction, run: CampaignRun, now: datetime) -> int:
        return transaction.read(USED, (run.campaign_id, hours.local_day(run.definition.policy, now))) or 0

    def _charge(
        self, transaction: Transaction, rows: Iterable[Any], runs: dict[UUID, CampaignRun], now: datetime, sign: int
    ) -> None:
        for row in rows:
            run = runs[row["campaign_id"]]
            if allowances.left(run, {}) < 1_000_000:
                day = hours.local_day(run.definition.policy, now)
                used = self._used(transaction, run, now)
                transaction.write(USED, (run.campaign_id, day), max(0, used + sign))

    def _queued(self, row: Row) -> Outgoing:
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

    def _report(self, transaction: Transaction, rows: Sequence[Row]) -> None:
        transaction.append(SCHEMA, told(rows, self.database.loop.at()))


def told(rows: Iterable[Row], now: datetime) -> list[Outgoing]:
    return reports.in_records([reports.Changed(r["campaign_id"], ACCOUNT, reports.describe(r)) for r in rows], now)


def change(transaction: Transaction, row: Row, **fields: Any) -> Row:
    """Every change of a dispatch has its own version."""
    changed = {**row, **fields, "version": row["version"] + 1}
    transaction.write(DISPATCH, row["dispatch_id"], changed)
    return changed


def ended(state: str, reason: str) -> Row:
    return {"state": state, "reason": reason, "waits": None, "due_at": None, "awaiting": False}


def _fields(dispatch: automaton.Dispatch) -> Row:
    names = dispatch.__dataclass_fields__
    return {name: getattr(dispatch, name) for name in names}


def _is_ready(row: Row) -> bool:
    return row["state"] == "pending" and row["waits"] is None


def _new_dispatch(transaction: Transaction, campaign_id: UUID, planned: Any, phone: str) -> Row:
    row = {
        **_fields(replace(automaton.Dispatch(), state=planned.state, waits=planned.waits, reason=planned.reason)),
        "dispatch_id": planned.dispatch_id, "account_id": ACCOUNT, "campaign_id": campaign_id,
        "recipient_id": planned.recipient_id, "contact_id": planned.contact_id, "instance_id": planned.instance_id,
        "step": planned.step, "place": planned.place, "version": 0, "released_at": None, "published_at": None,
        "send_before": None, "phone": phone,
    }  # fmt: skip
    transaction.write(DISPATCH, planned.dispatch_id, row)
    return row
