"""What the sender answered, as the scheduler in the simulation applies it."""

from collections.abc import Iterable, Sequence
from typing import Any
from uuid import UUID

from contracts import ids
from contracts.messages import Outcome
from scheduler.campaign.runs import CampaignRun
from scheduler.dispatch import automaton
from scheduler.dispatch.dispatches import Loaded, read_dispatch
from scheduler.dispatch.outcomes import _apply
from scheduler.lane import lanes
from scheduler.lane.lanes import LockedLane
from simulation.clock import Steps
from simulation.kafka import Record
from simulation.postgres import Transaction
from simulation.scheduler_tables import CAMPAIGN, DISPATCH, LANE, Row, Tables, change, ended, fields_of


class Outcomes:
    """As the scheduler's Outcomes, whose `_apply` it uses."""

    def __init__(self, tables: Tables) -> None:
        self.tables, self.database = tables, tables.database

    def settle(self, transaction: Transaction, batch: Sequence[Record]) -> Steps[None]:
        outcomes = [(UUID(one.key), one.event) for one in batch if isinstance(one.event, Outcome)]
        locked: dict[UUID, LockedLane] = {}
        for instance_id in sorted({outcome.instance_id for _, outcome in outcomes}):
            yield from transaction.lock(LANE, instance_id)
            if (row := transaction.read(LANE, instance_id)) is not None:
                locked[instance_id] = lanes.read_lane(self.tables.lane_row(instance_id, row))
        runs: dict[UUID, CampaignRun] = {}
        for campaign_id in sorted({outcome.campaign_id for _, outcome in outcomes if outcome.campaign_id}):
            yield from transaction.lock(CAMPAIGN, campaign_id, share=True)
            runs[campaign_id] = self.tables.run(transaction, campaign_id)
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
        rows = [change(transaction, dict(one.row), **fields_of(one.after)) for one in changed]
        self.tables.report(transaction, rows + (yield from self._follow_up(transaction, changed, runs)))
        self.tables.charge(transaction, returned, runs, now, -1)
        for lane in locked.values():
            lane.count_answers(now, self.database.loop.rng.random())
            lane.due_at = min(lane.due_at, now)
        self.tables.save_lanes(transaction, locked.values())

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
