"""Who may do what: every route is listed with the role it needs; another account sees nothing through any of them."""

import re
from typing import Any
from uuid import uuid4

import asyncpg
import httpx
import pytest
from fastapi.routing import APIRoute

from campaign_api.door.http import ROUTERS
from campaign_api.door.principal import Allowed
from campaign_parts import Bench, Person

pytestmark = pytest.mark.postgres

PUBLIC = "public"
ROLES = {
    "POST /api/auth/sign-in": PUBLIC,
    "POST /api/auth/refresh": PUBLIC,
    "POST /api/auth/sign-out": PUBLIC,
    "POST /api/accounts": PUBLIC,
    "GET /api/auth/me": "operator",
    "GET /api/users": "admin",
    "POST /api/users": "admin",
    "PATCH /api/users/{user_id}": "admin",
    "GET /api/api-keys": "admin",
    "POST /api/api-keys": "admin",
    "DELETE /api/api-keys/{key_id}": "admin",
    "GET /api/audit": "admin",
    "GET /api/instances": "operator",
    "POST /api/instances": "admin",
    "GET /api/instances/{instance_id}": "operator",
    "PATCH /api/instances/{instance_id}": "admin",
    "DELETE /api/instances/{instance_id}": "admin",
    "POST /api/instances/{instance_id}/webhook-key": "admin",
    "POST /api/instance/connect": "admin",
    "GET /api/instance/status": "operator",
    "DELETE /api/instance/disconnect": "admin",
    "POST /api/uploads": "operator",
    "GET /api/uploads/{upload_id}": "operator",
    "POST /api/uploads/{upload_id}/preview": "operator",
    "POST /api/contacts/import": "operator",
    "GET /api/imports/{import_id}": "operator",
    "GET /api/imports/{import_id}/rejected": "operator",
    "GET /api/imports/{import_id}/rejected.csv": "operator",
    "GET /api/contacts": "operator",
    "POST /api/contacts": "operator",
    "GET /api/contacts/{contact_id}": "operator",
    "PUT /api/contacts/{contact_id}": "operator",
    "PATCH /api/contacts/{contact_id}": "operator",
    "DELETE /api/contacts/{contact_id}": "admin",
    "POST /api/contacts/{contact_id}/opt-out": "operator",
    "POST /api/contacts/{contact_id}/opt-in": "operator",
    "GET /api/contacts/{contact_id}/personal-data": "admin",
    "GET /api/campaigns": "operator",
    "POST /api/campaigns": "operator",
    "GET /api/campaigns/{campaign_id}": "operator",
    "PUT /api/campaigns/{campaign_id}": "operator",
    "PATCH /api/campaigns/{campaign_id}": "operator",
    "DELETE /api/campaigns/{campaign_id}": "operator",
    "POST /api/campaigns/{campaign_id}/clone": "operator",
    "POST /api/campaigns/{campaign_id}/start": "operator",
    "POST /api/whatsapp/campaigns/{campaign_id}/send": "operator",
    "PUT /api/campaigns/{campaign_id}/schedule": "operator",
    "PUT /api/campaigns/{campaign_id}/unschedule": "operator",
    "PUT /api/campaigns/{campaign_id}/pause": "operator",
    "PUT /api/campaigns/{campaign_id}/resume": "operator",
    "PUT /api/campaigns/{campaign_id}/retry": "operator",
    "PUT /api/campaigns/{campaign_id}/cancel": "operator",
    "GET /api/campaigns/{campaign_id}/check": "operator",
    "GET /api/campaigns/{campaign_id}/statistics": "operator",
    "GET /api/campaigns/{campaign_id}/recipients": "operator",
    "GET /api/campaigns/{campaign_id}/export.csv": "operator",
    "GET /api/conversations": "operator",
    "GET /api/conversations/{conversation_id}": "operator",
    "GET /api/conversations/{conversation_id}/messages": "operator",
    "POST /api/conversations/{conversation_id}/messages": "operator",
    "PUT /api/conversations/{conversation_id}/assignee": "operator",
    "PUT /api/conversations/{conversation_id}/state": "operator",
    "POST /api/conversations/{conversation_id}/read": "operator",
    "GET /api/whatsapp/queue/stats": "operator",
    "POST /api/whatsapp/queue/stats": "supervisor",
    "POST /api/whatsapp/queue/dead-letters/preview": "operator",
    "GET /api/whatsapp/queue/unresolved": "operator",
    "GET /api/whatsapp/queue/possibly-twice": "operator",
    "POST /api/whatsapp/queue/unresolved/{dispatch_id}": "supervisor",
    "GET /api/whatsapp/queue/explain": "operator",
    "GET /api/campaigns/{campaign_id}/explain": "operator",
    "GET /api/campaigns/{campaign_id}/recipients/{recipient_id}/explain": "operator",
    "GET /api/instances/{instance_id}/explain": "operator",
    "GET /api/dispatches/{dispatch_id}/explain": "operator",
    "GET /api/holds": "operator",
    "PUT /api/holds": "supervisor",
    "GET /api/events": "operator",
    "GET /api/account": "operator",
    "PATCH /api/account": "admin",
    "POST /api/messages": "operator",
    **{
        f"{method} /api/{noun}{rest}": writer if method != "GET" else "operator"
        for noun, writer in (
            ("products", "supervisor"),
            ("tasks", "operator"),
            ("groups", "operator"),
            ("canned-answers", "operator"),
        )
        for method, rest in (
            ("GET", ""),
            ("POST", ""),
            ("GET", "/{row_id}"),
            ("PUT", "/{row_id}"),
            ("PATCH", "/{row_id}"),
            ("DELETE", "/{row_id}"),
        )
    },
}
# Bodies that are valid, for routes that would otherwise answer 422 before they look for the thing.
BODIES: dict[str, Any] = {
    **{
        f"{method} /api/{noun}/{{row_id}}": {}
        for noun in ("products", "tasks", "groups", "canned-answers")
        for method in ("PUT", "PATCH")
    },
    "PATCH /api/users/{user_id}": {"name": "X"},
    "PATCH /api/instances/{instance_id}": {"name": "X"},
    "PUT /api/contacts/{contact_id}": {"name": "X"},
    "PATCH /api/contacts/{contact_id}": {"name": "X"},
    "PUT /api/campaigns/{campaign_id}": {"name": "X"},
    "PATCH /api/campaigns/{campaign_id}": {"name": "X"},
    "PUT /api/campaigns/{campaign_id}/schedule": {"scheduled_at": "2026-12-24T09:00:00Z"},
    "POST /api/uploads/{upload_id}/preview": {},
    "POST /api/conversations/{conversation_id}/messages": {"text": "Oi"},
    "PUT /api/conversations/{conversation_id}/assignee": {"assignee_id": None},
    "PUT /api/conversations/{conversation_id}/state": {"state": "resolved"},
    "POST /api/whatsapp/queue/unresolved/{dispatch_id}": {"decision": "give_up"},
}


