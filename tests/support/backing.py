"""Real PostgreSQL and Kafka for tests: started when the first test asks, removed with the session.

With POMBO_TEST_BACKING_DIR they are those of that folder (`python -m pombo.backing serve --dir …`), left running;
its roles get the password of the tests, so it is no folder for anything else.
"""

import asyncio
import inspect
import os
import secrets
import shutil
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import psutil

from pombo.backing import (
    Database,
    KafkaServer,
    PostgresServer,
    clone_database,
    drop_database,
    kafka_server,
    postgres_server,
    prepare_database,
)
from pombo.backing.databases import in_database, run_in_thread
from pombo.backing.folders import repository_root
from pombo.backing.outside import served

KEPT_FOLDER_VARIABLE = "POMBO_TEST_BACKING_DIR"
PASSWORD = "for-tests-only"

# Receives a database that has roles and empty schemas and migrates it; may be a coroutine function.
Migrate = Callable[[Database], Any]
MakeDatabase = Callable[[Migrate], Database]


@contextmanager
def running_postgres() -> Iterator[PostgresServer]:
    if kept := os.environ.get(KEPT_FOLDER_VARIABLE):
        yield served(Path(kept))[1]
        return
    with _session_folder("postgres") as folder:
        server = postgres_server(folder, die_with_parent=True, durable=False)
        server.start()
        try:
            yield server
        finally:
            server.stop()
            server.remove()


@contextmanager
def running_kafka() -> Iterator[KafkaServer]:
    if kept := os.environ.get(KEPT_FOLDER_VARIABLE):
        yield served(Path(kept))[0]
        return
    with _session_folder("kafka") as folder:
        server = kafka_server(folder, die_with_parent=True)
        server.start()
        try:
            yield server
        finally:
            server.stop()
            server.remove()


@dataclass(slots=True)
class Templates:
    """Template databases of one server: one with the roles, and one for each way to migrate."""

    server: PostgresServer
    _made: dict[Migrate | None, str] = field(default_factory=dict)

    def fresh(self, migrate: Migrate | None = None) -> Database:
        """A database that nobody used: a clone of the template that `migrate` built the first time.

        Pass a module's function, not a lambda: each new callable builds a template of its own.
        """
        return clone_database(self.server.admin_dsn, PASSWORD, template=self._template(migrate))

    def drop(self, database: Database) -> None:
        drop_database(self.server.admin_dsn, database.name)

    def drop_all(self) -> None:
        for name in self._made.values():
            drop_database(self.server.admin_dsn, name)

    def _template(self, migrate: Migrate | None) -> str:
        if migrate not in self._made:
            # Random, because sessions may share a served folder and may be killed before they drop it.
            name = f"template_{secrets.token_hex(6)}"
            roles = prepare_database(self.server.admin_dsn, PASSWORD, name=name)
            if migrate is not None:
                database = Database(name, in_database(self.server.admin_dsn, name), roles)
                run_in_thread(lambda: _migrated(migrate, database))
            self._made[migrate] = name
        return self._made[migrate]


def _migrated(migrate: Migrate, database: Database) -> None:
    """Run in a thread of its own, so that a synchronous Alembic with its own loop works as well."""
    result = migrate(database)
    if inspect.iscoroutine(result):
        asyncio.run(result)


@contextmanager
def _session_folder(server: str) -> Iterator[Path]:
    """A folder for a server's data, removed with the session."""
    parent = repository_root() / ".pombo"
    parent.mkdir(exist_ok=True)
    _sweep(parent)
    folder = parent / f"test-{os.getpid()}" / server
    folder.mkdir(parents=True)
    try:
        yield folder
    finally:
        shutil.rmtree(folder, ignore_errors=True)
        if not any(folder.parent.iterdir()):
            folder.parent.rmdir()


def _sweep(parent: Path) -> None:
    """Remove what sessions left that were killed; their servers ended with them."""
    for folder in parent.glob("test-*"):
        pid = folder.name.removeprefix("test-")
        if pid.isdigit() and not psutil.pid_exists(int(pid)):
            if (folder / "postgres").exists():
                postgres_server(folder / "postgres", mode="local").remove()
            shutil.rmtree(folder, ignore_errors=True)
