"""The scheduler in the simulation: pacing, fairness, assignment and the dispatch automaton are real.

Around them its tables and drivers, thin: what a statement does to rows is written out here in a line each.
"""

from datetime import datetime, timedelta
from functools import partial
from uuid import UUID

from contracts import topics
from contracts.progress import CampaignDrained
from scheduler.dispatch import automaton, reports
from scheduler.dispatch.dispatches import read_dispatch
from simulation.clock import Process, Steps
from simulation.drivers import AGAIN_S, consume, relay
from simulation.kafka import BrokerAway, Kafka
from simulation.postgres import ConnectionLost, Database
from simulation.scheduler_news import News
from simulation.scheduler_numbers import Numbers
from simulation.scheduler_outcomes import Outcomes
from simulation.scheduler_plan import Planning
from simulation.scheduler_release import Releases
from simulation.scheduler_tables import CAMPAIGN, CHORE, DISPATCH, LANE, PACING, SCHEMA, Row, Tables, is_ready
from simulation.town import ACCOUNT, Town


class Scheduler:
    """Any number of processes run it on the same tables."""

    def __init__(self, town: Town, database: Database, kafka: Kafka, flaws: frozenset[str]) -> None:
        self.tables, self.database, self.kafka, self.flaws = Tables(town, database), database, kafka, flaws
        self.news, self.outcomes = News(self.tables), Outcomes(self.tables)
        self.numbers = Numbers(town, database, flaws) if town.warm_ups.plans else None
        self.planning, self.releases = Planning(self.tables), Releases(self.tables, kafka, flaws)

    def boot(self, process: Process) -> list[Steps[None]]:
        hears = partial(consume, process, self.database, self.kafka)
        numbers = [topics.INSTANCES, topics.INSTANCE_HEALTH]
        warm = [] if self.numbers is None else [hears("scheduler-numbers", numbers, self.numbers.heed, self.flaws)]
        return [
            *warm,
            relay(process, self.database, self.kafka, SCHEMA, self.flaws),
            hears(
                "scheduler-campaigns",
                [topics.CAMPAIGNS, topics.CAMPAIGN_RECIPIENTS],
                self.news.follow,
                self.flaws,
                partial(self.tables.wake, process),
            ),
            hears("scheduler-outcomes", [topics.MESSAGE_SENT], self.outcomes.settle, self.flaws),
            hears("scheduler-contacts", [topics.CONTACTS], self.news.heed_opt_outs, self.flaws),
            self._work(process),
        ]

    def _work(self, process: Process) -> Steps[None]:
        while True:
            commits = self.database.commits[SCHEMA]
            try:
                yield from self.planning.plan(process)
                yield from self.planning.do_chores(process)
                yield from self.planning.end_waits(process)
                released = yield from self.releases.release(process)
                if not released:
                    yield from self.releases.publish_forgotten(process)
                    yield from self._report_drained(process)
                    if commits == self.database.commits[SCHEMA]:  # else something came while we looked
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
            if is_ready(row) and self.database.tables[CAMPAIGN][row["campaign_id"]]["status"] == "running":
                ready.add(row["instance_id"])
            if row["state"] == "released" and row["awaiting"]:
                wait_s = PACING.unpublished_s if row["published_at"] is None else PACING.stuck_s
                times.append((row["published_at"] or row["released_at"]) + timedelta(seconds=wait_s))
        times += [self.database.tables[LANE][instance_id]["due_at"] for instance_id in sorted(ready)]
        if not times:
            return None
        return max(0.05, (min(times) - now).total_seconds())

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