def routes() -> dict[str, APIRoute]:
    return {
        f"{method} {route.path}": route
        for router in ROUTERS
        for route in router.routes
        if isinstance(route, APIRoute)
        for method in route.methods or ()
    }


def needed_role(route: APIRoute) -> str:
    asked = list(route.dependant.dependencies)
    for one in asked:
        asked.extend(one.dependencies)
    found = [one.call.role for one in asked if isinstance(one.call, Allowed)]
    return found[0] if found else PUBLIC


def test_every_route_is_listed_with_the_role_it_needs() -> None:
    assert {name: needed_role(route) for name, route in routes().items()} == ROLES


@pytest.mark.parametrize("route", [route for route, role in ROLES.items() if role != PUBLIC])
async def test_nobody_passes_without_a_token(api: Bench, route: str) -> None:
    answer = await ask(api.client(), route)
    assert answer.status_code == 401
    assert answer.headers["content-type"] == "application/problem+json"


@pytest.mark.parametrize("role", ["operator", "supervisor"])
async def test_a_role_is_refused_what_needs_a_higher_one(api: Bench, ana: Person, role: str) -> None:
    person = await api.colleague(ana, role)
    rank = ["operator", "supervisor", "admin"]
    for route, needed in ROLES.items():
        if needed == PUBLIC or route == "GET /api/events":
            continue
        status = (await ask(person.client, route)).status_code
        assert (status == 403) == (rank.index(needed) > rank.index(role)), (route, status)


