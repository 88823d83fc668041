"""Instances over HTTP: what each provider needs, credentials that never come out, the default one, health."""

import hashlib
from datetime import timedelta
from typing import Any
from uuid import UUID, uuid4

import pytest

from campaign_api import consumers
from campaign_api.instance.trouble import explain
from campaign_parts import Bench, Person, bench, heard
from chassis.lifecycle import utc_now
from contracts.instances import (
    BreakerOpened,
    InstanceBanned,
    InstanceConfigured,
    InstanceConnected,
    InstanceConnecting,
    InstanceDisconnected,
    InstanceLimitsChanged,
    WarmUpChanged,
    WarmUpPlan,
)
from pombo.backing import Database

pytestmark = pytest.mark.postgres
CANARY = "canary-secret-4711"
WHOLE: dict[str, dict[str, Any]] = {
    "evolution_web": {"instance_name": "a", "server_url": "http://g:8080", "credentials": {"apikey": CANARY}},
    "evolution_cloud": {
        "instance_name": "a",
        "server_url": "http://g:8080",
        "credentials": {"apikey": CANARY, "access_token": CANARY},
    },
    "meta_cloud": {"phone_number_id": "123", "credentials": {"access_token": CANARY}},
    "zapi": {"credentials": {"instance_id": "i", "token": CANARY, "client_token": CANARY}},
}


async def configured(api: Bench, person: Person) -> InstanceConfigured:
    event = [event for topic, _, event in await api.outbox(person.account_id) if topic == "instances"][-1]
    assert isinstance(event, InstanceConfigured)
    return event


@pytest.mark.parametrize("provider", WHOLE)
async def test_credentials_go_in_sealed_and_never_come_out(api: Bench, ana: Person, provider: str) -> None:
    body = {"name": "Aura #1", "provider": provider} | WHOLE[provider]
    answer = await ana.client.post("/api/instances", json=body)
    assert answer.status_code == 201, answer.text
    shown = answer.json()
    assert sorted(shown["credentials"]) == sorted(body["credentials"])
    assert shown["is_default"]
    everything = answer.text + (await ana.client.get("/api/instances")).text + str(await api.outbox(ana.account_id))
    for table in ("event", "instance", "outbox", "audit", "idempotency"):
        everything += str(await api.rows(f"SELECT * FROM {table}"))
    assert CANARY not in everything
    event = await configured(api, ana)
    box, where = api.application.parts.secrets, {"account_id": ana.account_id, "instance_id": UUID(shown["id"])}
    for name in body["credentials"]:
        assert box.open(event.credentials[name], **where, field=name) == body["credentials"][name]
    key = box.open(event.credentials["webhook_key"], **where, field="webhook_key")
    assert event.webhook_key_hashes == (hashlib.sha256(key.encode()).hexdigest(),)


@pytest.mark.parametrize(
    ("provider", "without", "named"),
    [
        ("evolution_web", "instance_name", "instance_name"),
        ("evolution_cloud", "instance_name", "instance_name"),
        ("meta_cloud", "phone_number_id", "phone_number_id"),
        ("meta_cloud", "credentials", "access_token"),
        ("zapi", "credentials", "client_token"),
        ("evolution_web", "server_url", "server_url"),
    ],
)
async def test_what_the_provider_needs_is_asked_for(ana: Person, provider: str, without: str, named: str) -> None:
    body = {"name": "x", "provider": provider} | {k: v for k, v in WHOLE[provider].items() if k != without}
    answer = await ana.client.post("/api/instances", json=body)
    assert answer.status_code == 422
    assert named in answer.json()["error"]


@pytest.mark.parametrize(
    "url",
    [
        "ftp://x",
        "http://",
        "http://user:pw@host",
        "javascript:alert(1)",
        "http://h?x=1",
        "file:///etc/passwd",
        "https://evo..example",
    ],
)
async def test_an_address_that_is_none_is_refused(ana: Person, url: str) -> None:
    body = {"name": "x", "provider": "evolution_web"} | WHOLE["evolution_web"] | {"server_url": url}
    assert (await ana.client.post("/api/instances", json=body)).status_code == 422


