"""What stops a number and lets it go on, event by event, on a real PostgreSQL."""

import asyncio
from collections.abc import AsyncIterator
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Any
from uuid import UUID, uuid4

import pytest
from pydantic import SecretStr

from backing import MakeDatabase
from chassis.database import Database
from chassis.lifecycle import utc_now
from chassis.settings import PostgresSettings
from contracts.envelope import Envelope
from contracts.instances import InstanceBanned, InstanceConfigured, InstanceConnected, InstanceDisconnected
from pombo import backing
from providers.failures import CREDENTIALS
from providers.protocol import Account
from sender.instance import stops
from sender.instance.alarms import Alarms
from sender.instance.care import Care
from sender_ledger import number
from sender_parts import ACCOUNT, migrated, rows

pytestmark = pytest.mark.postgres
NUMBER = UUID(int=42)
NOON = datetime(2026, 3, 2, 12, tzinfo=UTC)


@dataclass(frozen=True, slots=True)
class Heeding:
    prepared: backing.Database
    database: Database

    async def hear(self, event: Any) -> tuple[str | None, list[str]]:
        """Why the number stands then, and what was told about it this time."""
        before = len(await self._told())
        envelope = Envelope(uuid4(), "t", 1, "tests", str(NUMBER), NOON, ACCOUNT)
        async with self.database.transaction() as connection:
            await stops.heed(connection, envelope, event)
        (row,) = await rows(self.prepared.admin_dsn, "SELECT stopped_reason FROM instance")
        return row["stopped_reason"], (await self._told())[before:]

    async def _told(self) -> list[str]:
        found = await rows(
            self.prepared.admin_dsn, "SELECT headers ->> 'ce_type' AS type FROM outbox ORDER BY position"
        )
        return [row["type"].rpartition(".")[2] for row in found]


@pytest.fixture
async def heeding(database_factory: MakeDatabase) -> AsyncIterator[Heeding]:
    prepared = database_factory(migrated)
    dsn = SecretStr(prepared.roles["sender_worker"])
    database = Database.connect(PostgresSettings(dsn=dsn), schema="sender", application_name="tests")
    yield Heeding(prepared, database)
    await database.close()


def configured(**changes: Any) -> InstanceConfigured:
    fields: dict[str, Any] = {"name": "loja", "provider": "evolution_web", "server_url": "http://gw"}
    return InstanceConfigured(**fields | changes)


async def test_a_session_stands_from_the_wish_until_its_gateway_says_connected(heeding: Heeding) -> None:
    assert await heeding.hear(configured()) == (None, [])
    wish = {"wanted": "connected", "wanted_version": 1}
    reason, opened = await heeding.hear(configured(**wish))
    assert (reason, len(opened)) == ("connecting", 1)
    assert await heeding.hear(configured(**wish, name="another name")) == ("connecting", [])
    reason, closed = await heeding.hear(InstanceConnected(at=NOON))
    assert (reason, len(closed)) == (None, 1)
    assert opened != closed
    assert await heeding.hear(configured(**wish, phone_number="551188887777")) == (None, [])


async def test_what_a_gateway_tells_late_or_again_changes_nothing(heeding: Heeding) -> None:
    def minutes_ago(minutes: int) -> datetime:
        return NOON - timedelta(minutes=minutes)

    lost = InstanceDisconnected(reason="logged out", at=minutes_ago(9))
    await heeding.hear(configured())
    assert await heeding.hear(InstanceConnected(at=minutes_ago(5))) == (None, [])
    assert await heeding.hear(lost) == (None, []), "it came back since"
    banned = InstanceBanned(reason="spam", at=minutes_ago(2))
    assert (await heeding.hear(banned))[0] == "banned"
    assert await heeding.hear(InstanceConnected(at=minutes_ago(5))) == ("banned", []), "told again"
    assert (await heeding.hear(InstanceConnected(at=minutes_ago(1))))[0] is None


async def test_a_gateway_whose_clock_is_ahead_is_believed_for_now_only(heeding: Heeding) -> None:
    await heeding.hear(configured())
    await heeding.hear(InstanceConnected(at=NOON + timedelta(hours=1)))
    lost = InstanceDisconnected(reason="logged out", at=NOON)
    assert (await heeding.hear(lost))[0] == "disconnected"


async def test_a_number_without_a_session_needs_no_code(heeding: Heeding) -> None:
    await heeding.hear(configured(provider="meta_cloud"))
    assert await heeding.hear(configured(provider="meta_cloud", wanted="connected", wanted_version=1)) == (None, [])


async def test_giving_up_the_wish_is_told(heeding: Heeding) -> None:
    await heeding.hear(configured())
    await heeding.hear(configured(wanted="connected", wanted_version=1))
    reason, told = await heeding.hear(configured(wanted="disconnected", wanted_version=2))
    assert (reason, len(told)) == (None, 1)


async def test_a_lost_session_stands_until_a_person_acts(heeding: Heeding) -> None:
    await heeding.hear(configured())
    assert await heeding.hear(InstanceDisconnected(reason="401", at=NOON)) == ("disconnected", [])
    assert await heeding.hear(InstanceBanned(reason="403", at=NOON)) == ("banned", [])
    reason, told = await heeding.hear(configured(name="looked at"))
    assert (reason, len(told)) == (None, 1)


async def test_what_is_told_again_after_it_was_cleared_stops_nothing(heeding: Heeding) -> None:
    await heeding.hear(configured())
    lost = InstanceDisconnected(reason="401", at=NOON)
    assert await heeding.hear(lost) == ("disconnected", [])
    reason, _ = await heeding.hear(InstanceConnected(at=NOON + timedelta(seconds=5)))
    assert reason is None
    assert await heeding.hear(lost) == (None, [])
    again = InstanceDisconnected(reason="401", at=NOON + timedelta(seconds=5))
    assert await heeding.hear(again) == ("disconnected", [])
    reason, _ = await heeding.hear(configured(name="looked at"))
    assert reason is None
    assert await heeding.hear(again) == (None, [])
    assert await heeding.hear(InstanceBanned(reason="403", at=utc_now())) == ("banned", [])


async def test_refused_credentials_stop_every_number_that_uses_them_and_each_is_told_once(heeding: Heeding) -> None:
    numbers = [
        number(UUID(int=nth), account=Account("meta_cloud", credentials={"access_token": token}))
        for nth, token in ((1, "t"), (2, "t"), (3, "another"))
    ]
    for one in numbers:
        await rows(
            heeding.prepared.admin_dsn,
            "INSERT INTO instance (instance_id, account_id, config) VALUES ($1, $2, '{}')",
            one.instance_id,
            ACCOUNT,
        )
    changes: list[None] = []
    for _ in range(2):
        async with asyncio.TaskGroup() as writing:
            alarms = Alarms(
                heeding.database,
                spawn=writing.create_task,
                changed=lambda: changes.append(None),
                instances=lambda: numbers,
                care=Care(),
            )
            alarms.stopped(numbers[1], CREDENTIALS)
    found = await rows(heeding.prepared.admin_dsn, "SELECT stopped_reason FROM instance ORDER BY instance_id")
    assert [row["stopped_reason"] for row in found] == ["credentials", "credentials", None]
    told = await rows(heeding.prepared.admin_dsn, "SELECT key FROM outbox ORDER BY key")
    assert [row["key"] for row in told] == [str(one.instance_id) for one in numbers[:2]]
    assert len(changes) == 1
