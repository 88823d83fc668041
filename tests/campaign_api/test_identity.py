"""Signing in, refreshing, keys, the audit chain."""

import asyncio
from datetime import timedelta
from typing import Any
from uuid import uuid4

import jwt
import pytest

from campaign_api.door import audit
from campaign_api.door.limits import Limiter
from campaign_api.identity.tokens import BadToken, Claims, TokenKeys
from campaign_parts import PASSWORD, TOKEN_KEYS, Bench, Person, bench
from chassis.lifecycle import utc_now
from pombo.backing import Database

postgres = pytest.mark.postgres
KEYS = TokenKeys.read(TOKEN_KEYS, "pombo")
CLAIMS = Claims(uuid4(), uuid4(), "operator", uuid4())


def payload(**changes: Any) -> dict[str, Any]:
    now = utc_now()
    whole = {
        "iss": "pombo",
        "aud": "campaign-api",
        "sub": str(uuid4()),
        "acc": str(uuid4()),
        "role": "admin",
        "sid": str(uuid4()),
        "iat": now,
        "nbf": now,
        "exp": now + timedelta(minutes=5),
    }
    return {name: value for name, value in (whole | changes).items() if value is not None}


def test_a_token_says_who_it_is_for() -> None:
    assert KEYS.verify(KEYS.sign(CLAIMS, now=utc_now(), lifetime=timedelta(minutes=15))) == CLAIMS


@pytest.mark.parametrize(
    ("changes", "header", "algorithm"),
    [
        ({}, {"kid": "t1"}, "none"),
        ({}, {"kid": "t1"}, "HS512"),
        ({}, {"kid": "../../etc/passwd"}, "HS256"),
        ({}, {}, "HS256"),
        ({"exp": utc_now() - timedelta(days=1)}, {"kid": "t1"}, "HS256"),
        ({"nbf": utc_now() + timedelta(days=1)}, {"kid": "t1"}, "HS256"),
        ({"aud": "other"}, {"kid": "t1"}, "HS256"),
        ({"iss": "other"}, {"kid": "t1"}, "HS256"),
        ({"exp": None}, {"kid": "t1"}, "HS256"),
        ({"role": "root"}, {"kid": "t1"}, "HS256"),
        ({"acc": "x"}, {"kid": "t1"}, "HS256"),
    ],
)
def test_a_token_that_is_not_quite_right_is_refused(
    changes: dict[str, Any], header: dict[str, str], algorithm: str
) -> None:
    key = "" if algorithm == "none" else TOKEN_KEYS.split(":")[1] * 2 if algorithm == "HS512" else TOKEN_KEYS[3:]
    token = jwt.encode(payload(**changes), key, algorithm, headers=header)
    with pytest.raises(BadToken):
        KEYS.verify(token)


def test_an_old_key_verifies_while_the_new_one_signs() -> None:
    old = KEYS.sign(CLAIMS, now=utc_now(), lifetime=timedelta(minutes=5))
    rotated = TokenKeys.read("t2:" + "n" * 40 + "," + TOKEN_KEYS, "pombo")
    assert rotated.verify(old) == CLAIMS
    assert jwt.get_unverified_header(rotated.sign(CLAIMS, now=utc_now(), lifetime=timedelta(minutes=5)))["kid"] == "t2"


def test_short_keys_stop_the_start() -> None:
    with pytest.raises(ValueError, match="TOKEN_KEYS"):
        TokenKeys.read("k:short", "pombo")


def test_the_limiter_lets_the_burst_through_and_then_the_rate() -> None:
    limiter = Limiter(rate=10, burst=5)
    assert [limiter.take("a", 100.0).allowed for _ in range(6)] == [True] * 5 + [False]
    assert limiter.take("b", 100.0).allowed
    assert not limiter.take("a", 100.05).allowed
    assert limiter.take("a", 100.11).allowed
    assert Limiter(rate=10, burst=5).take("a", 1.0).remaining == 4


@postgres
async def test_the_wrong_password_and_the_unknown_address_get_the_same_answer(api: Bench, ana: Person) -> None:
    client = api.client()
    wrong = await client.post("/api/auth/sign-in", json={"email": ana.email, "password": "wrong password"})
    nobody = await client.post("/api/auth/sign-in", json={"email": "nobody@example.com", "password": "wrong password"})
    assert (wrong.status_code, wrong.json()) == (nobody.status_code, nobody.json())
    assert wrong.status_code == 401


@postgres
async def test_a_refresh_token_used_twice_ends_the_whole_family(api: Bench, ana: Person) -> None:
    client = api.client()
    first = (await client.post("/api/auth/sign-in", json={"email": ana.email, "password": PASSWORD})).json()
    second = await client.post("/api/auth/refresh", json={"refresh_token": first["refresh_token"]})
    assert second.status_code == 200
    replay = await client.post("/api/auth/refresh", json={"refresh_token": first["refresh_token"]})
    assert replay.status_code == 401
    after = await client.post("/api/auth/refresh", json={"refresh_token": second.json()["refresh_token"]})
    assert after.status_code == 401


