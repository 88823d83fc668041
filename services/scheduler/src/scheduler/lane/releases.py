"""Releasing due lanes: lock, decide by the pure rules, mark released with the lane's next time, in one transaction.

Publishing comes after the commit: the dispatch row is its own outbox.
"""

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import datetime, timedelta
from uuid import UUID

import asyncpg

from chassis.database import Database, driver
from scheduler.campaign.runs import CampaignRun, Definitions
from scheduler.lane import allowances, hours, lanes, pacing
from scheduler.lane.fairness import Contender, divide
from scheduler.lane.lanes import LockedLane
from scheduler.lane.pacing import Run, Wait
from scheduler.order.holds import Holds
from scheduler.rows import Row
from scheduler.settings import BatchSettings, PacingSettings

# Locks the campaigns FOR SHARE in order of id: whoever pauses or cancels waits for this transaction.
_LINES = """
SELECT n.instance_id, c.campaign_id, c.account_id, c.status, c.run_epoch, c.definition_version, c.traceparent,
    EXISTS (SELECT 1 FROM dispatch d WHERE d.instance_id = n.instance_id AND d.campaign_id = n.campaign_id
        AND d.state = 'pending' AND d.waits IS NULL AND d.campaign_id IS NOT NULL) AS ready
FROM line n JOIN campaign c USING (campaign_id, account_id)
WHERE n.instance_id = ANY($1::uuid[]) AND c.status = 'running'
ORDER BY c.campaign_id FOR SHARE OF c
"""
# The same transition as dispatch.release; index dispatch_ready gives the order. Who else changes a pending dispatch
# holds its lane or its campaign, or is seen by the version. By the version and not by state and waits, because a
# planner without statistics would look for these in a partial index instead of by id.
_TAKE = """
WITH turn AS (
    SELECT * FROM unnest($1::uuid[], $2::uuid[], $3::int[], $4::int[], $5::timestamptz[])
        AS t(instance_id, campaign_id, slots, run_epoch, send_before)
), next AS MATERIALIZED (
    SELECT d.dispatch_id, d.account_id, d.recipient_id, d.version, t.run_epoch, t.send_before
    FROM turn t CROSS JOIN LATERAL (
        SELECT dispatch_id, account_id, recipient_id, version FROM dispatch
        WHERE instance_id = t.instance_id AND campaign_id = t.campaign_id AND state = 'pending' AND waits IS NULL
            AND campaign_id IS NOT NULL
        ORDER BY place LIMIT t.slots) d
)
UPDATE dispatch d SET state = 'released', release = d.release + 1, run_epoch = n.run_epoch, awaiting = true,
    reason = NULL, version = d.version + 1, released_at = statement_timestamp(), published_at = NULL,
    send_before = n.send_before
FROM next n LEFT JOIN LATERAL (
    SELECT phone, name, custom_fields FROM recipient
    WHERE recipient_id = n.recipient_id AND account_id = n.account_id LIMIT 1) r ON true
WHERE d.dispatch_id = n.dispatch_id AND d.account_id = n.account_id AND d.version = n.version
RETURNING d.dispatch_id, d.account_id, d.campaign_id, d.recipient_id, d.contact_id, d.instance_id, d.step, d.place,
    d.version, d.attempt, d.release, d.state, d.reason, d.due_at, d.run_epoch, d.send_before, d.may_duplicate,
    d.released_at, r.phone, r.name, r.custom_fields
"""


@dataclass(frozen=True, slots=True)
class Line:
    """A running campaign in one lane; `ready`: it has something whose turn it is."""

    instance_id: UUID
    run: CampaignRun
    ready: bool


@dataclass(slots=True)
class Turn:
    """What one lane may release of one campaign."""

    line: Line
    slots: int
    send_before: datetime


@dataclass(frozen=True, slots=True)
class Released:
    """Committed and not published yet. `more`: some lane may be due now."""

    rows: Sequence[Row] = ()
    runs: Mapping[UUID, CampaignRun] = field(default_factory=dict)
    more: bool = False


