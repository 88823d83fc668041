"""I8, I9, I11, I12: what is in Kafka, in the read models and in the ledger tells one story."""

from collections import Counter, defaultdict
from collections.abc import Iterator
from random import Random
from typing import Any
from uuid import UUID

from contracts import topics
from contracts.statuses import StatusReceived
from simulation.drivers import unmarked
from simulation.kafka import Record
from simulation.projections import TOPICS, rebuild
from simulation.scheduler_tables import DISPATCH
from simulation.world import Violation, World


def check_projections(world: World) -> Iterator[Violation]:
    """Live rows are the fold of all facts, in whatever order, however often; and they agree with the scheduler."""
    facts = [record for topic in TOPICS for record in world.kafka.records(topic)]
    rng = Random(world.town.seed)
    again = facts + rng.sample(facts, len(facts) // 3)
    rng.shuffle(again)
    rebuilt = rebuild(_batches(again, rng))
    live = {t.partition(".")[2]: rows for t, rows in world.database.tables.items() if t.startswith("projections.")}
    live.pop("offset", None)
    for kind in sorted(rebuilt.keys() | live.keys()):
        one, other = _shown(kind, live.get(kind, {})), _shown(kind, rebuilt.get(kind, {}))
        if one != other:
            yield "I8", f"{kind}: live rows differ from a rebuild in {_differing(one, other)}"
    changes = live.get("change", {})
    for dispatch_id, row in world.database.tables[DISPATCH].items():
        shown = changes.get(dispatch_id.int)
        if shown is None or (shown.state, shown.attempt) != (row["state"], row["attempt"]):
            yield "I8", f"{dispatch_id} is {row['state']} and shown as {shown and shown.state}"
    levels = {"sent": 2, "delivered": 3, "read": 4}
    for record in world.kafka.records(topics.STATUS_RECEIVED):
        status = record.event
        if isinstance(status, StatusReceived) and status.status in levels:
            stored = live["status"].get(UUID(record.key).int)
            if stored is None or stored.delivery < levels[status.status]:
                yield "I8", f"{status.provider_message_id} was {status.status} and is shown lower"


def check_logs(world: World) -> Iterator[Violation]:
    """Every row of an outbox is in Kafka; streams have no gap and come first in their order."""
    for schema in ("campaign", "scheduler", "sender"):
        rows = world.database.tables[f"{schema}.outbox"]
        if unmarked(world.database, f"{schema}.outbox"):
            yield "I9", f"{schema} has outbox rows that were never published"
        for _, row in sorted(rows.items()):
            if row.record.envelope.id not in _published(world, row.record.topic):
                yield "I9", f"{row.record.envelope.type} of {schema} is not in Kafka"
    first: dict[str, list[int]] = defaultdict(list)
    for record in world.kafka.records(topics.CAMPAIGNS):
        if record.envelope.stream_version not in first[record.envelope.subject]:
            first[record.envelope.subject].append(record.envelope.stream_version or 0)
    for subject, versions in first.items():
        if versions != list(range(1, len(versions) + 1)):
            yield "I9", f"stream {subject} came as {versions}"


def check_webhooks(world: World) -> Iterator[Violation]:
    """What was answered 200 is in Kafka, and what it says in the topics that are read."""
    raw = Counter(record.event.body for record in world.kafka.records(topics.WEBHOOK_RECEIVED))  # type: ignore[attr-defined]
    for body, count in Counter(world.witness.acknowledged_webhooks).items():
        if raw[body.decode()] < count:
            yield "I11", "a webhook that was answered 200 is missing"
    told = (topics.STATUS_RECEIVED, topics.MESSAGE_RECEIVED, topics.INSTANCE_HEALTH)
    known = set().union(*(world.kafka.event_ids(topic) for topic in told))
    for record in world.kafka.records(topics.WEBHOOK_RECEIVED):
        for report in world.ingest.read(record):
            if report.envelope.id not in known:
                yield "I11", f"{report.envelope.type} of a webhook was never told"


def check_fencing(world: World) -> Iterator[Violation]:
    highest: dict[UUID, int] = {}
    for _, instance_id, epoch, _ in world.witness.intents:
        if epoch < highest.get(instance_id, 0):
            yield "I12", f"an intent of epoch {epoch} after one of {highest[instance_id]}"
        highest[instance_id] = max(epoch, highest.get(instance_id, 0))


def _batches(records: list[Record], rng: Random) -> Iterator[list[Record]]:
    start = 0
    while start < len(records):
        size = rng.choice((1, 3, 20))
        yield records[start : start + size]
        start += size


def _shown(kind: str, rows: dict[Any, Any]) -> dict[Any, Any]:
    """A count that came back to nothing is no row; a register's keys are of no interest."""
    if kind == "counter":
        return {key: value for key, value in rows.items() if value}
    return rows


def _differing(one: dict[Any, Any], other: dict[Any, Any]) -> list[Any]:
    return [key for key in one.keys() | other.keys() if one.get(key) != other.get(key)][:2]


def _published(world: World, topic: topics.Topic) -> set[UUID]:
    cache: dict[str, set[UUID]] = world.__dict__.setdefault("published", {})
    if topic.name not in cache:
        cache[topic.name] = world.kafka.event_ids(topic)
    return cache[topic.name]
