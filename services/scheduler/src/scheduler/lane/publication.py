"""From committed releases to message-queued: build, publish, mark; and again what was not marked or not answered."""

from collections.abc import Mapping, Sequence
from datetime import timedelta
from uuid import UUID

import asyncpg

from chassis.database import Database, driver
from chassis.kafka import Encoded, Producer
from chassis.lifecycle import crash_point
from chassis.telemetry import counter, is_recorded, span
from scheduler.campaign.runs import CampaignRun, Definitions
from scheduler.dispatch import reports
from scheduler.lane.letters import Letters
from scheduler.rows import Row
from scheduler.settings import PacingSettings

# What has its outcome by now needs no mark.
_MARK = """
UPDATE dispatch d SET published_at = statement_timestamp()
FROM unnest($1::uuid[], $2::int[], $3::int[]) AS p(dispatch_id, attempt, release)
WHERE d.dispatch_id = p.dispatch_id AND d.attempt = p.attempt AND d.release = p.release AND d.awaiting
"""
_COLUMNS = """
d.dispatch_id, d.account_id, d.campaign_id, d.recipient_id, d.contact_id, d.instance_id, d.step, d.attempt, d.release,
d.run_epoch, d.send_before, d.may_duplicate, d.released_at, d.version, d.state, d.reason, d.due_at
"""
# Answers are found through dispatch_people, everything else through dispatch_released. Claimed by moving
# published_at, so that two replicas do not publish the same at the same time.
_ANSWERS = f"""
UPDATE dispatch d SET published_at = statement_timestamp()
FROM (SELECT dispatch_id, account_id FROM dispatch WHERE campaign_id IS NULL AND state = 'released'
    AND published_at IS NULL LIMIT 500 FOR UPDATE SKIP LOCKED) n
WHERE d.dispatch_id = n.dispatch_id AND d.account_id = n.account_id RETURNING {_COLUMNS}
"""  # noqa: S608
_FORGOTTEN = f"""
UPDATE dispatch d SET published_at = statement_timestamp()
FROM (SELECT dispatch_id, account_id, recipient_id FROM dispatch WHERE state = 'released' AND awaiting
    AND released_at < statement_timestamp() - $1::interval
    AND (published_at IS NULL OR published_at < statement_timestamp() - $2::interval)
    ORDER BY released_at LIMIT 500 FOR UPDATE SKIP LOCKED) n
LEFT JOIN LATERAL (SELECT phone, name, custom_fields FROM recipient
    WHERE recipient_id = n.recipient_id AND account_id = n.account_id LIMIT 1) r ON true
WHERE d.dispatch_id = n.dispatch_id AND d.account_id = n.account_id
RETURNING {_COLUMNS}, r.phone, r.name, r.custom_fields
"""  # noqa: S608
_RUNS = """
SELECT campaign_id, account_id, status, run_epoch, definition_version, traceparent FROM campaign
WHERE campaign_id = ANY($1::uuid[])
"""
_CONTENTS = (
    "SELECT dispatch_id, address, content, reply_to, traceparent FROM answer WHERE dispatch_id = ANY($1::uuid[])"
)