async def test_a_tier_brings_its_limits_and_what_was_set_by_hand_wins(ana: Person) -> None:
    instance_id = await ana.instance(messaging_tier="2", limits={"messages_per_second": 33})
    limits = (await ana.client.get(f"/api/instances/{instance_id}")).json()["limits"]
    assert (limits["unique_per_24h"], limits["messages_per_second"], limits["target_per_second"]) == (10_000, 33, 70)
    changed = await ana.client.patch(f"/api/instances/{instance_id}", json={"messaging_tier": "unlimited"})
    assert (changed.json()["limits"]["unique_per_24h"], changed.json()["limits"]["messages_per_second"]) == (None, 1000)


async def test_one_credential_is_replaced_and_the_others_stay(api: Bench, ana: Person) -> None:
    body = {"name": "x", "provider": "evolution_cloud"} | WHOLE["evolution_cloud"]
    instance_id = (await ana.client.post("/api/instances", json=body)).json()["id"]
    before = await configured(api, ana)
    await ana.client.patch(f"/api/instances/{instance_id}", json={"credentials": {"apikey": "new"}})
    after = await configured(api, ana)
    assert after.credentials["access_token"] == before.credentials["access_token"]
    assert after.credentials["apikey"] != before.credentials["apikey"]
    unknown = await ana.client.patch(f"/api/instances/{instance_id}", json={"credentials": {"nonsense": "x"}})
    assert unknown.status_code == 422


async def test_there_is_one_default(ana: Person) -> None:
    first, second = await ana.instance(), await ana.instance()
    await ana.client.patch(f"/api/instances/{second}", json={"is_default": True})
    defaults = {row["id"]: row["is_default"] for row in (await ana.client.get("/api/instances")).json()}
    assert defaults == {first: False, second: True}


async def test_a_rotated_webhook_key_and_the_old_one_are_both_accepted(api: Bench, ana: Person) -> None:
    instance_id = await ana.instance()
    old = (await configured(api, ana)).webhook_key_hashes
    made = (await ana.client.post(f"/api/instances/{instance_id}/webhook-key")).json()
    new = hashlib.sha256(made["key"].encode()).hexdigest()
    assert (await configured(api, ana)).webhook_key_hashes == (new, *old)


async def test_connecting_without_any_instance_makes_one_at_the_installations_gateway(api_database: Database) -> None:
    async with bench(api_database, evolution_api_url="http://gateway:8080", evolution_api_key="global") as own:
        ana = await own.admin()
        answer = await ana.client.post("/api/instance/connect")
        assert answer.json()["status"] == "initializing"
        event = await configured(own, ana)
        assert (event.wanted, event.wanted_version, event.is_default) == ("connected", 1, True)
        named = await ana.client.post("/api/instance/connect", json={"instanceName": "vendas"})
        assert named.json()["instanceName"] == "vendas"
        again = await ana.client.post("/api/instance/connect", json={"instanceName": "vendas"})
        assert again.json()["instanceId"] == named.json()["instanceId"]
        assert (await configured(own, ana)).wanted_version == 2
        gone = await ana.client.request("DELETE", "/api/instance/disconnect?instanceName=vendas")
        assert gone.json() == {"success": True}
        assert (await configured(own, ana)).wanted == "disconnected"


async def test_without_a_gateway_there_is_nothing_to_connect(ana: Person) -> None:
    assert (await ana.client.post("/api/instance/connect")).status_code == 404
    assert (await ana.client.get("/api/instance/status")).status_code == 404


async def hear(api: Bench, person: Person, instance_id: str, *events: Any) -> None:
    async with api.application.parts.worker.transaction() as connection:
        records = [heard("instance-health", instance_id, person.account_id, event) for event in events]
        await consumers.Health(utc_now).handle(connection, records)