@postgres
async def test_of_two_uses_at_once_exactly_one_wins(api: Bench, ana: Person) -> None:
    client = api.client()
    token = (await client.post("/api/auth/sign-in", json={"email": ana.email, "password": PASSWORD})).json()
    body = {"refresh_token": token["refresh_token"]}
    answers = await asyncio.gather(*(client.post("/api/auth/refresh", json=body) for _ in range(2)))
    assert sorted(answer.status_code for answer in answers) == [200, 401]


@postgres
async def test_signing_out_ends_the_refresh_token(api: Bench, ana: Person) -> None:
    client = api.client()
    token = (await client.post("/api/auth/sign-in", json={"email": ana.email, "password": PASSWORD})).json()
    body = {"refresh_token": token["refresh_token"]}
    assert (await client.post("/api/auth/sign-out", json=body)).json() == {"success": True}
    assert (await client.post("/api/auth/refresh", json=body)).status_code == 401


@postgres
async def test_the_panels_cookie_changes_nothing_without_the_csrf_token(api: Bench, ana: Person) -> None:
    client = api.client()
    body = {"email": ana.email, "password": PASSWORD, "session": "cookie"}
    signed_in = await client.post("/api/auth/sign-in", json=body)
    assert all("httponly" in cookie.lower() for cookie in signed_in.headers.get_list("set-cookie")[:2])
    assert (await client.get("/api/auth/me")).json()["email"] == ana.email
    assert (await client.post("/api/campaigns", json={"name": "A"})).status_code == 401
    headers = {"X-CSRF-Token": client.cookies["pombo_csrf"]}
    assert (await client.post("/api/campaigns", json={"name": "A"}, headers=headers)).status_code == 201


@postgres
async def test_guessing_is_stopped(api_database: Database, ana: Person) -> None:
    async with bench(api_database, sign_ins_per_minute=6) as slow:
        client = slow.client(address="203.0.113.9")
        email = f"{uuid4().hex}@example.com"
        statuses = [
            (await client.post("/api/auth/sign-in", json={"email": email, "password": f"guess number {n}"})).status_code
            for n in range(14)
        ]
    assert statuses[:10] == [401] * 10
    assert statuses[-1] == 429


@postgres
async def test_passwords_are_stored_as_argon2id_with_the_recommended_cost(api: Bench, ana: Person) -> None:
    (row,) = await api.rows("SELECT password_hash FROM app_user WHERE id = $1", ana.user_id)
    assert row["password_hash"].startswith("$argon2id$v=19$m=19456,t=2,p=1$")


@postgres
async def test_an_api_key_is_shown_once_stored_hashed_and_can_be_revoked(api: Bench, ana: Person) -> None:
    made = (await ana.client.post("/api/api-keys", json={"name": "crm", "role": "operator"})).json()
    robot = api.client(made["key"])
    assert (await robot.get("/api/auth/me")).json()["role"] == "operator"
    assert (await robot.get("/api/users")).status_code == 403
    assert made["key"] not in (await ana.client.get("/api/api-keys")).text
    dump = await api.rows("SELECT encode(key_hash, 'escape') AS h, hint, name FROM api_key WHERE id = $1", made["id"])
    assert made["key"] not in str(dump)
    assert (await ana.client.delete(f"/api/api-keys/{made['id']}")).status_code == 204
    assert (await robot.get("/api/auth/me")).status_code == 401


@postgres
async def test_the_last_administrator_stays(ana: Person) -> None:
    answer = await ana.client.patch(f"/api/users/{ana.user_id}", json={"role": "operator"})
    assert answer.status_code == 409


@postgres
async def test_every_change_is_in_the_audit_log_and_the_chain_tells_a_changed_entry(api: Bench, ana: Person) -> None:
    await ana.campaign(is_draft=False)
    entries = (await ana.client.get("/api/audit")).json()
    assert [entry["action"] for entry in entries] == ["campaign.create", "instance.create", "account.create"]
    assert entries[0]["actor_id"] == str(ana.user_id)
    rows = [
        dict(row)
        for row in await api.rows("SELECT * FROM audit WHERE account_id = $1 ORDER BY position", ana.account_id)
    ]
    assert audit.verify(rows) is None
    rows[1]["action"] = "instance.delete"
    assert audit.verify(rows) == 2
    del rows[1]
    assert audit.verify(rows) == 2


@postgres
async def test_sign_up_is_closed_unless_the_installation_opens_it(api: Bench, api_database: Database) -> None:
    body = {"account_name": "Nova", "name": "Zé", "email": f"{uuid4().hex}@example.com", "password": PASSWORD}
    assert (await api.client().post("/api/accounts", json=body)).status_code == 404
    async with bench(api_database, sign_up=True) as open_bench:
        made = await open_bench.client().post("/api/accounts", json=body)
        assert made.status_code == 201
        assert made.json()["user"]["role"] == "admin"
        assert (await open_bench.client().post("/api/accounts", json=body)).status_code == 409
