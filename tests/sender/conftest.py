"""What several of the sender's tests start from."""

from collections.abc import AsyncIterator, Callable
from pathlib import Path
from typing import Any

import pytest
from pydantic import SecretStr

from backing import MakeDatabase
from chassis.database import Database
from chassis.settings import PostgresSettings
from sender.ledger.intents import IntentStore
from sender_ledger import Ledger
from sender_parts import migrated
from sender_stage import staged


@pytest.fixture
async def ledger(database_factory: MakeDatabase) -> AsyncIterator[Ledger]:
    prepared = database_factory(migrated)
    dsn = SecretStr(prepared.roles["sender_worker"])
    database = Database.connect(PostgresSettings(dsn=dsn), schema="sender", application_name="tests")
    yield Ledger(prepared, database, IntentStore(database, 1.0, lambda _: None))
    await database.close()


@pytest.fixture
def make_stage(database_factory: MakeDatabase, kafka_bootstrap: str, tmp_path: Path) -> Callable[..., Any]:
    """Senders as processes, with a database of their own and the simulator."""

    def make(config: dict[str, Any] | None = None, **settings: str) -> Any:
        return staged(database_factory(migrated), kafka_bootstrap, tmp_path, config, **settings)

    return make
