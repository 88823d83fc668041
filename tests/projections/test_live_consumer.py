"""A batch is told to live screens once it is committed, never before."""

from uuid import uuid4

import asyncpg
import pytest
from sqlalchemy.ext.asyncio import AsyncConnection

from backing import MakeDatabase
from chassis.database import Database
from contracts import topics
from projection_parts import migrate_projections, projections_settings
from projections.app import build
from projections.consumers import Component, LiveConsumer
from projections.notices import CONTACTS_NAMED_MAX, contact_notices
from projections.timeline import Place, Records, Touched

pytestmark = pytest.mark.postgres
PLACE: Place = (uuid4(), uuid4())


async def _touch(_: asyncpg.Connection, __: Records) -> Touched:
    return Touched(campaigns={PLACE})


@pytest.fixture
def database(database_factory: MakeDatabase) -> Database:
    return build(projections_settings(database_factory(migrate_projections), "nowhere:1")).database


async def test_what_is_not_committed_is_not_told(database: Database) -> None:
    touched = Touched()
    consumer = LiveConsumer(Component(0, "test", (topics.CAMPAIGNS,), (), _touch), touched)

    async def handle(connection: AsyncConnection) -> None:
        await consumer.handle(connection, [])
        assert touched.empty

    async with database.transaction() as connection:
        await handle(connection)
    await consumer.committed()

    assert touched.campaigns == {PLACE}
    touched.clear()
    await consumer.committed()
    assert touched.empty
    await database.close()


def test_however_many_contacts_are_bound_an_account_is_told_once() -> None:
    account, others = uuid4(), {(uuid4(), uuid4())}
    few = {(account, uuid4()) for _ in range(3)}
    many = {(account, uuid4()) for _ in range(CONTACTS_NAMED_MAX + 1)}

    notices = dict(contact_notices(few | others))
    (told,) = [notice for account_id, notice in contact_notices(many | others) if account_id == account]

    assert len(notices) == 2
    assert notices[account].summary["ids"] == sorted(str(contact) for _, contact in few)
    assert told.summary == {"changed": CONTACTS_NAMED_MAX + 1}
