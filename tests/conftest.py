"""Fixtures for every test: real servers, started only when a test asks for them."""

from collections.abc import Iterator

import pytest

from backing import MakeDatabase, Migrate, Templates, running_kafka, running_postgres
from pombo.backing import Database, KafkaServer, PostgresServer


@pytest.fixture(scope="session")
def postgres_server() -> Iterator[PostgresServer]:
    """A PostgreSQL of this session's own."""
    with running_postgres() as server:
        yield server


@pytest.fixture(scope="session")
def kafka_server() -> Iterator[KafkaServer]:
    """A Kafka of this session's own. Tests choose topic and group names of their own."""
    with running_kafka() as server:
        yield server


@pytest.fixture(scope="session")
def kafka_bootstrap(kafka_server: KafkaServer) -> str:
    return kafka_server.bootstrap


@pytest.fixture(scope="session")
def database_templates(postgres_server: PostgresServer) -> Iterator[Templates]:
    templates = Templates(postgres_server)
    yield templates
    templates.drop_all()


@pytest.fixture
def database_factory(database_templates: Templates) -> Iterator[MakeDatabase]:
    """`database_factory(migrate)`: a fresh migrated database; migrations run once a session, then it is cloned."""
    made: list[Database] = []

    def make(migrate: Migrate) -> Database:
        made.append(database_templates.fresh(migrate))
        return made[-1]

    yield make
    for database in made:
        database_templates.drop(database)


@pytest.fixture
def database(database_templates: Templates) -> Iterator[Database]:
    """A fresh database with roles and empty schemas."""
    fresh = database_templates.fresh()
    yield fresh
    database_templates.drop(fresh)
