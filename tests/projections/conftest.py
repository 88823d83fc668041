"""A database that the projections' migrations built, and connections of the roles that use it."""

from collections.abc import AsyncIterator, Iterator

import asyncpg
import pytest
import pytest_asyncio

from backing import Templates
from pombo.backing import Database
from projection_parts import migrate_projections


@pytest.fixture(scope="session")
def projections_database(database_templates: Templates) -> Iterator[Database]:
    """Shared by tests that leave nothing behind."""
    database = database_templates.fresh(migrate_projections)
    yield database
    database_templates.drop(database)


@pytest_asyncio.fixture(scope="session", loop_scope="session")
async def worker(projections_database: Database) -> AsyncIterator[asyncpg.Connection]:
    """What the service itself connects as."""
    connection = await asyncpg.connect(
        projections_database.roles["projections_worker"], server_settings={"search_path": "projections", "jit": "off"}
    )
    yield connection
    await connection.close()
