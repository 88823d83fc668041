"""PostgreSQL: one engine per service, its schema on the search path, and `transaction()`: all that ever commits."""

import asyncio
import re
from collections.abc import AsyncIterator, Iterable, Iterator, Mapping, Sequence
from contextlib import asynccontextmanager, contextmanager, suppress
from datetime import datetime
from importlib.resources import files
from types import MappingProxyType
from typing import Any
from uuid import UUID

import asyncpg
import orjson
import sqlalchemy.exc
from alembic.config import Config
from alembic.runtime.environment import EnvironmentContext
from alembic.script import ScriptDirectory
from pydantic import SecretStr
from sqlalchemy import Connection, event, text
from sqlalchemy.ext.asyncio import AsyncConnection, AsyncEngine, create_async_engine
from sqlalchemy.pool import NullPool

from chassis.settings import PostgresSettings
from chassis.telemetry import log

CONNECT_TIMEOUT_S = 5.0
_RECONNECT_S = 0.5
# Server away, shutting down or starting (08, 57P), out of resources (53), read-only after a failover (25006),
# deadlock (40P01), serialization (40001), lock timeout (55P03): the same work may succeed later.
_PASSING_STATE = re.compile(r"08...|53...|57P..|25006|40P01|40001|55P03")
_SET_LOCAL = "SELECT set_config(name, value, true) FROM unnest($1::text[], $2::text[]) AS s(name, value)"
_NAME = re.compile(r"[a-z_][a-z0-9_]*(?:\.[a-z_][a-z0-9_]*)?")


class Database:
    """A pool of connections whose search path is the service's schema."""

    def __init__(self, engine: AsyncEngine, schema: str) -> None:
        self._engine = engine
        self.schema = schema

    @classmethod
    def connect(
        cls,
        settings: PostgresSettings,
        *,
        schema: str,
        application_name: str,
        options: Mapping[str, str] | None = None,
    ) -> "Database":
        """Connects at the first use. jsonb: raw driver statements take text and give decoded values.
        `options`: settings of PostgreSQL for each connection."""

        async def open_connection(*_: Any, **__: Any) -> asyncpg.Connection:
            return await open_raw(settings.dsn, schema=schema, application_name=application_name, options=options or {})

        engine = create_async_engine(
            "postgresql+asyncpg://",
            async_creator=open_connection,
            # Transactions are begun and ended by `transaction()` alone; the engine itself never commits.
            isolation_level="AUTOCOMMIT",
            pool_size=settings.pool_size,
            max_overflow=0,
            json_deserializer=orjson.loads,
            hide_parameters=True,
        )
        event.listen(engine.sync_engine, "checkout", _refuse_closed)
        return cls(engine, schema)

    @asynccontextmanager
    async def transaction(
        self, *, account_id: UUID | None = None, session: Mapping[str, str] | None = None
    ) -> AsyncIterator[AsyncConnection]:
        """Commits at its end, rolls back on any exception. `account_id` and `session` become local `app.<key>`."""
        local = {f"app.{name}": value for name, value in (session or {}).items()}
        if account_id is not None:
            local["app.account_id"] = str(account_id)
        async with self._engine.connect() as connection:
            raw = await driver(connection)
            scope = raw.transaction()
            with _terminating(raw):
                await scope.start()
            try:
                if local:
                    await raw.execute(_SET_LOCAL, list(local), list(local.values()))
                yield connection
            except BaseException:
                # The first error is the one to tell, also where the connection was lost with it.
                with suppress(asyncpg.PostgresError, asyncpg.InterfaceError, OSError), _terminating(raw):
                    await scope.rollback()
                raise
            with _terminating(raw):
                await scope.commit()

    @asynccontextmanager
    async def reading(self) -> AsyncIterator[asyncpg.Connection]:
        """For SELECTs alone: each is a transaction of its own, at a third of the round trips."""
        async with self._engine.connect() as connection:
            yield await driver(connection)

    async def copy(
        self, connection: AsyncConnection, table: str, columns: Sequence[str], rows: Iterable[Sequence[Any]]
    ) -> int:
        """COPY inside the transaction; the number of rows copied."""
        raw = await driver(connection)
        status: str = await raw.copy_records_to_table(table, records=rows, columns=list(columns))
        return int(status.split()[-1])

    async def close(self) -> None:
        await self._engine.dispose()


