"""Why nothing moves, asked over real Kafka and PostgreSQL of a real scheduler and a real sender."""

import asyncio
import socket
from collections.abc import AsyncIterator
from datetime import UTC, datetime, timedelta
from typing import Any

import httpx
import pytest
from pydantic import SecretStr

from backing import Templates
from campaign_api.app import build
from campaign_parts import Bench, migrate_campaign_api, settings_for
from chassis.kafka import ensure_topics
from chassis.settings import HealthSettings, KafkaSettings, PostgresSettings
from contracts import topics
from pombo.backing import Database
from scheduler.app import Scheduler
from scheduler_parts import migrate_scheduler
from scheduler_parts import settings as scheduler_settings
from sender.app import build as build_sender
from sender_parts import migrated as migrate_sender
from sender_parts import settings as sender_settings

pytestmark = [pytest.mark.postgres, pytest.mark.kafka]
WITHIN_S = 60.0


def free_port() -> int:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        return int(free.getsockname()[1])


def migrate_all(database: Database) -> None:
    for migrate in (migrate_campaign_api, migrate_scheduler, migrate_sender):
        migrate(database)


@pytest.fixture
async def api(database_templates: Templates, kafka_bootstrap: str) -> AsyncIterator[Bench]:
    database = database_templates.fresh(migrate_all)
    kafka = KafkaSettings(bootstrap=kafka_bootstrap, partitions_max=2)
    await ensure_topics(kafka, topics.ALL)
    stopping, port = asyncio.Event(), free_port()
    application = build(settings_for(database, kafka=kafka, http_port=port, answer_wait_s=8.0, drain_s=3.0), stopping)
    scheduler = Scheduler(
        scheduler_settings(database, kafka_bootstrap).model_copy(update={"health": HealthSettings(port=free_port())})
    )
    sender = build_sender(
        sender_settings(
            kafka=kafka,
            postgres=PostgresSettings(dsn=SecretStr(database.roles["sender_worker"])),
            health=HealthSettings(port=free_port()),
        )
    )
    async with asyncio.TaskGroup() as tasks:
        for serving in (application.serve(), scheduler.serve(stopping), sender.serve(stopping)):
            tasks.create_task(serving)
        async with httpx.AsyncClient(base_url=f"http://127.0.0.1:{port}") as client, asyncio.timeout(WITHIN_S):
            while not await _is_ready(client):
                await asyncio.sleep(0.1)
        yield Bench(application, database)
        stopping.set()
    database_templates.drop(database)


async def _is_ready(client: httpx.AsyncClient) -> bool:
    try:
        return (await client.get("/ready")).status_code == 200
    except httpx.TransportError:
        return False


async def asked(client: httpx.AsyncClient, path: str, *wanted: str) -> dict[str, Any]:
    """Until these reasons are told of a plan that is complete, and both have answered."""
    async with asyncio.timeout(WITHIN_S):
        while True:
            found: dict[str, Any] = (await client.get(path)).json()
            names = {one["reason"] for one in found["reasons"]}
            silent = names & {"scheduler_silent", "sender_silent"}
            if {*wanted} <= names and not silent and found["waiting"] == 3:
                return found
            await asyncio.sleep(0.2)


async def test_all_who_know_something_are_heard_and_it_is_told_once(api: Bench) -> None:
    ana = await api.admin()
    # No gateway is there: the number is not connected, so nothing leaves while we ask.
    later = (datetime.now(UTC) + timedelta(hours=5)).time().replace(microsecond=0)
    closed = {"allowed_hours_start": later.isoformat(), "allowed_hours_end": later.replace(second=59).isoformat()}
    policy = {"min_delay_seconds": 0, "max_delay_seconds": 0, "time_zone": "UTC"} | closed
    campaign = await ana.campaign(is_draft=False, sending_configuration=policy)
    path = f"/api/campaigns/{campaign['id']}/explain"

    found = await asked(ana.client, path, "outside_hours")
    (hours,) = (one for one in found["reasons"] if one["reason"] == "outside_hours")
    assert hours["text"].startswith("Outside its allowed hours. Goes on at ")
    assert datetime.fromisoformat(found["estimated_end"]) >= datetime.fromisoformat(hours["until"])

    async with asyncio.timeout(WITHIN_S):
        end = None
        while end is None:
            figures = (await ana.client.get(f"/api/campaigns/{campaign['id']}/statistics")).json()
            end = figures["estimated_end"]
            await asyncio.sleep(0.1)
    assert abs(datetime.fromisoformat(end) - datetime.fromisoformat(found["estimated_end"])) < timedelta(minutes=5)

    body = {"scope": "account", "held": True, "reason": "wrong list"}
    assert (await ana.client.put("/api/holds", json=body)).status_code == 200
    found = await asked(ana.client, path, "outside_hours", "held")
    (held,) = (one for one in found["reasons"] if one["reason"] == "held")
    assert held["text"].startswith("Ana stopped all sending of the account since ")
    assert "(wrong list)" in held["text"]
    assert found["estimated_end"] is None

    of_number = await asked(ana.client, f"/api/instances/{campaign['api_config_id']}/explain", "held", "outside_hours")
    assert of_number["subject"] == "instance"

    assert (await ana.client.put(f"/api/campaigns/{campaign['id']}/pause")).status_code == 200
    found = await asked(ana.client, path, "campaign_not_running")
    paused = found["reasons"][0]
    assert paused["text"].startswith("Ana paused it since ") or paused["text"].startswith("Ana asked to pause it")
    assert found["summary"].startswith(paused["text"])