async def test_health_moves_the_instance(api: Bench, ana: Person) -> None:
    instance_id = await ana.instance()
    url = f"/api/instances/{instance_id}"
    await hear(api, ana, instance_id, InstanceConnected(phone_number="5511999990000", at=utc_now()))
    shown = (await ana.client.get(url)).json()
    assert (shown["connection_status"], shown["phone_number"], shown["status"]) == (
        "connected",
        "5511999990000",
        "active",
    )
    await hear(api, ana, instance_id, InstanceDisconnected(reason="logged out", at=utc_now()))
    assert (await ana.client.get(url)).json()["status"] == "disconnected"
    await hear(api, ana, instance_id, InstanceConnected(at=utc_now()), BreakerOpened(reason="5xx", at=utc_now()))
    shown = (await ana.client.get(url)).json()
    assert (shown["status"], shown["breaker"]) == ("active", "5xx")
    await hear(api, ana, instance_id, InstanceLimitsChanged(tier="3", unique_per_24h=100_000, at=utc_now()))
    assert (await ana.client.get(url)).json()["limits"]["unique_per_24h"] == 100_000
    await hear(api, ana, instance_id, InstanceBanned(reason="spam", at=utc_now()))
    await hear(api, ana, instance_id, InstanceDisconnected(reason="banned", at=utc_now()))
    assert (await ana.client.get(url)).json()["status"] == "banned"


async def test_what_a_provider_told_before_changes_nothing_of_what_it_told_later(api: Bench, ana: Person) -> None:
    instance_id, now = await ana.instance(), utc_now()
    earlier = now - timedelta(minutes=5)
    await hear(api, ana, instance_id, InstanceConnected(at=now))
    await hear(api, ana, instance_id, InstanceLimitsChanged(quality="GREEN", unique_per_24h=10_000, at=now))
    await hear(api, ana, instance_id, InstanceDisconnected(reason="logged out", at=earlier))
    late = InstanceLimitsChanged(quality="RED", unique_per_24h=1_000, messages_per_second=20, at=earlier)
    await hear(api, ana, instance_id, late)
    shown = (await ana.client.get(f"/api/instances/{instance_id}")).json()
    assert (shown["status"], shown["connection_status"], shown["quality"]) == ("active", "connected", "GREEN")
    limits = shown["limits"]
    assert (limits["unique_per_24h"], limits["messages_per_second"]) == (10_000, 20), (
        "of the rate it was the first word"
    )


async def test_what_a_person_set_holds_whatever_the_provider_tells(api: Bench, ana: Person) -> None:
    instance_id = await ana.instance(limits={"messages_per_second": 33})
    url = f"/api/instances/{instance_id}"
    told = {"tier": "TIER_10K", "unique_per_24h": 10_000, "messages_per_second": 80}
    await hear(api, ana, instance_id, InstanceLimitsChanged(**told, at=utc_now()))
    shown = (await ana.client.get(url)).json()
    assert (shown["messaging_tier"], shown["limits"]["unique_per_24h"]) == ("TIER_10K", 10_000)
    assert (shown["limits"]["messages_per_second"], shown["limits_by_hand"]) == (33, ["messages_per_second"])

    await ana.client.patch(url, json={"messaging_tier": "1"})
    await hear(api, ana, instance_id, InstanceLimitsChanged(**told, at=utc_now()))
    shown = (await ana.client.get(url)).json()
    assert (shown["messaging_tier"], shown["limits"]["unique_per_24h"]) == ("1", 2_000)
    assert shown["limits_by_hand"] == ["messages_per_second", "tier", "unique_per_24h"]

    unlimited = {"tier": "TIER_UNLIMITED", "unlimited": True}
    await hear(api, ana, instance_id, InstanceLimitsChanged(**unlimited, at=utc_now()))
    assert (await ana.client.get(url)).json()["limits"]["unique_per_24h"] == 2_000, "set by hand"

    await ana.client.patch(url, json={"messaging_tier": None})
    await hear(api, ana, instance_id, InstanceLimitsChanged(**told, at=utc_now()))
    await hear(api, ana, instance_id, InstanceLimitsChanged(quality="FLAGGED", at=utc_now()))
    assert (await ana.client.get(url)).json()["limits"]["unique_per_24h"] == 10_000, "nothing was said of it"
    await hear(api, ana, instance_id, InstanceLimitsChanged(**unlimited, at=utc_now()))
    assert (await ana.client.get(url)).json()["limits"]["unique_per_24h"] is None
    await hear(api, ana, instance_id, InstanceLimitsChanged(**told, at=utc_now()))
    shown = (await ana.client.get(url)).json()
    assert (shown["messaging_tier"], shown["limits"]["messages_per_second"]) == ("TIER_10K", 80)


