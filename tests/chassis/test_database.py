"""chassis.database on a real PostgreSQL."""

import asyncio
import random
import sys
import textwrap
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from uuid import UUID, uuid4

import asyncpg
import pytest
import sqlalchemy.exc
from pydantic import SecretStr
from sqlalchemy import text

from chassis.database import TENANT_POLICY, Database, driver, is_passing, listen, migrate
from chassis.settings import PostgresSettings
from chassis_parts import SCHEMA, Service, service
from pombo import backing

pytestmark = pytest.mark.postgres

THING = "CREATE TABLE thing (account_id uuid, id int, note text, PRIMARY KEY (account_id, id))"


async def insert(s: Service, account_id: UUID, *numbers: int) -> None:
    async with s.database.transaction() as connection:
        raw = await driver(connection)
        await raw.executemany("INSERT INTO thing VALUES ($1, $2, 'x')", [(account_id, n) for n in numbers])


async def test_a_transaction_commits_at_its_end_and_takes_everything_back_on_an_exception(
    database: backing.Database,
) -> None:
    async with service(database, THING) as s:
        await insert(s, uuid4(), 1)
        with pytest.raises(ZeroDivisionError):  # noqa: PT012
            async with s.database.transaction() as connection:
                await connection.execute(text("DELETE FROM thing"))
                raise ZeroDivisionError
        assert await s.value("SELECT count(*) FROM thing") == 1


async def test_engine_and_driver_share_one_transaction(database: backing.Database) -> None:
    async with service(database, THING) as s, s.database.transaction() as connection:
        raw = await driver(connection)
        first = await raw.fetchval("SELECT pg_current_xact_id()::text")
        second = (await connection.execute(text("SELECT pg_current_xact_id()::text"))).scalar_one()
        assert first == second


async def test_a_statement_that_fails_leaves_the_pool_usable(database: backing.Database) -> None:
    async with service(database, THING) as s:
        for _ in range(20):
            with pytest.raises(sqlalchemy.exc.DBAPIError):
                async with s.database.transaction() as connection:
                    await connection.execute(text("SELECT 1 / 0"))
        assert await s.value("SELECT 1") == 1


async def test_a_cancelled_transaction_leaves_nothing_and_the_pool_usable(database: backing.Database) -> None:
    async with service(database, THING) as s:

        async def slow() -> None:
            async with s.database.transaction() as connection:
                raw = await driver(connection)
                await raw.execute("INSERT INTO thing VALUES ($1, 1, '')", uuid4())
                await raw.execute("SELECT pg_sleep(30)")

        for _ in range(10):
            with pytest.raises(TimeoutError):
                async with asyncio.timeout(0.05):
                    await slow()
        assert await s.value("SELECT count(*) FROM thing") == 0
        assert await s.value("SELECT count(*) FROM pg_stat_activity WHERE state LIKE 'idle in%'") == 0


async def test_session_settings_end_with_their_transaction(database: backing.Database) -> None:
    account_id = uuid4()
    async with service(database) as s:
        async with s.database.transaction(account_id=account_id, session={"user_id": "u'1"}) as connection:
            raw = await driver(connection)
            assert await raw.fetchval("SELECT current_setting('app.account_id')") == str(account_id)
            assert await raw.fetchval("SELECT current_setting('app.user_id')") == "u'1"
        assert await s.value("SELECT coalesce(current_setting('app.account_id', true), '')") == ""


async def test_the_search_path_is_the_services_schema(database: backing.Database) -> None:
    async with service(database) as s:
        assert await s.value("SELECT current_schema()") == SCHEMA


async def test_copy_happens_inside_the_transaction(database: backing.Database) -> None:
    account_id = uuid4()
    async with service(database, THING) as s:
        rows = [(account_id, n, "x") for n in range(1000)]
        with pytest.raises(ZeroDivisionError):  # noqa: PT012
            async with s.database.transaction() as connection:
                assert await s.database.copy(connection, "thing", ["account_id", "id", "note"], rows) == 1000
                raise ZeroDivisionError
        assert await s.value("SELECT count(*) FROM thing") == 0
        async with s.database.transaction() as connection:
            await s.database.copy(connection, "thing", ["account_id", "id", "note"], rows)
        assert await s.value("SELECT count(*) FROM thing") == 1000


