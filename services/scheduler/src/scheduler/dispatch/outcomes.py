"""What the sender answered, applied in batches: dispatches, later steps, lanes and allowances in one transaction."""

import random
from collections.abc import Iterable, Mapping, Sequence
from datetime import datetime
from typing import Any, cast
from uuid import UUID

import asyncpg
from sqlalchemy.ext.asyncio import AsyncConnection

from chassis.database import driver
from chassis.kafka import Received
from contracts import ids
from contracts.messages import MessageReturned, Outcome
from scheduler.campaign.runs import CampaignRun, Definitions, lock_shared
from scheduler.dispatch import automaton as dispatch
from scheduler.dispatch import dispatches
from scheduler.dispatch.automaton import Rules
from scheduler.dispatch.dispatches import Loaded
from scheduler.dispatch.reports import Changed, describe, report
from scheduler.lane import allowances, lanes, pacing
from scheduler.lane.lanes import LockedLane
from scheduler.rows import Row
from scheduler.settings import PacingSettings
from scheduler.signals import Stage

_STREAMS = "SELECT dispatch_id, conversation_id FROM answer WHERE dispatch_id = ANY($1::uuid[])"
_JITTER = 0.1
# A lane without delays is refilled when a part of its credit is free, not at each outcome.
_REFILL_BELOW = 0.8
ANSWERS = Rules()
_GONE = Rules(status="deleted")
Settled = Row


class Outcomes:
    def __init__(self, definitions: Definitions, settings: PacingSettings, stage: Stage) -> None:
        self._definitions = definitions
        self._settings = settings
        self._stage = stage

    async def handle(self, connection: AsyncConnection, batch: Sequence[Received]) -> None:
        """Lanes, campaigns, dispatches are locked in this order (see lanes.py)."""
        raw = await driver(connection)
        outcomes = [(ids.read_uuid(one.envelope.subject.encode()), cast(Outcome, one.event)) for one in batch]
        locked = await lanes.lock(raw, (outcome.instance_id for _, outcome in outcomes))
        campaign_ids = {outcome.campaign_id for _, outcome in outcomes if outcome.campaign_id is not None}
        runs = await lock_shared(raw, self._definitions, campaign_ids)
        loaded = await dispatches.lock(raw, (dispatch_id for dispatch_id, _ in outcomes))
        now: datetime = await raw.fetchval("SELECT statement_timestamp()")
        rules = {campaign_id: run.rules for campaign_id, run in runs.items()}
        returned: list[Settled] = []
        for dispatch_id, outcome in outcomes:
            if (one := loaded.get(dispatch_id)) is not None:
                campaign_id = one.row["campaign_id"]
                of_run = ANSWERS if campaign_id is None else rules.get(campaign_id, _GONE)
                _apply(one, outcome, of_run, locked.get(one.row["instance_id"]), returned, now)
        changed = [one for one in loaded.values() if one.changed]
        await dispatches.keep_from_erased(raw, changed)
        await dispatches.save(raw, changed)
        followers = await follow(raw, changed, runs)
        await allowances.charge(raw, returned, runs, now, back=True)
        for lane in locked.values():
            lane.count_answers(now, random.random())
            self._refill(lane, now)
        await lanes.save(raw, list(locked.values()))
        await report(connection, await change_rows(raw, changed, followers), now)
        busy = {instance_id for instance_id, lane in locked.items() if lane.lane.in_flight > 0}
        self._stage.maybe_drained(
            one.row["campaign_id"]
            for one in changed
            if dispatch.is_final(one.after) and one.row["instance_id"] not in busy
        )

    def _refill(self, locked: LockedLane, now: datetime) -> None:
        """A lane is looked at again as soon as that can release a useful number."""
        room = pacing.credit(locked.lane.rate, self._settings.horizon_s)
        if locked.lane.in_flight <= room * _REFILL_BELOW:
            locked.due_at = min(locked.due_at, now)
        if locked.due_at <= now:
            self._stage.lanes_due()


def _apply(
    one: Loaded, outcome: Any, rules: Rules, locked: LockedLane | None, returned: list[Settled], now: datetime
) -> None:
    before = one.after
    one.after = dispatch.settle(before, outcome, rules, now=now, jitter=random.uniform(-_JITTER, _JITTER))
    if locked is None:
        return
    came_back = type(outcome) is MessageReturned  # isinstance asks pydantic's metaclass, for each message
    if came_back and (until := dispatch.lane_block(outcome, now)) is not None:
        lanes.block(locked, until, outcome.reason)
    if not before.awaiting or one.after.awaiting:
        return
    of_campaign = one.row["campaign_id"] is not None
    locked.answered += of_campaign
    if came_back:
        returned.append(one.row)
        locked.came_back_of_campaigns += of_campaign
    else:
        locked.tried = True
        locked.tried_of_campaigns += of_campaign


async def follow(raw: asyncpg.Connection, changed: Iterable[Loaded], runs: Mapping[UUID, CampaignRun]) -> list[Settled]:
    """Depth-first: an accepted step opens the next one, one that ended otherwise skips all later ones."""
    opened: list[UUID] = []
    skipped: dict[UUID, str] = {}
    for one in changed:
        run = runs.get(one.row["campaign_id"])
        if run is None or one.row["step"] + 1 >= len(run.definition.steps):
            continue
        later = range(one.row["step"] + 1, len(run.definition.steps))
        match dispatch.following(one.before, one.after):
            case "open":
                opened.append(ids.dispatch_id(one.row["recipient_id"], later[0]))
            case "skip":
                reason = "opted_out" if one.after.reason == "opted_out" else "previous_step"
                skipped.update((ids.dispatch_id(one.row["recipient_id"], step), reason) for step in later)
            case None:
                continue
    return [*await dispatches.open_next(raw, opened), *await dispatches.skip(raw, skipped)]


async def change_rows(
    raw: asyncpg.Connection, changed: Sequence[Loaded], followers: Sequence[Settled]
) -> list[Changed]:
    answers = [one.row["dispatch_id"] for one in changed if one.row["campaign_id"] is None]
    streams = (
        {row["dispatch_id"]: row["conversation_id"] for row in await raw.fetch(_STREAMS, answers)} if answers else {}
    )
    changes: list[Changed] = []
    for one in changed:
        stream = one.row["campaign_id"] or streams.get(one.row["dispatch_id"])
        if stream is not None:
            changes.append(Changed(stream, one.row["account_id"], one.describe()))
    changes.extend(Changed(row["campaign_id"], row["account_id"], describe(row)) for row in followers)
    return changes