async def test_a_new_number_has_a_warm_up_plan_and_shows_its_day(api: Bench, ana: Person) -> None:
    instance_id = await ana.instance(warm_up={"first_day": 20, "full_per_day": 400})
    url = f"/api/instances/{instance_id}"
    assert (await configured(api, ana)).warm_up == WarmUpPlan(first_day=20, growth=1.5, full_per_day=400)
    shown = (await ana.client.get(url)).json()
    assert (shown["warm_up"]["growth"], shown["warming_up"]) == (1.5, None)

    day = WarmUpChanged(
        day=3, allowance=45, begins_at=utc_now(), ends_at=utc_now(), slowed_by="spam_limit", at=utc_now()
    )
    await hear(api, ana, instance_id, day)
    today = (await ana.client.get(url)).json()["warming_up"]
    assert (today["day"], today["allowance"], today["slowed_by"]) == (3, 45, "spam_limit")
    await hear(api, ana, instance_id, day.model_copy(update={"allowance": None, "at": utc_now()}))
    assert (await ana.client.get(url)).json()["warming_up"] is None

    changed = await ana.client.patch(url, json={"name": "another"})
    assert changed.json()["warm_up"]["first_day"] == 20
    assert (await ana.client.patch(url, json={"warm_up": None})).json()["warm_up"] is None


async def test_a_refused_connection_says_what_to_do(api: Bench, ana: Person) -> None:
    instance_id = await ana.instance()
    url = f"/api/instances/{instance_id}"
    assert (await ana.client.get(url)).json()["last_error"] is None
    await hear(api, ana, instance_id, InstanceConnecting(at=utc_now()))
    await hear(api, ana, instance_id, BreakerOpened(reason="connecting", at=utc_now()))
    assert (await ana.client.get(url)).json()["last_error"] is None
    await hear(api, ana, instance_id, InstanceDisconnected(reason="credentials", at=utc_now()))
    shown = (await ana.client.get(url)).json()["last_error"]
    assert (shown["reason"], shown["text"]) == (
        "credentials",
        "The provider refuses the credentials. Enter new ones.",
    )
    assert (await ana.client.get("/api/instance/status")).json()["lastError"] == shown
    await hear(api, ana, instance_id, InstanceConnecting(at=utc_now()))
    assert (await ana.client.get(url)).json()["last_error"] is None
    await hear(api, ana, instance_id, InstanceDisconnected(reason="disconnected", at=utc_now()))
    assert (await ana.client.get(url)).json()["last_error"] is None


@pytest.mark.parametrize("reason", ["401", "qr_code_limit", "provider_busy", "permission", "Device was removed"])
def test_every_reason_has_words(reason: str) -> None:
    assert explain(reason).endswith(".")
    assert len(explain(reason)) > 30


async def test_health_of_an_instance_that_is_gone_does_no_harm(api: Bench, ana: Person) -> None:
    await hear(api, ana, str(uuid4()), InstanceConnected(at=utc_now()), InstanceBanned(reason="x", at=utc_now()))


async def test_a_deleted_instance_is_gone_here_and_wanted_gone_at_the_gateway(api: Bench, ana: Person) -> None:
    instance_id = await ana.instance()
    assert (await ana.client.delete(f"/api/instances/{instance_id}")).json() == {"success": True}
    event = await configured(api, ana)
    assert (event.deleted, event.wanted) == (True, "deleted")
    assert (await ana.client.get(f"/api/instances/{instance_id}")).status_code == 404
    assert (await ana.client.delete(f"/api/instances/{instance_id}")).status_code == 404


async def test_a_number_names_the_account_that_its_provider_tells_news_of(ana: Person) -> None:
    body = {"name": "Meta", "provider": "meta_cloud", "phone_number_id": "107"}
    credentials = {"access_token": "T", "business_id": "1029384756"}
    answer = await ana.client.post("/api/instances", json=body | {"credentials": credentials})
    assert answer.status_code == 201, answer.text
    assert answer.json()["credentials"] == ["access_token", "business_id"]