async def ask(client: httpx.AsyncClient, route: str, ids: dict[str, str] | None = None) -> httpx.Response:
    method, path = route.split(" ")
    path = re.sub(r"\{(\w+)\}", lambda match: (ids or {}).get(match[1], str(uuid4())), path)
    body = BODIES.get(route) if method in ("POST", "PUT", "PATCH") else None
    return await client.request(method, path, json=body)


async def test_another_accounts_things_are_not_there_through_any_route(ana: Person, rival: Person) -> None:
    campaign = await ana.campaign(is_draft=False, name="canary-campaign")
    contact = await ana.client.post("/api/contacts", json={"phone_number": "11987654321", "name": "canary-person"})
    file = {"file": ("canary.csv", b"telefone;nome\n11987654321;canary-row\n")}
    upload = await ana.client.post("/api/uploads", files=file)
    key = await ana.client.post("/api/api-keys", json={"name": "canary-key"})
    ids = {
        "campaign_id": campaign["id"],
        "instance_id": campaign["api_config_id"],
        "contact_id": contact.json()["id"],
        "upload_id": upload.json()["id"],
        "import_id": campaign["id"],
        "user_id": str(ana.user_id),
        "key_id": key.json()["id"],
    }
    rows = {
        "products": await ana.client.post("/api/products", json={"name": "canary-product"}),
        "tasks": await ana.client.post("/api/tasks", json={"title": "canary-task"}),
        "groups": await ana.client.post("/api/groups", json={"name": "canary-group"}),
        "canned-answers": await ana.client.post("/api/canned-answers", json={"shortcut": "oi", "text": "canary"}),
    }
    for route in (route for route in ROLES if "{" in route):
        noun = route.split("/")[2]
        answer = await ask(rival.client, route, ids | {"row_id": rows[noun].json()["id"]} if noun in rows else ids)
        assert answer.status_code == 404, (route, answer.status_code, answer.text)
        assert "canary" not in answer.text, route
    for route in ("GET /api/campaigns", "GET /api/instances", "GET /api/contacts", "GET /api/users", "GET /api/audit"):
        answer = await ask(rival.client, route)
        assert "canary" not in answer.text, route
        assert str(ana.user_id) not in answer.text, route
    used = {"name": "x", "instance_pool": [ids["instance_id"]], "upload_id": ids["upload_id"]}
    assert (await rival.client.post("/api/campaigns", json=used)).status_code == 422
    assert (await rival.client.post("/api/contacts/import", json={"upload_id": ids["upload_id"]})).status_code == 422
    assert (await ana.client.get(f"/api/campaigns/{campaign['id']}")).json()["status"] == "running"


async def test_an_idempotency_key_of_another_account_is_another_key(ana: Person, rival: Person) -> None:
    headers = {"Idempotency-Key": "same"}
    mine = await ana.client.post("/api/campaigns", json={"name": "A"}, headers=headers)
    theirs = await rival.client.post("/api/campaigns", json={"name": "B"}, headers=headers)
    assert (mine.status_code, theirs.status_code) == (201, 201)
    assert mine.json()["id"] != theirs.json()["id"]


@pytest.mark.parametrize("field", ["account_id", "tenant_id", "state", "run_epoch", "id", "owner_id", "created_at"])
async def test_what_the_server_sets_cannot_be_sent(ana: Person, field: str) -> None:
    instance = {"name": "i", "provider": "meta_cloud", "phone_number_id": "1", "credentials": {"access_token": "t"}}
    for path, body in (
        ("/api/campaigns", {"name": "A"}),
        ("/api/contacts", {"phone_number": "11987654321"}),
        ("/api/instances", instance),
        ("/api/users", {"email": "x@example.com", "name": "X", "password": "long enough pw"}),
        ("/api/api-keys", {"name": "k"}),
        ("/api/products", {"name": "p"}),
        ("/api/tasks", {"title": "t"}),
        ("/api/groups", {"name": "g"}),
        ("/api/canned-answers", {"shortcut": "s", "text": "t"}),
    ):
        answer = await ana.client.post(path, json=body | {field: str(uuid4())})
        assert answer.status_code == 422, (path, answer.text)


