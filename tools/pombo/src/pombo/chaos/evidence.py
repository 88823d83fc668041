"""What the audit needs once a run is at rest: the log, and what lies in the stores."""

import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

import asyncpg
from aiokafka import TopicPartition

from pombo.audit.ledger import Facts, Intent, Recovery
from pombo.audit.several import read_ambiguous
from pombo.backing.databases import SCHEMAS, in_database
from pombo.chaos.campaigns import Account, Started
from pombo.chaos.event_log import EventLog, by_dispatch, end_offsets
from pombo.client.api import Api
from pombo.demo.isolation import Canary, try_crossings
from pombo.demo.scenario import Stuck
from pombo.stack import Service, Stack

MARKED_PEOPLE = 3
LEAKS_MAX = 5


def compare(stack: Stack) -> list[dict[str, Any]]:
    """`projections check`: every read model made anew from the log beside the live ones."""
    ended = stack.run_command(Service.PROJECTIONS, "check", within_s=600)
    lines = [json.loads(line) for line in ended.stdout.splitlines() if line.startswith("{")]
    compared = [line for line in lines if "table" in line]
    if not compared:
        raise Stuck(f"the read models could not be compared:\n{ended.stderr[-2000:]}")
    return compared


def audit_log(stack: Stack) -> str:
    """What `verify-audit` says."""
    return stack.run_command(Service.CAMPAIGN_API, "verify-audit").stdout.strip()


def crossings(owner: Account, stranger: Api, canary: Canary, campaign: Started, recipients: Sequence[Any]) -> Any:
    """A second account tries every call of the API with the ids of the first one."""
    ids = {
        "campaign_id": campaign.campaign_id,
        "instance_id": owner.pool[0].instance_id,
        "recipient_id": recipients[0]["recipient_id"],
        "account_id": owner.account_id,
    }
    if contact := next((row["contact_id"] for row in recipients if row.get("contact_id")), None):
        ids["contact_id"] = contact
    phones = [row["phone_number"] for row in recipients[:MARKED_PEOPLE]]
    marks = [*ids.values(), *(number.instance_id for number in owner.pool), *phones]
    return try_crossings(owner.api, stranger, canary, ids, marks)


class Stores:
    """Read-only looks into the database, as its superuser."""

    def __init__(self, stack: Stack) -> None:
        self._dsn = in_database(stack.backing.postgres_dsn_admin, "pombo")

    async def waiting(self) -> dict[str, int]:
        """Rows that should have left: unpublished outbox rows, webhooks in the spool."""
        connection = await asyncpg.connect(self._dsn)
        try:
            found: dict[str, int] = {}
            for schema in SCHEMAS:
                if await connection.fetchval("SELECT to_regclass($1)", f"{schema}.outbox") is not None:
                    statement = f'SELECT count(*) FROM "{schema}".outbox WHERE published_at IS NULL'  # noqa: S608
                    found[f"{schema}.outbox"] = await connection.fetchval(statement)
            found["webhook_ingest.spool"] = await connection.fetchval("SELECT count(*) FROM webhook_ingest.spool")
            return found
        finally:
            await connection.close()

    async def unread(self, bootstrap: str) -> int:
        """Records that an inbox has not applied yet."""
        connection = await asyncpg.connect(self._dsn)
        try:
            offsets: list[tuple[TopicPartition, int]] = []
            for schema in SCHEMAS:
                if await connection.fetchval("SELECT to_regclass($1)", f"{schema}.consumer_offset") is not None:
                    statement = f'SELECT topic, partition, next_offset FROM "{schema}".consumer_offset'  # noqa: S608
                    offsets += [(TopicPartition(row[0], row[1]), row[2]) for row in await connection.fetch(statement)]
        finally:
            await connection.close()
        ends = await end_offsets(bootstrap, {place for place, _ in offsets})
        return sum(max(0, ends[place] - offset) for place, offset in offsets)

    async def stored_events(self) -> int:
        connection = await asyncpg.connect(self._dsn)
        try:
            return int(await connection.fetchval("SELECT count(*) FROM campaign_api.event"))
        finally:
            await connection.close()

    async def intents(self, campaigns: Sequence[Started]) -> list[Intent]:
        connection = await asyncpg.connect(self._dsn)
        try:
            rows = await connection.fetch(
                "SELECT instance_id::text, extract(epoch FROM intent_at)::float8, epoch FROM sender.attempt"
                " WHERE campaign_id = ANY($1::uuid[])",
                [campaign.campaign_id for campaign in campaigns],
            )
            return [Intent(*row) for row in rows]
        finally:
            await connection.close()


async def read_stores(stack: Stack, log: EventLog, wanted: frozenset[str], campaigns: Sequence[Started]) -> Any:
    """Kafka read on to its end, then what the stores hold beside it."""
    await log.read_on(stack.backing.kafka_bootstrap, wanted)
    stores = Stores(stack)
    return {
        "raw_counts": dict(log.raw_counts),
        "stream_gaps": log.gaps(),
        "logged_events": log.stream_events,
        "stored_events": await stores.stored_events(),
        "waiting": await stores.waiting(),
        "foreign": sorted(set(log.foreign)),
        "ambiguous": {str(dispatch): count for dispatch, count in by_dispatch(log.ambiguous).items()},
        "intents": [asdict(intent) for intent in await stores.intents(campaigns)],
    }


def leaks(logs: Path, words: Sequence[str], since: dict[Path, int]) -> list[str]:
    """Log lines with a word that only message texts have. `since`: where the last look ended, moved on."""
    found: list[str] = []
    for file in sorted(logs.glob("*.log")):
        with file.open("rb") as handle:
            handle.seek(since.get(file, 0))
            content = handle.read()
        since[file] = since.get(file, 0) + len(content)
        for word in words:
            if word.encode() in content and len(found) < LEAKS_MAX:
                found.append(f"{file.name} has a word of message texts ({word})")
    return found


def read_facts(data: Mapping[str, Any]) -> Facts:
    """From a run's `facts.json`."""
    changed = {
        "compared": tuple(data["compared"]),
        "calls_between_accounts": tuple(data["calls_between_accounts"]),
        "stream_gaps": tuple(data["stream_gaps"]),
        "foreign": tuple(data["foreign"]),
        "leaks": tuple(data["leaks"]),
        "intents": tuple(Intent(**intent) for intent in data["intents"]),
        "ambiguous": read_ambiguous(data["ambiguous"]),
        "recovery": Recovery(**data["recovery"]),
    }
    return Facts(**{**data, **changed})
