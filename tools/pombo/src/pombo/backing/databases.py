"""Databases with Pombo's roles: the one that is run with, and fresh ones for tests, cloned from a template."""

import asyncio
import secrets
from collections.abc import Callable, Coroutine
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import Any, TypeVar
from urllib.parse import quote, urlsplit, urlunsplit

import asyncpg

from pombo.backing.folders import repository_root

SCHEMAS = ("campaign_api", "scheduler", "sender", "webhook_ingest", "projections")
LOGINS = ("campaign_api_web", *(f"{schema}_{kind}" for schema in SCHEMAS for kind in ("owner", "worker")))
# Any number: one preparation at a time on a server, because roles belong to all its databases.
PREPARATION_LOCK = 7_266_266
T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class Database:
    """One database: `roles` has an address for each role that logs in, `admin_dsn` is the superuser's."""

    name: str
    admin_dsn: str
    roles: dict[str, str]


def prepare_database(admin_dsn: str, password: str, *, name: str = "pombo") -> dict[str, str]:
    """Make the database if it is not there, its roles and schemas; the address for each role that logs in.

    Safe to repeat and to run at once with another one. All roles get `password`.
    """
    run_apart(_prepare(admin_dsn, password, name))
    return role_addresses(admin_dsn, password, name)


def clone_database(admin_dsn: str, password: str, *, template: str) -> Database:
    """A new database with a random name and all that `template` holds (20 ms where fsync is off, else 165)."""
    name = f"test_{secrets.token_hex(6)}"
    run_apart(_clone(admin_dsn, template, name))
    return Database(name, in_database(admin_dsn, name), role_addresses(admin_dsn, password, name))


def drop_database(admin_dsn: str, name: str) -> None:
    """Drop it, ending whoever is still connected."""
    run_apart(_execute(admin_dsn, f"DROP DATABASE IF EXISTS {_quoted(name)} WITH (FORCE)"))


def role_addresses(admin_dsn: str, password: str, name: str) -> dict[str, str]:
    return {role: in_database(admin_dsn, name, user=role, password=password) for role in LOGINS}


def in_database(dsn: str, name: str, *, user: str | None = None, password: str = "") -> str:
    """The same server's database `name`, as another user if one is given."""
    parts = urlsplit(dsn)
    login, _, address = parts.netloc.rpartition("@")
    if user is not None:
        login = f"{quote(user, safe='')}:{quote(password, safe='')}"
    return urlunsplit(parts._replace(netloc=f"{login}@{address}" if login else address, path=f"/{name}"))


def run_apart(work: Coroutine[Any, Any, T]) -> T:
    """Run a coroutine to its end from ordinary code, also where the caller's thread has a running loop."""
    return run_in_thread(lambda: asyncio.run(work))


def run_in_thread(work: Callable[[], T]) -> T:
    with ThreadPoolExecutor(max_workers=1) as thread:
        return thread.submit(work).result()


async def _prepare(admin_dsn: str, password: str, name: str) -> None:
    roles_sql = (repository_root() / "deploy" / "postgres" / "roles.sql").read_text()
    server = await asyncpg.connect(admin_dsn)
    try:
        await server.execute("SELECT pg_advisory_lock($1)", PREPARATION_LOCK)
        if not await server.fetchval("SELECT true FROM pg_database WHERE datname = $1", name):
            await server.execute(f"CREATE DATABASE {_quoted(name)}")
        database = await asyncpg.connect(in_database(admin_dsn, name))
        try:
            await database.execute("SELECT set_config('pombo.password', $1, false)", password)
            await database.execute(roles_sql)
        finally:
            await database.close()
    finally:
        await server.close()


async def _clone(admin_dsn: str, template: str, name: str) -> None:
    server = await asyncpg.connect(admin_dsn)
    try:
        # A pool that a migration forgot to close would make the clone fail.
        await server.execute("SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE datname = $1", template)
        await server.execute(f"CREATE DATABASE {_quoted(name)} TEMPLATE {_quoted(template)} STRATEGY FILE_COPY")
    finally:
        await server.close()


async def _execute(admin_dsn: str, statement: str) -> None:
    server = await asyncpg.connect(admin_dsn)
    try:
        await server.execute(statement)
    finally:
        await server.close()


def _quoted(name: str) -> str:
    return '"' + name.replace('"', '""') + '"'