async def test_connections_that_the_server_closed_are_replaced(database: backing.Database) -> None:
    async with service(database) as s:
        await asyncio.gather(*(s.value("SELECT pg_sleep(0.05)") for _ in range(4)))
        admin = await asyncpg.connect(database.admin_dsn)
        await admin.execute(
            "SELECT pg_terminate_backend(pid) FROM pg_stat_activity"
            " WHERE datname = current_database() AND pid <> pg_backend_pid()"
        )
        await admin.close()
        await asyncio.sleep(0.1)
        assert await asyncio.gather(*(s.value("SELECT 1") for _ in range(8))) == [1] * 8


async def test_an_outage_is_told_from_a_mistake(database: backing.Database) -> None:
    async with service(database, THING) as s:
        with pytest.raises(sqlalchemy.exc.DBAPIError) as mistake:
            await _execute(s, "SELECT nothing_like_this")
        assert not is_passing(mistake.value)
        with pytest.raises(sqlalchemy.exc.DBAPIError) as killed:
            await _execute(s, "SELECT pg_terminate_backend(pg_backend_pid())")
        assert is_passing(killed.value)
        with pytest.raises(asyncpg.DataError) as wrong_argument:
            await s.value("SELECT $1::int", "text")
        assert not is_passing(wrong_argument.value)
    nowhere = PostgresSettings(dsn=SecretStr("postgresql://nobody@127.0.0.1:1/none"))
    away = Database.connect(nowhere, schema="x", application_name="x")
    with pytest.raises(OSError) as refused:
        async with away.transaction():
            pass
    assert is_passing(refused.value)
    assert not is_passing(ValueError("closed"))


async def test_a_listener_wakes_and_survives_losing_its_connection(database: backing.Database) -> None:
    wake = asyncio.Event()
    async with service(database) as s, asyncio.TaskGroup() as tasks:
        listener = tasks.create_task(listen(s.worker_dsn, "news", wake))
        await asyncio.wait_for(wake.wait(), 5)
        for round_ in range(2):
            wake.clear()
            await s.value("SELECT pg_notify('news', '')")
            await asyncio.wait_for(wake.wait(), 5)
            if round_ == 0:
                wake.clear()
                admin = await asyncpg.connect(database.admin_dsn)
                await admin.execute(
                    "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE application_name = 'listen news'"
                )
                await admin.close()
                await asyncio.wait_for(wake.wait(), 5)  # it says so at each new connection, since it missed some
        listener.cancel()


@asynccontextmanager
async def tenants(database: backing.Database) -> AsyncIterator[tuple[Service, Database]]:
    grant = "GRANT USAGE ON SCHEMA sender TO campaign_api_web", "GRANT ALL ON thing TO campaign_api_web"
    async with service(database, THING, *TENANT_POLICY("thing"), *grant) as s:
        settings = PostgresSettings(dsn=SecretStr(database.roles["campaign_api_web"]), pool_size=3)
        web = Database.connect(settings, schema=SCHEMA, application_name="web")
        try:
            yield s, web
        finally:
            await web.close()


def migrations(folder: Path, sql: str) -> str:
    """A package of its own name, so that no other test has imported it."""
    package = f"migrated_{uuid4().hex[:8]}"
    versions = folder / package / "migrations" / "versions"
    versions.mkdir(parents=True)
    (folder / package / "__init__.py").touch()
    (versions / "0001_thing.py").write_text(
        textwrap.dedent(f"""
            from alembic import op

            revision, down_revision = "0001", None

            def upgrade() -> None:
                op.execute({sql!r})
        """)
    )
    if str(folder) not in sys.path:
        sys.path.insert(0, str(folder))
    return package


