"""Queue figures over HTTP, from the read model's counters."""

from datetime import UTC, datetime, timedelta
from uuid import UUID, uuid4

import asyncpg
import pytest

from campaign_parts import Person
from pombo.backing import Database

pytestmark = pytest.mark.postgres
NOW = datetime.now(UTC)


async def write(database: Database, statement: str, *arguments: object) -> None:
    connection = await asyncpg.connect(database.admin_dsn)
    try:
        await connection.execute(statement, *arguments)
    finally:
        await connection.close()


async def test_a_queue_tells_its_length_age_rate_and_window(api_database: Database, ana: Person, rival: Person) -> None:
    campaign = await ana.campaign()
    instance_id = UUID(campaign["api_config_id"])
    for state, value in (("pending", 7), ("released", 2), ("failed", 1), ("unresolved", 3)):
        await write(
            api_database,
            "INSERT INTO projections_g1.queue_counter VALUES ($1, $2, $3, $4)",
            ana.account_id, instance_id, state, value,
        )  # fmt: skip
    await write(
        api_database,
        "INSERT INTO projections_g1.campaign (account_id, id, name, status, definition, run_epoch, started_at, deleted,"
        " keys) VALUES ($1, $2, 'C', 'running', jsonb_build_object('pool', jsonb_build_array($3::text)), 1, $4, false,"
        " '{}')",
        ana.account_id, UUID(campaign["id"]), str(instance_id), NOW - timedelta(seconds=90),
    )  # fmt: skip
    await write(
        api_database,
        "INSERT INTO projections_g1.campaign_counter VALUES ($1, $2, 'dispatches_pending', '', 7)",
        ana.account_id, UUID(campaign["id"]),
    )  # fmt: skip
    for seconds in (5, 50, 500):
        await write(
            api_database,
            "INSERT INTO projections_g1.message (account_id, id, instance_id, send_event, campaign_id, sent_at)"
            " VALUES ($1, $2, $3, $2, $4, $5)",
            ana.account_id, uuid4(), instance_id, UUID(campaign["id"]),
            datetime.now(UTC) - timedelta(seconds=seconds),
        )  # fmt: skip
    await write(
        api_database,
        "INSERT INTO projections_g1.volume VALUES ($1, 'instance', $2, date_bin('15 minutes', now(), '2000-01-01'),"
        " 'sent', 3), ($1, 'instance', $2, now() - interval '2 days', 'sent', 1000)",
        ana.account_id, instance_id,
    )  # fmt: skip
    shown = (await ana.client.get(f"/api/whatsapp/queue/stats?instanceId={instance_id}")).json()
    [queue] = shown["instances"]
    assert (queue["pending"], queue["processing"], queue["dead_letters"], queue["unresolved"]) == (7, 2, 1, 3)
    assert (queue["rate"], queue["window_used"]) == (2, 3)
    assert 60 < queue["oldest_age_s"] < 900
    assert shown["campaigns"]["pending"] == 7
    figures = (await ana.client.get(f"/api/campaigns/{campaign['id']}/statistics")).json()
    assert figures["status"] == "draft"
    assert (await ana.client.get(f"/api/whatsapp/queue/stats?instanceId={uuid4()}")).json()["instances"] == []
    assert (await rival.client.get("/api/whatsapp/queue/stats")).json()["instances"] == []


async def test_what_nobody_knows_is_listed_page_by_page_and_decided(
    api_database: Database, ana: Person, rival: Person
) -> None:
    campaign = await ana.campaign()
    instance_id = UUID(campaign["api_config_id"])
    made = [uuid4() for _ in range(3)]
    for number, dispatch_id in enumerate((*made, uuid4())):
        await write(
            api_database,
            "INSERT INTO projections_g1.dispatch (account_id, id, subject_id, step, instance_id, attempt, state,"
            " reason, changed_at) VALUES ($1, $2, $3, 0, $4, 1, $5, 'no_evidence', $6)",
            ana.account_id, dispatch_id, UUID(campaign["id"]), instance_id, "unresolved" if number < 3 else "accepted",
            NOW - timedelta(minutes=60 - number),
        )  # fmt: skip
    first = await ana.client.get("/api/whatsapp/queue/unresolved?limit=2")
    rest = await ana.client.get(first.headers["Link"].split(">")[0].lstrip("<"))
    assert [row["id"] for row in first.json() + rest.json()] == [str(one) for one in made]
    assert first.json()[0]["instance_id"] == str(instance_id)
    assert "Link" not in rest.headers
    other = await ana.client.get(f"/api/whatsapp/queue/unresolved?campaign_id={uuid4()}")
    assert other.json() == []
    assert (await rival.client.get("/api/whatsapp/queue/unresolved")).json() == []

    decided = await ana.client.post(f"/api/whatsapp/queue/unresolved/{made[0]}", json={"decision": "was_sent"})
    assert decided.status_code == 200
    unknown = await rival.client.post(f"/api/whatsapp/queue/unresolved/{made[1]}", json={"decision": "was_sent"})
    assert unknown.status_code == 404


async def test_every_possible_duplicate_is_counted_and_named(
    api_database: Database, ana: Person, rival: Person
) -> None:
    campaign = await ana.campaign()
    made = sorted(uuid4() for _ in range(3))
    for number, (state, twice) in enumerate(
        (("accepted", True), ("unresolved", True), ("accepted", True), ("accepted", False), ("failed", True))
    ):
        await write(
            api_database,
            "INSERT INTO projections_g1.dispatch (account_id, id, subject_id, recipient_id, step, attempt, state,"
            " changed_at, may_duplicate) VALUES ($1, $2, $3, $2, 0, 2, $4, now() - interval '30 days', $5)",
            ana.account_id, made[number] if number < 3 else uuid4(), UUID(campaign["id"]), state, twice,
        )  # fmt: skip
    figures = (await ana.client.get(f"/api/campaigns/{campaign['id']}/statistics")).json()
    assert figures["possibly_twice"] == 3
    url = f"/api/whatsapp/queue/possibly-twice?campaign_id={campaign['id']}"
    first = await ana.client.get(f"{url}&limit=2")
    rest = await ana.client.get(first.headers["Link"].split(">")[0].lstrip("<"))
    rows = first.json() + rest.json()
    assert [(row["id"], row["state"], row["attempt"]) for row in rows] == [
        (str(one), state, 2) for one, state in zip(made, ("accepted", "unresolved", "accepted"), strict=True)
    ]
    assert (await rival.client.get(url)).json() == []

    for person in (made[0], uuid4()):
        await write(
            api_database,
            "INSERT INTO projections_g1.recipient (account_id, id, campaign_id, source_event, custom_fields, added_at)"
            " VALUES ($1, $2, $3, $2, '{}', now())",
            ana.account_id, person, UUID(campaign["id"]),
        )  # fmt: skip
    people = (await ana.client.get(f"/api/campaigns/{campaign['id']}/recipients")).json()
    assert {row["recipient_id"]: row["possibly_twice"] for row in people}.pop(str(made[0]))
    assert [row["possibly_twice"] for row in people if row["recipient_id"] != str(made[0])] == [False]
    exported = (await ana.client.get(f"/api/campaigns/{campaign['id']}/export.csv")).text
    assert sorted(line.rpartition(";")[2] for line in exported.splitlines()[1:]) == ['""', '"yes"']
