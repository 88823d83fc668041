"""campaign-api as its clients see it: the real application on a real PostgreSQL, asked over ASGI without a socket."""

import asyncio
import base64
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any
from uuid import UUID, uuid4

import httpx
from pydantic import SecretStr

from campaign_api.app import SCHEMA, Application, build
from campaign_api.identity.http import create_account
from campaign_api.settings import Settings
from chassis.database import driver, migrate
from chassis.kafka import Received
from chassis.settings import KafkaSettings, PostgresSettings, SecretsSettings
from contracts import codec
from contracts.envelope import Envelope, Event
from pombo.backing import Database

PASSWORD = "correct horse battery"
KEYS = "k1:" + base64.b64encode(b"k" * 32).decode()
TOKEN_KEYS = "t1:" + "s" * 40


def migrate_campaign_api(database: Database) -> None:
    """campaign-api's schema and the read models that it shows."""
    migrate(database.roles["campaign_api_owner"], "campaign_api", SCHEMA)
    migrate(database.roles["projections_owner"], "projections", "projections")


def settings_for(database: Database, **changes: Any) -> Settings:
    values: dict[str, Any] = {
        "kafka": KafkaSettings(bootstrap="127.0.0.1:1"),
        "postgres": PostgresSettings(dsn=SecretStr(database.roles["campaign_api_worker"]), pool_size=4),
        "web_dsn": SecretStr(database.roles["campaign_api_web"]),
        "web_pool_size": 6,
        "secrets": SecretsSettings(keys=SecretStr(KEYS)),
        "token_keys": SecretStr(TOKEN_KEYS),
        "requests_per_second": 10_000,
        "sign_ins_per_minute": 600,
        "pause_wait_s": 0.2,
        "answer_wait_s": 0.2,
        "secure_cookies": False,
    }
    return Settings(**(values | changes))


@dataclass(slots=True)
class Person:
    """Somebody signed in: `client` sends their token."""

    account_id: UUID
    user_id: UUID
    email: str
    client: httpx.AsyncClient

    async def instance(self, **changes: Any) -> str:
        body: dict[str, Any] = {
            "name": "Aura #1",
            "provider": "evolution_web",
            "server_url": "http://gateway.example:8080",
        }
        body |= {"instance_name": f"aura-{uuid4().hex[:6]}", "credentials": {"apikey": "a-key"}}
        answer = await self.client.post("/api/instances", json=body | changes)
        assert answer.status_code == 201, answer.text
        return str(answer.json()["id"])

    async def campaign(self, **changes: Any) -> dict[str, Any]:
        answer = await self.client.post("/api/campaigns", json=campaign_body(await self.instance()) | changes)
        assert answer.status_code == 201, answer.text
        found: dict[str, Any] = answer.json()
        return found


def campaign_body(instance_id: str, count: int = 3) -> dict[str, Any]:
    return {
        "name": "Black Friday",
        "is_draft": True,
        "api_config_id": instance_id,
        "messages": [{"content_type": "text", "content": "Olá {{nome}}"}],
        "contacts": contacts(count),
        "sending_configuration": {"min_delay_seconds": 0, "max_delay_seconds": 0},
    }


def contacts(count: int) -> list[dict[str, Any]]:
    return [
        {
            "external_id": f"c{n}",
            "phone_number": f"11 9{n:08d}",
            "name": f"Pessoa {n}",
            "custom_fields": {"empresa": "X"},
        }
        for n in range(1, count + 1)
    ]


@dataclass(slots=True)
class Bench:
    """The application and the people who use it."""

    application: Application
    database: Database
    _clients: list[httpx.AsyncClient] = field(default_factory=list)

    def client(self, token: str | None = None, address: str = "127.0.0.1") -> httpx.AsyncClient:
        headers = {"Authorization": f"Bearer {token}"} if token else {}
        transport = httpx.ASGITransport(self.application.door, raise_app_exceptions=False, client=(address, 1))
        client = httpx.AsyncClient(transport=transport, base_url="http://pombo.example", headers=headers, timeout=60)
        self._clients.append(client)
        return client

    async def admin(self, name: str = "Empresa") -> Person:
        """The administrator of a new account."""
        email = f"{uuid4().hex[:10]}@example.com"
        principal = await create_account(self.application.parts, name, "Ana", email, PASSWORD)
        assert principal.user_id is not None
        return Person(principal.account_id, principal.user_id, email, await self.signed_in(email))

    async def colleague(self, admin: Person, role: str) -> Person:
        email = f"{uuid4().hex[:10]}@example.com"
        body = {"email": email, "name": role, "password": PASSWORD, "role": role}
        answer = await admin.client.post("/api/users", json=body)
        assert answer.status_code == 201, answer.text
        return Person(admin.account_id, UUID(answer.json()["id"]), email, await self.signed_in(email))

    async def signed_in(self, email: str) -> httpx.AsyncClient:
        answer = await self.client().post("/api/auth/sign-in", json={"email": email, "password": PASSWORD})
        assert answer.status_code == 200, answer.text
        return self.client(answer.json()["access_token"])

    async def outbox(self, account_id: UUID) -> list[tuple[str, str, Event]]:
        """(topic, type, event) of what this account's requests would publish, in order."""
        rows = await self.rows(
            "SELECT topic, headers, value FROM outbox WHERE headers ->> 'ce_accountid' = $1 ORDER BY position",
            str(account_id),
        )
        return [
            (row["topic"], row["headers"]["ce_type"], codec.decode(row["headers"]["ce_type"], 1, row["value"]))
            for row in rows
        ]

    async def rows(self, statement: str, *arguments: Any) -> Sequence[Any]:
        """As the worker's role: every account."""
        async with self.application.parts.worker.transaction() as connection:
            found: Sequence[Any] = await (await driver(connection)).fetch(statement, *arguments)
            return found

    async def close(self) -> None:
        for client in self._clients:
            await client.aclose()
        await self.application.close()


@asynccontextmanager
async def bench(database: Database, **changes: Any) -> AsyncIterator[Bench]:
    made = Bench(build(settings_for(database, **changes), asyncio.Event()), database)
    try:
        yield made
    finally:
        await made.close()


def heard(topic: str, key: UUID | str, account_id: UUID, event: Event) -> Received:
    """A record as a consumer gets it."""
    envelope = Envelope(
        id=uuid4(),
        type=type(event).__name__,
        version=1,
        source="tests",
        subject=str(key),
        time=datetime.now(UTC),
        account_id=account_id,
    )
    return Received(topic, 0, 0, str(key), 0, envelope, event)
