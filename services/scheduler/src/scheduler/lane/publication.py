"""From committed releases to message-queued: build, publish, mark; and again what was not marked or not answered."""

from collections.abc import Mapping, Sequence
from datetime import timedelta
from uuid import UUID

import orjson

from chassis.database import Database, driver
from chassis.kafka import Outgoing, Producer, outgoing
from chassis.lifecycle import crash_point
from chassis.telemetry import counter, followed, span
from contracts import ids
from contracts.campaigns import Definition
from contracts.ids import Address
from contracts.messages import Content, MessageQueued
from contracts.topics import MESSAGE_QUEUED, SCHEDULER
from scheduler.campaign.runs import CampaignRun, Definitions
from scheduler.plan.rendering import Person, render
from scheduler.rows import Row
from scheduler.settings import PacingSettings

_PEOPLE = """
SELECT r.recipient_id, r.phone, r.name, r.custom_fields FROM recipient r WHERE r.recipient_id = ANY($1::uuid[])
"""
_MARK = """
UPDATE dispatch d SET published_at = statement_timestamp()
FROM unnest($1::uuid[], $2::int[], $3::int[]) AS p(dispatch_id, attempt, release)
WHERE d.dispatch_id = p.dispatch_id AND d.attempt = p.attempt AND d.release = p.release
"""
_COLUMNS = """
d.dispatch_id, d.account_id, d.campaign_id, d.recipient_id, d.contact_id, d.instance_id, d.step, d.attempt, d.release,
d.run_epoch, d.send_before, d.may_duplicate, d.released_at
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
FROM (SELECT dispatch_id, account_id FROM dispatch WHERE state = 'released' AND awaiting
    AND released_at < statement_timestamp() - $1::interval
    AND (published_at IS NULL OR published_at < statement_timestamp() - $2::interval)
    ORDER BY released_at LIMIT 500 FOR UPDATE SKIP LOCKED) n
WHERE d.dispatch_id = n.dispatch_id AND d.account_id = n.account_id RETURNING {_COLUMNS}
"""  # noqa: S608
_TRACES = (
    "SELECT campaign_id, traceparent FROM campaign WHERE campaign_id = ANY($1::uuid[]) AND traceparent IS NOT NULL"
)
_RUNS = "SELECT campaign_id, account_id, definition_version FROM campaign WHERE campaign_id = ANY($1::uuid[])"
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

    async def publish(self, rows: Sequence[Row], runs: Mapping[UUID, CampaignRun]) -> None:
        """What a release has just committed."""
        definitions = {campaign: run.definition for campaign, run in runs.items()}
        crash_point("release_committed")
        with span("scheduler.publish", messages=len(rows)):
            await self._producer.publish(await self._build(rows, definitions))
        crash_point("release_published")
        async with self._database.transaction() as connection:
            raw = await driver(connection)
            await raw.execute(
                _MARK,
                [row["dispatch_id"] for row in rows],
                [row["attempt"] for row in rows],
                [row["release"] for row in rows],
            )

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
            campaigns = {row["campaign_id"] for row in rows if row["campaign_id"] is not None}
            known = await raw.fetch(_RUNS, list(campaigns))
            wanted = {(row["campaign_id"], row["definition_version"]) for row in known}
            definitions = await self._definitions.of(raw, wanted)
        with span("scheduler.publish", messages=len(rows)):
            await self._producer.publish(await self._build(rows, definitions))
        counter("pombo_dispatches_republished_total", "Releases published by a sweep.").inc(len(rows))
        return len(rows)

    async def _build(self, rows: Sequence[Row], definitions: Mapping[UUID, Definition]) -> list[Outgoing]:
        of_campaigns = [row["recipient_id"] for row in rows if row["campaign_id"] is not None]
        of_answers = [row["dispatch_id"] for row in rows if row["campaign_id"] is None]
        async with self._database.transaction() as connection:
            raw = await driver(connection)
            people = (
                {row["recipient_id"]: row for row in await raw.fetch(_PEOPLE, of_campaigns)} if of_campaigns else {}
            )
            answers = {row["dispatch_id"]: row for row in await raw.fetch(_CONTENTS, of_answers)} if of_answers else {}
            traces = {row["campaign_id"]: row["traceparent"] for row in await raw.fetch(_TRACES, list(definitions))}
        records: list[Outgoing] = []
        for row in rows:
            if row["campaign_id"] is None:
                if (answer := answers.get(row["dispatch_id"])) is not None:
                    records.append(_answer(row, answer))
            elif (person := people.get(row["recipient_id"])) is not None and row["campaign_id"] in definitions:
                traced = trace_message(traces.get(row["campaign_id"]), row["dispatch_id"], self._sample_ratio)
                with followed("message released", traced) as traceparent:
                    records.append(_message(row, person, definitions[row["campaign_id"]], traceparent))
        return records


def trace_message(of_campaign: str | None, dispatch_id: UUID, sample_ratio: float) -> str | None:
    """The trace of the campaign's start goes on in its messages; each is recorded by its own chance, because a
    campaign has a million of them. The chance is the dispatch's id, so that a retry is recorded as the first try was.
    """
    if of_campaign is None:
        return None
    recorded = dispatch_id.int % 1_000_000 < sample_ratio * 1_000_000
    return f"{of_campaign[:-2]}{int(recorded):02d}"


def _message(row: Row, person: Row, definition: Definition, traceparent: str | None) -> Outgoing:
    custom = person["custom_fields"]
    known = Person(person["phone"], person["name"], orjson.loads(custom) if custom != "{}" else {})
    content = render(definition.steps[row["step"]], known)
    return _queued(row, Address(phone=person["phone"]), content, traceparent=traceparent)


def _answer(row: Row, answer: Row) -> Outgoing:
    address = Address.model_validate_json(answer["address"])
    content = Content.model_validate_json(answer["content"])
    return _queued(row, address, content, reply_to=answer["reply_to"], traceparent=answer["traceparent"])


def _queued(
    row: Row,
    address: Address,
    content: Content,
    *,
    reply_to: str | None = None,
    traceparent: str | None = None,
) -> Outgoing:
    of_campaign = row["campaign_id"] is not None
    event = MessageQueued(
        dispatch_id=row["dispatch_id"],
        attempt=row["attempt"],
        release=row["release"],
        campaign_id=row["campaign_id"],
        run_epoch=row["run_epoch"],
        recipient_id=row["recipient_id"] if of_campaign else None,
        contact_id=row["contact_id"],
        step=row["step"],
        priority="campaign" if of_campaign else "person",
        address=address,
        content=content,
        send_before=row["send_before"],
        may_duplicate=row["may_duplicate"],
        reply_to=reply_to,
    )
    kind = f"queued:{row['attempt']}:{row['release']}"
    return outgoing(
        MESSAGE_QUEUED,
        str(row["instance_id"]),
        event,
        source=SCHEDULER,
        account_id=row["account_id"],
        time=row["released_at"],
        event_id=ids.event_id(SCHEDULER, str(row["dispatch_id"]), kind),
        traceparent=traceparent,
    )
