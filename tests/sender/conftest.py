"""What several of the sender's tests start from."""

from collections.abc import AsyncIterator

import pytest
from pydantic import SecretStr

from backing import MakeDatabase
from chassis.database import Database
from chassis.settings import PostgresSettings
from sender.ledger.intents import IntentStore
from sender_ledger import Ledger
from sender_parts import migrated


@pytest.fixture
async def ledger(database_factory: MakeDatabase) -> AsyncIterator[Ledger]:
    prepared = database_factory(migrated)
    dsn = SecretStr(prepared.roles["sender_worker"])
    database = Database.connect(PostgresSettings(dsn=dsn), schema="sender", application_name="tests")
    yield Ledger(prepared, database, IntentStore(database, 1.0, lambda _: None))
    await database.close()