class Releasing:
    """Any replica may take any lane; `FOR UPDATE SKIP LOCKED` keeps two from taking the same."""

    def __init__(
        self, database: Database, definitions: Definitions, settings: PacingSettings, batch: BatchSettings
    ) -> None:
        self._database = database
        self._definitions = definitions
        self._settings = settings
        self._batch = batch

    async def release_due(self) -> Released:
        """One transaction over at most `batch.lanes` due lanes."""
        async with self._database.transaction() as connection:
            raw = await driver(connection)
            locked, now = await lanes.lock_due(raw, self._batch.lanes)
            if not locked or now is None:
                return Released()
            lines = await self._load_lines(raw, [lane.instance_id for lane in locked])
            holds = await Holds.load(raw)
            used = await allowances.lock_used(raw, [line.run for line in lines if line.ready], now)
            turns = [
                turn
                for lane in locked
                for turn in self._decide(
                    lane, [n for n in lines if n.instance_id == lane.instance_id], holds, used, now
                )
            ]
            rows = await self._take(raw, turns)
            runs = {line.run.campaign_id: line.run for line in lines}
            await allowances.charge(raw, rows, runs, now)
            self._settle_lanes(locked, turns, rows, now)
            await lanes.save(raw, locked)
        more = len(locked) == self._batch.lanes or any(lane.due_at <= now for lane in locked)
        return Released(rows, runs, more)

    async def _load_lines(self, raw: asyncpg.Connection, instance_ids: Sequence[UUID]) -> list[Line]:
        rows = await raw.fetch(_LINES, instance_ids)
        parsed = await self._definitions.of(raw, {(row["campaign_id"], row["definition_version"]) for row in rows})
        return [
            Line(
                row["instance_id"],
                CampaignRun(
                    row["campaign_id"],
                    row["account_id"],
                    row["status"],
                    row["run_epoch"],
                    parsed[row["campaign_id"]],
                    row["traceparent"],
                ),
                row["ready"],
            )
            for row in rows
        ]

    def _decide(
        self, lane: LockedLane, lines: Sequence[Line], holds: Holds, used: dict[UUID, int], now: datetime
    ) -> list[Turn]:
        """Sets the lane's next time as it goes; a release sets it again afterwards."""
        lane.due_at = now + timedelta(seconds=self._settings.idle_s)
        lane.lane = replace(lane.lane, held=holds.of_instance(lane.account_id, lane.instance_id))
        contending: list[Line] = []
        for line in (line for line in lines if line.ready):
            run = Run(
                line.run.definition.policy,
                running=True,
                held=holds.of_campaign(line.run),
                used_today=used.get(line.run.campaign_id, 0),
            )
            waits = pacing.run_waits(run, now)
            if waits:
                _come_back(lane, pacing.longest(waits), now)
            else:
                contending.append(line)
        if not contending:
            return []
        bounds = pacing.combine([line.run.definition.policy for line in contending])
        answer = pacing.next_release(lane.lane, bounds, now, self._settings.horizon_s)
        if isinstance(answer, Wait):
            _come_back(lane, answer, now)
            return []
        if pacing.rested(lane.lane, bounds, now):
            lane.lane = replace(lane.lane, sent_since_rest=0)
        return self._share(lane, contending, min(answer, self._batch.lane_messages), used, now)

    def _share(
        self, lane: LockedLane, contending: Sequence[Line], slots: int, used: dict[UUID, int], now: datetime
    ) -> list[Turn]:
        """Counts what it gives in `used`: several lanes of a transaction share a campaign's allowance."""
        contenders = [Contender(line.run.campaign_id, line.run.account_id) for line in contending]
        shares = divide(slots, contenders, lane.owed)
        lane.owed = shares.owed
        within = now + timedelta(seconds=self._settings.send_within_s)
        turns: list[Turn] = []
        for line in contending:
            given = shares.slots.get(line.run.campaign_id, 0)
            given = min(given, allowances.left(line.run, used))
            if given > 0:
                used[line.run.campaign_id] = used.get(line.run.campaign_id, 0) + given
                closes_at = hours.closes_at(line.run.definition.policy, now)
                turns.append(Turn(line, given, min(within, closes_at) if closes_at else within))
        return turns

    async def _take(self, raw: asyncpg.Connection, turns: Sequence[Turn]) -> Sequence[Row]:
        if not turns:
            return []
        rows: Sequence[Row] = await raw.fetch(
            _TAKE,
            [turn.line.instance_id for turn in turns],
            [turn.line.run.campaign_id for turn in turns],
            [turn.slots for turn in turns],
            [turn.line.run.run_epoch for turn in turns],
            [turn.send_before for turn in turns],
        )
        return rows

    def _settle_lanes(
        self, locked: Sequence[LockedLane], turns: Sequence[Turn], rows: Sequence[Row], now: datetime
    ) -> None:
        """A lane that gave all it was asked for rests until it may give more; one that had less is looked at again."""
        taken = Counter(row["instance_id"] for row in rows)
        asked: dict[UUID, list[Turn]] = {}
        for turn in turns:
            asked.setdefault(turn.line.instance_id, []).append(turn)
        for lane in locked:
            count = taken[lane.instance_id]
            lane.lane = replace(lane.lane, in_flight=lane.lane.in_flight + count, warm_used=lane.lane.warm_used + count)
            if of_lane := asked.get(lane.instance_id):
                wait = self._next_wait(lane, of_lane, now) if count == sum(turn.slots for turn in of_lane) else None
                if wait is None:
                    lane.due_at = now
                else:
                    _come_back(lane, wait, now)

    def _next_wait(self, lane: LockedLane, turns: Sequence[Turn], now: datetime) -> Wait | None:
        bounds = pacing.combine([turn.line.run.definition.policy for turn in turns])
        answer = pacing.next_release(lane.lane, bounds, now, self._settings.horizon_s)
        return answer if isinstance(answer, Wait) else None


def _come_back(lane: LockedLane, wait: Wait, now: datetime) -> None:
    if wait.until is not None and wait.until > now:
        lane.due_at = min(lane.due_at, wait.until)
