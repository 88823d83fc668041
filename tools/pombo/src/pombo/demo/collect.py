"""What the audit needs of the running system, asked for at the end: the API's answers and the raw topic."""

import asyncio
import base64
import json
from collections import Counter
from collections.abc import Iterator
from typing import Any

import orjson
from aiokafka import AIOKafkaConsumer

from contracts.topics import WEBHOOK_RECEIVED
from pombo.client.api import Api
from pombo.demo.isolation import Canary, try_crossings
from pombo.demo.scenario import Run, Stuck
from pombo.stack import Service

MARKED_PEOPLE = 3
READINGS_MAX = 10


def steady_answers(api: Api, campaign_id: str) -> dict[str, Any]:
    """The statistics and the recipients of one moment: read again where a late status moved the figures between."""
    path = f"/api/campaigns/{campaign_id}"
    statistics = api.get(f"{path}/statistics")
    for _ in range(READINGS_MAX):
        recipients = list(api.pages(f"{path}/recipients", limit=200))
        before, statistics = statistics, api.get(f"{path}/statistics")
        if statistics == before:
            break
    return {"statistics": statistics, "recipients": recipients}


def collect(run: Run, stranger: Api, canary: Canary) -> None:
    """Writes `answers.json` into the run's folder; the audit reads nothing else of ours."""
    answers = steady_answers(run.api, run.campaign_id)
    answers |= {
        "raw_counts": asyncio.run(count_raw_ids(run.stack.addresses.kafka_bootstrap, sent_ids(run))),
        "compared": compare(run),
        "isolation": isolation(run, stranger, canary, answers["recipients"]),
    }
    run.stack.folder.answers.write_bytes(orjson.dumps(answers))


def compare(run: Run) -> list[dict[str, Any]]:
    """`projections check`: every read model made anew from the log beside the live ones."""
    ended = run.stack.run_command(Service.PROJECTIONS, "check", within_s=300)
    lines = [json.loads(line) for line in ended.stdout.splitlines() if line.startswith("{")]
    compared = [line for line in lines if "table" in line]
    if not compared:
        raise Stuck(f"the read models could not be compared:\n{ended.stderr[-2000:]}")
    return compared


def isolation(run: Run, stranger: Api, canary: Canary, recipients: list[dict[str, Any]]) -> dict[str, Any]:
    contact = next((row["contact_id"] for row in recipients if row.get("contact_id")), None)
    ids = {
        "campaign_id": run.campaign_id,
        "instance_id": run.pool[0].instance_id,
        "recipient_id": recipients[0]["recipient_id"],
        "account_id": run.login.account_id,
    }
    if contact is not None:
        ids["contact_id"] = contact
    phones = [row["phone_number"] for row in recipients[:MARKED_PEOPLE]]
    marks = [*ids.values(), *(number.instance_id for number in run.pool), *phones, run.login.email]
    crossings = try_crossings(run.api, stranger, canary, ids, marks)
    return {"calls": crossings.calls, "crossings": crossings.found}


def sent_ids(run: Run) -> frozenset[str]:
    """Every message id that a webhook of the simulator named."""
    run.simulator.stats()  # makes it write what it has gathered
    found: set[str] = set()
    with run.stack.folder.witness.open() as lines:
        for line in lines:
            fact = json.loads(line)
            if fact["event"] == "webhook":
                found.update(str(item[0]) for item in fact["items"])
    return frozenset(found)


async def count_raw_ids(bootstrap: str, wanted: frozenset[str]) -> dict[str, int]:
    """How many records of the raw topic name each id, read from its beginning to where it ends now."""
    consumer = AIOKafkaConsumer(
        WEBHOOK_RECEIVED.name, bootstrap_servers=bootstrap, group_id=None, auto_offset_reset="earliest"
    )
    counts: Counter[str] = Counter()
    await consumer.start()
    try:
        places = sorted(consumer.assignment())
        ends = await consumer.end_offsets(places)
        while waiting := [place for place in places if await consumer.position(place) < ends[place]]:
            for records in (await consumer.getmany(*waiting, timeout_ms=500)).values():
                for record in records:
                    counts.update(named_ids(record.value, wanted))
    finally:
        await consumer.stop()
    return dict(counts)


def named_ids(value: bytes, wanted: frozenset[str]) -> frozenset[str]:
    """Of one raw record: the wanted ids that occur anywhere in the provider's body."""
    record = orjson.loads(value)
    body = record["body"]
    try:
        content = orjson.loads(base64.b64decode(body) if record.get("encoding") == "base64" else body)
    except ValueError:
        return frozenset()
    return frozenset(text for text in _texts(content) if text in wanted)


def _texts(content: Any) -> Iterator[str]:
    match content:
        case str():
            yield content
        case dict():
            for inner in content.values():
                yield from _texts(inner)
        case list():
            for inner in content:
                yield from _texts(inner)
