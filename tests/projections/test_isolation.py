"""No row of one account is visible to another: every table and view, asked without any account filter."""

import random
from collections.abc import AsyncIterator
from uuid import UUID, uuid4

import asyncpg
import pytest
import pytest_asyncio

from backing import PASSWORD, MakeDatabase
from contracts import conversations, ids
from contracts.ids import Address
from pombo.backing import Database
from pombo.backing.databases import in_database
from projection_histories import History, draw_history
from projection_parts import apply, enter, migrate_projections
from projections.generation.generations import TABLES

pytestmark = pytest.mark.postgres


@pytest_asyncio.fixture(loop_scope="session")
async def filled(database_factory: MakeDatabase) -> Database:
    """Rows of several accounts in every table."""
    database = database_factory(migrate_projections)
    connection = await asyncpg.connect(database.roles["projections_worker"])
    for seed in range(6):
        async with connection.transaction():
            await enter(connection)
            await apply(connection, draw_history(seed))
    await connection.close()
    return database


@pytest_asyncio.fixture(loop_scope="session")
async def admin(filled: Database) -> AsyncIterator[asyncpg.Connection]:
    connection = await asyncpg.connect(filled.admin_dsn, server_settings={"search_path": "projections_g1"})
    yield connection
    await connection.close()


async def readable(admin: asyncpg.Connection) -> list[str]:
    """Every table of the generation and every published view."""
    views = await admin.fetch("SELECT viewname FROM pg_views WHERE schemaname = 'projections' ORDER BY 1")
    return [*(f"projections_g1.{table}" for table in TABLES), *(f"projections.{row[0]}" for row in views)]


async def accounts_seen(connection: asyncpg.Connection, relation: str) -> set[UUID]:
    return {row[0] for row in await connection.fetch(f"SELECT DISTINCT account_id FROM {relation}")}


async def pick_account(admin: asyncpg.Connection) -> UUID:
    account: UUID = await admin.fetchval("SELECT account_id FROM recipient ORDER BY 1 LIMIT 1")
    return account


async def test_the_web_role_sees_its_account_only_and_nothing_without_one(
    filled: Database, admin: asyncpg.Connection
) -> None:
    web = await asyncpg.connect(filled.roles["campaign_api_web"])
    account = await pick_account(admin)
    seen_anywhere = 0
    for relation in await readable(admin):
        assert await accounts_seen(web, relation) == set(), relation
        async with web.transaction():
            await web.execute("SELECT set_config('app.account_id', $1, true)", str(account))
            seen = await accounts_seen(web, relation)
        assert seen <= {account}, relation
        seen_anywhere += len(seen)
        async with web.transaction():
            await web.execute("SELECT set_config('app.account_id', $1, true)", str(uuid4()))
            assert await accounts_seen(web, relation) == set(), relation
    assert seen_anywhere > 20
    await web.close()


async def test_an_analyst_sees_the_account_of_the_role_only(filled: Database, admin: asyncpg.Connection) -> None:
    account, role = await pick_account(admin), f"analyst_{uuid4().hex[:8]}"
    await admin.execute(f"CREATE ROLE {role} LOGIN PASSWORD '{PASSWORD}' IN ROLE analyst")
    try:
        analyst = await asyncpg.connect(in_database(filled.admin_dsn, filled.name, user=role, password=PASSWORD))
        for relation in await readable(admin):
            assert await accounts_seen(analyst, relation) == set(), relation
        owner = await asyncpg.connect(filled.roles["projections_owner"], server_settings={"search_path": "projections"})
        await owner.execute("SELECT admit_analyst($1, $2)", role, account)
        await owner.close()
        seen = {relation: await accounts_seen(analyst, relation) for relation in await readable(admin)}
        assert all(accounts <= {account} for accounts in seen.values())
        assert seen["projections.campaign_contacts"] == {account}
        with pytest.raises(asyncpg.InsufficientPrivilegeError):
            await analyst.execute("DELETE FROM projections_g1.campaign")
        with pytest.raises(asyncpg.InsufficientPrivilegeError):
            await analyst.fetch("SELECT * FROM projections.analyst_account")
        await analyst.close()
    finally:
        await admin.execute(f"DROP ROLE {role}")


async def test_readers_may_write_nothing_and_not_swap_generations(filled: Database, admin: asyncpg.Connection) -> None:
    web = await asyncpg.connect(filled.roles["campaign_api_web"])
    for statement in (
        "UPDATE projections_g1.campaign SET name = 'x'",
        "TRUNCATE projections_g1.campaign",
        "SELECT projections.show_generation('projections_g2')",
        "UPDATE projections.generation SET current = 'projections_g2'",
    ):
        with pytest.raises(asyncpg.InsufficientPrivilegeError):
            await web.execute(statement)
    await web.close()


async def test_an_operator_does_not_see_conversations_of_others(filled: Database, admin: asyncpg.Connection) -> None:
    account, me, colleague, instance = uuid4(), uuid4(), uuid4(), uuid4()
    history = History(random.Random(1))
    for phone, assignee in (("551199", me), ("551188", colleague), ("551177", None)):
        chat = Address(phone=phone)
        conversation = ids.chat_id(instance, chat)
        event = conversations.MessageReceived(
            instance_id=instance, message_id=uuid4(), provider_message_id=phone, chat=chat, direction="in",
            origin="contact", type="text", text=phone, message_at=history.now, received_at=history.now,
        )  # fmt: skip
        history.tell(account, conversation, event)
        history.tell(account, conversation, conversations.ConversationAssigned(assignee=assignee, by=me), streamed=True)
    worker = await asyncpg.connect(filled.roles["projections_worker"])
    async with worker.transaction():
        await enter(worker)
        await apply(worker, history.records)
    await worker.close()

    web = await asyncpg.connect(filled.roles["campaign_api_web"], server_settings={"search_path": "projections"})

    async def phones(role: str, view: str, column: str) -> set[str]:
        async with web.transaction():
            for name, value in (("account_id", account), ("user_id", me), ("role", role)):
                await web.execute("SELECT set_config($1, $2, true)", f"app.{name}", str(value))
            return {row[0] for row in await web.fetch(f"SELECT {column} FROM {view}")}

    for view, column in (("conversations", "phone_number"), ("messages", "text")):
        assert await phones("operator", view, column) == {"551199", "551177"}
        assert await phones("supervisor", view, column) == {"551199", "551188", "551177"}
    await web.close()


async def test_a_restricted_operator_sees_no_message_of_another_persons_campaign(
    filled: Database, admin: asyncpg.Connection
) -> None:
    row = await admin.fetchrow(
        "SELECT c.account_id, c.owner_id, c.id FROM projections_g1.campaign c WHERE c.owner_id IS NOT NULL"
        " AND EXISTS (SELECT FROM projections_g1.dispatch d WHERE d.account_id = c.account_id AND d.subject_id = c.id)"
    )
    assert row is not None
    web = await asyncpg.connect(filled.roles["campaign_api_web"], server_settings={"search_path": "projections_g1"})

    async def count(user: UUID, own_only: str) -> int:
        settings = {"account_id": row["account_id"], "user_id": user, "role": "operator", "own_only": own_only}
        async with web.transaction():
            for name, value in settings.items():
                await web.execute("SELECT set_config($1, $2, true)", f"app.{name}", str(value))
            found: int = await web.fetchval("SELECT count(*) FROM dispatch WHERE subject_id = $1", row["id"])
            return found

    everything = await count(uuid4(), "")
    assert everything > 0
    assert await count(row["owner_id"], "true") == everything
    assert await count(uuid4(), "true") == 0
    await web.close()