class Publication:
    """Never publishes while holding a lock: every statement here commits before the producer is asked."""

    def __init__(
        self,
        database: Database,
        producer: Producer,
        definitions: Definitions,
        settings: PacingSettings,
        sample_ratio: float,
    ) -> None:
        self._database = database
        self._producer = producer
        self._definitions = definitions
        self._settings = settings
        self._sample_ratio = sample_ratio
        self._unmarked: list[tuple[UUID, int, int]] = []

    async def publish(self, rows: Sequence[Row], runs: Mapping[UUID, CampaignRun]) -> None:
        """What a release has just committed. It is marked a little later, all together."""
        crash_point("release_committed")
        with span("scheduler.publish", messages=len(rows)):
            await self._producer.publish_encoded(self._build(rows, runs, {}))
        crash_point("release_published")
        self._unmarked.extend((row["dispatch_id"], row["attempt"], row["release"]) for row in rows)

    async def mark(self) -> None:
        """What was published since the last time and has no outcome yet: the sweep shall not take it for forgotten."""
        if self._unmarked:
            marked, self._unmarked = self._unmarked, []
            async with self._database.transaction() as connection:
                await (await driver(connection)).execute(_MARK, *zip(*marked, strict=True))

    async def publish_answers(self) -> int:
        """Answers of people that no one has published yet. If the process dies in between, the sweep finds them."""
        return await self._republish(_ANSWERS)

    async def publish_forgotten(self) -> int:
        """Released and not marked published, or without an outcome for too long: the same attempt and release again."""
        settings = self._settings
        unmarked, stuck = timedelta(seconds=settings.unpublished_s), timedelta(seconds=settings.stuck_s)
        return await self._republish(_FORGOTTEN, unmarked, stuck)

    async def publish_stuck_now(self) -> int:
        """A person asks for it: everything released without an outcome, however recent its last publication."""
        return await self._republish(_FORGOTTEN, timedelta(seconds=1), timedelta(seconds=1))

    async def _republish(self, statement: str, *arguments: object) -> int:
        async with self._database.transaction() as connection:
            raw = await driver(connection)
            rows = await raw.fetch(statement, *arguments)
            if not rows:
                return 0
            runs = await self._load_runs(raw, {row["campaign_id"] for row in rows if row["campaign_id"] is not None})
            of_answers = [row["dispatch_id"] for row in rows if row["campaign_id"] is None]
            answers = {row["dispatch_id"]: row for row in await raw.fetch(_CONTENTS, of_answers)} if of_answers else {}
        with span("scheduler.publish", messages=len(rows)):
            await self._producer.publish_encoded(self._build(rows, runs, answers))
        counter("pombo_dispatches_republished_total", "Releases published by a sweep.").inc(len(rows))
        return len(rows)

    async def _load_runs(self, raw: asyncpg.Connection, campaign_ids: set[UUID]) -> dict[UUID, CampaignRun]:
        if not campaign_ids:
            return {}
        known = await raw.fetch(_RUNS, list(campaign_ids))
        parsed = await self._definitions.of(raw, {(row["campaign_id"], row["definition_version"]) for row in known})
        return {
            row["campaign_id"]: CampaignRun(
                row["campaign_id"],
                row["account_id"],
                row["status"],
                row["run_epoch"],
                parsed[row["campaign_id"]],
                row["traceparent"],
            )
            for row in known
        }

    def _build(
        self, rows: Sequence[Row], runs: Mapping[UUID, CampaignRun], answers: Mapping[UUID, Row]
    ) -> list[Encoded]:
        """The messages, then what their release changed."""
        records: list[Encoded] = []
        letters = Letters()
        released: dict[UUID, list[Row]] = {}
        for row in rows:
            campaign_id = row["campaign_id"]
            if campaign_id is None:
                if (answer := answers.get(row["dispatch_id"])) is not None:
                    records.append(letters.of_person(row, answer))
            elif (run := runs.get(campaign_id)) is not None and row["phone"] is not None:
                released.setdefault(campaign_id, []).append(row)
                traced = trace_message(run.traceparent, row["dispatch_id"], self._sample_ratio)
                if traced is not None and is_recorded(traced):
                    with span("message released", traced) as own:
                        records.append(letters.of_campaign(row, run.definition, own))
                else:
                    records.append(letters.of_campaign(row, run.definition, traced))
        for campaign_id, of_campaign in released.items():
            told = [reports.stored(row) for row in of_campaign]
            at = max(row["released_at"] for row in of_campaign)
            records += reports.in_bytes(campaign_id, runs[campaign_id].account_id, told, at)
        return records


def trace_message(of_campaign: str | None, dispatch_id: UUID, sample_ratio: float) -> str | None:
    """The trace of the campaign's start goes on in its messages; each is recorded by its own chance, because a
    campaign has a million of them. The chance is the dispatch's id, so that a retry is recorded as the first try was.
    """
    if of_campaign is None:
        return None
    recorded = dispatch_id.int % 1_000_000 < sample_ratio * 1_000_000
    return of_campaign[:-2] + ("01" if recorded else "00")