TENANT_TABLES = """
SELECT c.relname FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace
JOIN pg_attribute a ON a.attrelid = c.oid AND a.attname = 'account_id' AND NOT a.attisdropped
WHERE n.nspname = 'campaign_api' AND c.relkind = 'r'
"""


async def test_every_tenant_table_forces_row_level_security(api: Bench, ana: Person) -> None:
    tables = {row["relname"] for row in await api.rows(TENANT_TABLES)}
    assert {"event", "campaign", "contact", "instance", "upload_chunk", "audit", "app_user"} <= tables
    open_tables = await api.rows(
        TENANT_TABLES + " AND NOT (c.relrowsecurity AND c.relforcerowsecurity)",
    )
    assert open_tables == []
    unkeyed = await api.rows(
        "SELECT c.relname FROM pg_class c JOIN pg_index i ON i.indrelid = c.oid AND i.indisprimary"
        " JOIN pg_attribute a ON a.attrelid = c.oid AND a.attname = 'account_id'"
        " WHERE c.relnamespace = 'campaign_api'::regnamespace AND NOT a.attnum = ANY(i.indkey)"
    )
    assert unkeyed == []


async def test_a_query_without_any_filter_sees_one_account_only(api: Bench, ana: Person, rival: Person) -> None:
    await ana.campaign(is_draft=False)
    await rival.campaign(is_draft=False)
    web = await asyncpg.connect(api.database.roles["campaign_api_web"], server_settings={"search_path": "campaign_api"})
    try:
        for row in await api.rows(TENANT_TABLES):
            table = row["relname"]
            try:
                assert await web.fetchval(f"SELECT count(*) FROM {table}") == 0, table
                async with web.transaction():
                    await web.execute("SELECT set_config('app.account_id', $1, true)", str(ana.account_id))
                    seen = {row["account_id"] for row in await web.fetch(f"SELECT DISTINCT account_id FROM {table}")}
                    assert seen <= {ana.account_id}, table
            except asyncpg.InsufficientPrivilegeError:
                assert table in ("refresh_token",), table
    finally:
        await web.close()


async def test_rows_cannot_be_written_for_another_account(api: Bench, ana: Person, rival: Person) -> None:
    web = await asyncpg.connect(api.database.roles["campaign_api_web"], server_settings={"search_path": "campaign_api"})
    try:
        await web.execute("SELECT set_config('app.account_id', $1, false)", str(ana.account_id))
        with pytest.raises(asyncpg.InsufficientPrivilegeError):
            await web.execute(
                "INSERT INTO hold (account_id, scope, key, held, version, set_at)"
                " VALUES ($1, 'account', '', true, 1, now())",
                rival.account_id,
            )
        for forbidden in (
            "UPDATE event SET data = '{}'",
            "DELETE FROM event",
            "UPDATE audit SET action = 'x'",
            "DELETE FROM audit",
            "SELECT * FROM outbox",
            "SELECT password_hash FROM app_user",
            "SELECT key_hash FROM api_key",
            "SELECT * FROM refresh_token",
            "SELECT * FROM consumer_offset",
            "CREATE TABLE campaign_api.x ()",
        ):
            with pytest.raises(asyncpg.InsufficientPrivilegeError):
                await web.execute(forbidden)
    finally:
        await web.close()


async def test_the_web_role_is_no_owner_and_bypasses_nothing(api: Bench) -> None:
    (role,) = await api.rows("SELECT * FROM pg_roles WHERE rolname = 'campaign_api_web'")
    assert not any(role[power] for power in ("rolsuper", "rolbypassrls", "rolcreaterole", "rolcreatedb"))


async def test_an_operator_of_a_restricted_account_sees_only_their_own_campaigns(api: Bench, ana: Person) -> None:
    await api.rows("UPDATE account SET operators_restricted = true WHERE account_id = $1 RETURNING 1", ana.account_id)
    operator = await api.colleague(ana, "operator")
    theirs = await ana.campaign()
    own = await operator.client.post("/api/campaigns", json={"name": "minha"})
    assert (await operator.client.get(f"/api/campaigns/{theirs['id']}")).status_code == 404
    assert [row["id"] for row in (await operator.client.get("/api/campaigns")).json()] == [own.json()["id"]]
    assert len((await ana.client.get("/api/campaigns")).json()) == 2