async def driver(connection: AsyncConnection) -> asyncpg.Connection:
    """The raw asyncpg connection, inside the same transaction."""
    proxied = await connection.get_raw_connection()
    raw: asyncpg.Connection = proxied.driver_connection  # type: ignore[assignment]
    return raw


async def open_raw(
    dsn: str | SecretStr,
    *,
    application_name: str,
    schema: str | None = None,
    options: Mapping[str, str] = MappingProxyType({}),
) -> asyncpg.Connection:
    """A connection outside the pool: for LISTEN, session locks and the pool itself."""
    settings = {"application_name": application_name, "jit": "off", **options}
    if schema is not None:
        settings["search_path"] = schema
    return await asyncpg.connect(_plain(dsn), timeout=CONNECT_TIMEOUT_S, server_settings=settings)


def is_passing(error: BaseException) -> bool:
    """True if the database is away, busy or took our transaction as victim: try the same again later."""
    if isinstance(error, sqlalchemy.exc.DBAPIError):
        cause = getattr(error.orig, "__cause__", None)
        return error.connection_invalidated or (cause is not None and is_passing(cause))
    match error:
        case asyncpg.PostgresError():
            return isinstance(error, asyncpg.InvalidCachedStatementError) or bool(
                _PASSING_STATE.fullmatch(error.sqlstate or "")
            )
        case asyncpg.InterfaceError() | asyncpg.InternalClientError():
            # The latter where the server's farewell came in just as a statement was to be sent.
            return "closed" in str(error) or "cannot switch to state" in str(error)
        case OSError() | TimeoutError() | sqlalchemy.exc.TimeoutError():
            return True
        case _:
            return False


async def listen(dsn: str | SecretStr, channel: str, wake: asyncio.Event) -> None:
    """Sets `wake` at each NOTIFY on `channel`, and at each reconnection, since notices were missed. Runs for ever."""
    while True:
        try:
            connection = await open_raw(dsn, application_name=f"listen {channel}")
            try:
                lost = asyncio.Event()
                connection.add_termination_listener(lambda *_, lost=lost: lost.set())
                await connection.add_listener(channel, lambda *_: wake.set())
                wake.set()
                await lost.wait()
            finally:
                connection.terminate()
        except Exception as error:
            if not is_passing(error):
                raise
            log.warning("listen_interrupted", channel=channel, error=type(error).__name__)
        await asyncio.sleep(_RECONNECT_S)


async def hear_latest(
    raw: asyncpg.Connection, table: str, where: str, kinds: Iterable[str], at: datetime, *keys: object
) -> frozenset[str]:
    """What others tell comes in any order and again: the table keeps in `words_at` (jsonb) when the last word of each
    kind was said. Notes one of `at`; those of its kinds of which nothing later was heard. `where` finds the row by
    `keys`, which are $3 and on; without such a row nothing was heard. Locks the row."""
    row = await raw.fetchrow(
        f"""
        UPDATE {table} SET words_at = words_at || coalesce((
          SELECT jsonb_object_agg(k, $2::timestamptz) FROM unnest($1::text[]) AS k
          WHERE NOT coalesce((words_at ->> k)::timestamptz > $2, false)), '{{}}')
        WHERE {where}
        RETURNING ARRAY(SELECT k FROM unnest($1::text[]) AS k WHERE (words_at ->> k)::timestamptz = $2) AS heard
        """,  # noqa: S608  from our own code only
        list(kinds),
        at,
        *keys,
    )
    return frozenset(row["heard"]) if row is not None else frozenset()


