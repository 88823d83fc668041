"""deploy/postgres/roles.sql: who may do what in the database."""

from collections.abc import Awaitable, Callable

import asyncpg
import pytest

from backing import MakeDatabase
from pombo.backing import (
    Database,
    PostgresServer,
    prepare_database,
)


@pytest.mark.postgres
async def test_preparing_again_changes_nothing(postgres_server: PostgresServer, database: Database) -> None:
    before = await _grants(database.admin_dsn)
    again = prepare_database(postgres_server.admin_dsn, "for-tests-only", name=database.name)
    assert again == database.roles
    assert await _grants(database.admin_dsn) == before


@pytest.mark.postgres
async def test_no_role_can_pass_row_level_security_or_make_roles(database: Database) -> None:
    powers = await _value(
        database.admin_dsn,
        "SELECT count(*) FROM pg_roles WHERE rolname = ANY($1) AND "
        "(rolsuper OR rolbypassrls OR rolcreaterole OR rolcreatedb OR rolreplication)",
        [*database.roles, "analyst"],
    )
    assert powers == 0
    assert not await _value(database.admin_dsn, "SELECT rolcanlogin FROM pg_roles WHERE rolname = 'analyst'")


@pytest.mark.postgres
@pytest.mark.parametrize("schema", ["campaign_api", "scheduler", "sender", "webhook_ingest", "projections"])
async def test_owner_makes_tables_that_its_worker_may_fill_but_not_make(schema: str, database: Database) -> None:
    owner, worker = database.roles[f"{schema}_owner"], database.roles[f"{schema}_worker"]
    await _execute(owner, f"CREATE TABLE {schema}.thing (id bigint GENERATED ALWAYS AS IDENTITY, n int)")

    await _execute(worker, f"INSERT INTO {schema}.thing (n) VALUES (1)")
    assert await _value(worker, f"SELECT n FROM {schema}.thing") == 1
    for forbidden in (f"CREATE TABLE {schema}.other ()", f"DROP TABLE {schema}.thing", "CREATE TABLE public.other ()"):
        with pytest.raises((asyncpg.InsufficientPrivilegeError, asyncpg.InvalidSchemaNameError)):
            await _execute(worker, forbidden)
    with pytest.raises(asyncpg.InsufficientPrivilegeError):
        await _execute(worker, f"TRUNCATE {schema}.thing")


@pytest.mark.postgres
async def test_no_service_reads_the_tables_of_another(database: Database) -> None:
    await _execute(database.roles["sender_owner"], "CREATE TABLE sender.ledger (n int)")
    strangers = [role for role in database.roles if not role.startswith("sender_")]
    for role in strangers:
        with pytest.raises(asyncpg.InsufficientPrivilegeError):
            await _execute(database.roles[role], "SELECT * FROM sender.ledger")


@pytest.mark.postgres
async def test_the_web_role_reads_projections_and_cannot_write_them(database: Database) -> None:
    await _execute(database.roles["projections_owner"], "CREATE TABLE projections.progress (n int)")
    await _execute(database.roles["campaign_api_owner"], "CREATE TABLE campaign_api.users (n int)")
    web = database.roles["campaign_api_web"]

    assert await _value(web, "SELECT count(*) FROM projections.progress") == 0
    await _execute(web, "INSERT INTO campaign_api.users VALUES (1)")
    for forbidden in (
        "INSERT INTO projections.progress VALUES (1)",
        "UPDATE projections.progress SET n = 1",
        "DELETE FROM projections.progress",
        "CREATE TABLE projections.mine ()",
        "CREATE TABLE campaign_api.mine ()",
    ):
        with pytest.raises(asyncpg.InsufficientPrivilegeError):
            await _execute(web, forbidden)


@pytest.mark.postgres
async def test_a_migrated_database_is_built_once_and_cloned(database_factory: MakeDatabase) -> None:
    calls: list[str] = []

    async def migrate(database: Database) -> None:
        calls.append(database.name)
        await _execute(database.roles["sender_owner"], "CREATE TABLE sender.made (n int)")

    first, second = database_factory(migrate), database_factory(migrate)
    await _execute(first.roles["sender_worker"], "INSERT INTO sender.made VALUES (1)")

    assert len(calls) == 1
    assert await _value(second.roles["sender_worker"], "SELECT count(*) FROM sender.made") == 0


async def _execute(dsn: str, statement: str) -> None:
    await _connected(dsn, lambda connection: connection.execute(statement))


async def _value(dsn: str, query: str, *arguments: object) -> object:
    return await _connected(dsn, lambda connection: connection.fetchval(query, *arguments))


async def _grants(dsn: str) -> object:
    return await _value(
        dsn,
        "SELECT (SELECT array_agg(d::text ORDER BY oid) FROM pg_default_acl d)::text "
        "|| (SELECT array_agg(nspname || nspowner || coalesce(nspacl::text, '') ORDER BY nspname)"
        "    FROM pg_namespace)::text",
    )


async def _connected(dsn: str, act: Callable[[asyncpg.Connection], Awaitable[object]]) -> object:
    connection = await asyncpg.connect(dsn)
    try:
        return await act(connection)
    finally:
        await connection.close()