class TestTenants:
    async def test_the_web_role_sees_one_account_only_without_any_filter(self, database: backing.Database) -> None:
        mine, theirs = uuid4(), uuid4()
        async with tenants(database) as (s, web):
            await insert(s, mine, 1, 2)
            await insert(s, theirs, 1)
            async with web.transaction(account_id=mine) as connection:
                assert await (await driver(connection)).fetchval("SELECT count(*) FROM thing") == 2
            async with web.transaction() as connection:
                assert await (await driver(connection)).fetchval("SELECT count(*) FROM thing") == 0
            assert await s.value("SELECT count(*) FROM thing") == 3

    async def test_the_web_role_cannot_write_rows_of_another_account(self, database: backing.Database) -> None:
        async with tenants(database) as (s, web):
            with pytest.raises(asyncpg.InsufficientPrivilegeError):
                async with web.transaction(account_id=uuid4()) as connection:
                    await (await driver(connection)).execute("INSERT INTO thing VALUES ($1, 1, '')", uuid4())
            assert await s.value("SELECT count(*) FROM thing") == 0

    async def test_a_pooled_connection_never_keeps_an_account(self, database: backing.Database) -> None:
        accounts = [uuid4() for _ in range(5)]
        chooser = random.Random(7)
        async with tenants(database) as (s, web):
            for n, account in enumerate(accounts):
                await insert(s, account, *range(n))

            async def look() -> None:
                for _ in range(60):
                    n = chooser.randrange(5)
                    how = chooser.choice(["read", "fail", "time out", "no account"])
                    try:
                        async with (
                            asyncio.timeout(0.001 if how == "time out" else 20),
                            web.transaction(account_id=None if how == "no account" else accounts[n]) as connection,
                        ):
                            seen = await (await driver(connection)).fetchval("SELECT count(*) FROM thing")
                            assert seen == (0 if how == "no account" else n)
                            if how == "fail":
                                await (await driver(connection)).execute("SELECT 1 / 0")
                    except (asyncpg.DivisionByZeroError, TimeoutError):
                        pass

            await asyncio.gather(*(look() for _ in range(6)))

    async def test_row_security_is_forced(self, database: backing.Database) -> None:
        async with tenants(database) as (s, _):
            assert await s.value("SELECT relforcerowsecurity FROM pg_class WHERE oid = 'thing'::regclass")

    def test_a_name_that_is_not_plain_is_refused(self) -> None:
        with pytest.raises(ValueError):
            TENANT_POLICY("thing; DROP TABLE thing")


class TestMigrate:
    async def test_revisions_run_once_in_the_services_schema(self, database: backing.Database, tmp_path: Path) -> None:
        package = migrations(tmp_path, "CREATE TABLE first (n int); CREATE TABLE second (n int)")
        owner = database.roles[f"{SCHEMA}_owner"]
        for _ in range(2):
            await asyncio.to_thread(migrate, owner, package, SCHEMA)
        async with service(database) as s:
            assert (
                await s.value(
                    "SELECT string_agg(tablename, ' ' ORDER BY tablename) FROM pg_tables"
                    " WHERE schemaname = current_schema() AND tablename IN ('first', 'second')"
                )
                == "first second"
            )
            assert await s.value(f"SELECT version_num FROM {SCHEMA}.alembic_version") == "0001"

    async def test_two_at_once_do_not_meet(self, database: backing.Database, tmp_path: Path) -> None:
        package = migrations(tmp_path, "CREATE TABLE first (n int)")
        owner = database.roles[f"{SCHEMA}_owner"]
        command = [
            "-c",
            f"import sys; sys.path.insert(0, {str(tmp_path)!r}); from chassis.database import migrate;"
            f" migrate({owner!r}, {package!r}, {SCHEMA!r})",
        ]
        processes = [await asyncio.create_subprocess_exec(sys.executable, *command) for _ in range(2)]
        assert [await process.wait() for process in processes] == [0, 0]

    async def test_a_revision_that_fails_leaves_nothing_of_itself(
        self, database: backing.Database, tmp_path: Path
    ) -> None:
        package = migrations(tmp_path, "CREATE TABLE first (n int); SELECT 1 / 0;")
        with pytest.raises(Exception, match="division by zero"):
            await asyncio.to_thread(migrate, database.roles[f"{SCHEMA}_owner"], package, SCHEMA)
        async with service(database) as s:
            assert await s.value("SELECT to_regclass('first')") is None

    async def test_a_locked_table_fails_the_migration_instead_of_stopping_the_service(
        self, database: backing.Database, tmp_path: Path
    ) -> None:
        package = migrations(tmp_path, "SELECT set_config('lock_timeout', '100ms', true); ALTER TABLE thing ADD n int")
        async with service(database, THING) as s, s.database.transaction() as connection:
            await (await driver(connection)).execute("SELECT * FROM thing")
            with pytest.raises(Exception, match="lock timeout"):
                await asyncio.to_thread(migrate, s.owner_dsn, package, SCHEMA)


async def _execute(s: Service, sql: str) -> None:
    async with s.database.transaction() as connection:
        await connection.execute(text(sql))