def migrate(owner_dsn: str | SecretStr, package: str, schema: str) -> None:
    """Brings `schema` to the newest revision of `<package>/migrations/versions`. Not for a running event loop.

    One at a time by an advisory lock; each revision is one transaction; waits for no table lock above 5 s.
    """
    asyncio.run(_migrate(owner_dsn, str(files(package) / "migrations"), schema))


async def _migrate(owner_dsn: str | SecretStr, folder: str, schema: str) -> None:
    async def open_connection(*_: Any, **__: Any) -> asyncpg.Connection:
        return await open_raw(owner_dsn, schema=schema, application_name=f"migrate {schema}")

    engine = create_async_engine("postgresql+asyncpg://", async_creator=open_connection, poolclass=NullPool)
    event.listen(engine.sync_engine, "do_execute", _execute_script)
    try:
        async with engine.connect() as connection:
            key = {"key": f"migrate {schema}"}
            await connection.execute(text("SELECT pg_advisory_lock(hashtextextended(:key, 0))"), key)
            await connection.execute(text("SET lock_timeout = '5s'"))
            await connection.commit()
            await connection.run_sync(_upgrade, folder, schema)
    finally:
        await engine.dispose()


def _upgrade(connection: Connection, folder: str, schema: str) -> None:
    scripts = ScriptDirectory(folder, version_locations=[f"{folder}/versions"])
    with EnvironmentContext(
        Config(), scripts, fn=lambda revision, _: scripts._upgrade_revs("head", revision)
    ) as environment:
        environment.configure(connection=connection, version_table_schema=schema, transaction_per_migration=True)
        with environment.begin_transaction():
            environment.run_migrations()


def _execute_script(cursor: Any, statement: str, parameters: Any, context: Any) -> bool:
    """Several statements in one `op.execute` go over the simple protocol, which prepared statements refuse."""
    if parameters or ";" not in statement.strip().rstrip(";"):
        return False
    cursor.execute("SELECT 1", ())  # begins the transaction if there is none yet
    adapted = context.root_connection.connection.dbapi_connection
    adapted.run_async(lambda raw: raw.execute(statement))
    return True


def TENANT_POLICY(  # noqa: N802
    table: str, *, web_role: str = "campaign_api_web", worker_role: str | None = None
) -> list[str]:
    """For a migration: the web role sees the rows of `app.account_id`, none without; the worker (by default that of
    the current schema) sees all."""
    for name in (table, web_role, worker_role or "worker"):
        if not _NAME.fullmatch(name):
            raise ValueError(f"not a plain name: {name!r}")
    worker = f"'{worker_role}'" if worker_role else "current_schema() || '_worker'"
    own = "account_id = nullif(current_setting('app.account_id', true), '')::uuid"
    return [
        f"ALTER TABLE {table} ENABLE ROW LEVEL SECURITY",
        f"ALTER TABLE {table} FORCE ROW LEVEL SECURITY",
        f"CREATE POLICY web ON {table} TO {web_role} USING ({own}) WITH CHECK ({own})",
        f"DO $$ BEGIN EXECUTE format('CREATE POLICY worker ON {table} TO %I USING (true) WITH CHECK (true)',"
        f" {worker}); END $$",
    ]


@contextmanager
def _terminating(raw: asyncpg.Connection) -> Iterator[None]:
    """If BEGIN, ROLLBACK or COMMIT is cut short, nobody knows whether a transaction is open: such a connection must
    not go back to the pool, where the next user would work, and see, inside what was left open."""
    try:
        yield
    except asyncpg.IntegrityConstraintViolationError:
        raise  # a deferred constraint refused the COMMIT, which ended the transaction
    except BaseException:
        raw.terminate()
        raise


def _refuse_closed(connection: Any, *_: object) -> None:
    """At checkout: the pool replaces a connection that the server has closed, without a round trip."""
    if connection.driver_connection.is_closed():
        raise sqlalchemy.exc.DisconnectionError("closed by the server")


def _plain(dsn: str | SecretStr) -> str:
    value = dsn.get_secret_value() if isinstance(dsn, SecretStr) else dsn
    return value.replace("postgresql+asyncpg://", "postgresql://", 1)
