"""The application on a database of its own, made once for the session's tests of campaign-api."""

from collections.abc import AsyncIterator, Iterator

import pytest

from backing import Templates
from campaign_parts import Bench, Person, bench, migrate_campaign_api
from pombo.backing import Database


@pytest.fixture(scope="session")
def api_database(database_templates: Templates) -> Iterator[Database]:
    database = database_templates.fresh(migrate_campaign_api)
    yield database
    database_templates.drop(database)


@pytest.fixture(scope="session")
async def api(api_database: Database) -> AsyncIterator[Bench]:
    async with bench(api_database) as made:
        yield made


@pytest.fixture
async def ana(api: Bench) -> Person:
    """The administrator of an account that nobody else uses."""
    return await api.admin()


@pytest.fixture
async def rival(api: Bench) -> Person:
    """The administrator of another account."""
    return await api.admin("Concorrente")
