"""Kafka 4 and PostgreSQL 18 for development, demo and tests: real ones that start themselves.

Where they come from, each by itself: an address in the environment (POMBO_KAFKA_BOOTSTRAP,
POMBO_POSTGRES_ADMIN_DSN) → containers when POMBO_BACKING=docker → processes of this machine.
"""

import os
from collections.abc import Mapping
from pathlib import Path
from typing import Literal, Protocol, assert_never

from pombo.backing.databases import Database, clone_database, drop_database, prepare_database
from pombo.backing.failures import BackingUnavailable
from pombo.backing.kafka import Door, LocalKafka
from pombo.backing.outside import kafka_address, needed_kafka, needed_postgres, postgres_address
from pombo.backing.postgres import LocalPostgres

__all__ = [
    "Backing",
    "BackingUnavailable",
    "Database",
    "Door",
    "KafkaServer",
    "Mode",
    "PostgresServer",
    "clone_database",
    "drop_database",
    "kafka_server",
    "postgres_server",
    "prepare_database",
    "start_backing",
]

Mode = Literal["auto", "local", "docker", "environment"]


class Server(Protocol):
    """What the three kinds of servers have in common. Starting what runs and stopping what does not is fine."""

    @property
    def pid(self) -> int | None:
        """The process to send signals to; None if it is not running or not on this machine."""

    def start(self) -> None: ...
    def stop(self) -> None: ...
    def kill(self) -> None: ...
    def remove(self) -> None: ...


class KafkaServer(Server, Protocol):
    @property
    def bootstrap(self) -> str: ...


class PostgresServer(Server, Protocol):
    @property
    def admin_dsn(self) -> str: ...


class Backing:
    """Both servers, running. Ports, passwords and data stay with the folder over any restart."""

    def __init__(self, kafka: KafkaServer, postgres: PostgresServer) -> None:
        self.kafka = kafka
        self.postgres = postgres

    @property
    def kafka_bootstrap(self) -> str:
        return self.kafka.bootstrap

    @property
    def postgres_dsn_admin(self) -> str:
        return self.postgres.admin_dsn

    @property
    def pids(self) -> dict[str, int]:
        """The processes by name, those that run here: for faults by id."""
        found = {"kafka": self.kafka.pid, "postgres": self.postgres.pid}
        return {name: pid for name, pid in found.items() if pid is not None}

    def stop(self) -> None:
        try:
            self.kafka.stop()
        finally:
            self.postgres.stop()

    def __enter__(self) -> "Backing":
        return self

    def __exit__(self, *_: object) -> None:
        self.stop()


def start_backing(
    data_dir: Path,
    *,
    mode: Mode = "auto",
    die_with_parent: bool = False,
    kafka_doors: Mapping[str, Door] | None = None,
) -> Backing:
    """Start both on `data_dir`; what an earlier run left running there is taken over. `kafka_doors`: of a local one.

    Raises `BackingUnavailable` with the remedy; then nothing of it is left running.
    """
    postgres = postgres_server(data_dir, mode=mode, die_with_parent=die_with_parent)
    kafka = kafka_server(data_dir, mode=mode, die_with_parent=die_with_parent, doors=kafka_doors)
    backing = Backing(kafka, postgres)
    try:
        postgres.start()
        kafka.start()
    except BaseException:
        backing.stop()
        raise
    return backing


def kafka_server(
    data_dir: Path,
    *,
    mode: Mode = "auto",
    die_with_parent: bool = False,
    doors: Mapping[str, Door] | None = None,
) -> KafkaServer:
    """The broker of `data_dir`, not started."""
    match _chosen(mode, kafka_address()):
        case "environment":
            return needed_kafka()
        case "docker":
            from pombo.backing.containers import docker_kafka

            return docker_kafka(data_dir)
        case "local":
            return LocalKafka(data_dir, die_with_parent=die_with_parent, doors=doors)
        case unknown:
            assert_never(unknown)


def postgres_server(
    data_dir: Path, *, mode: Mode = "auto", die_with_parent: bool = False, durable: bool = True
) -> PostgresServer:
    """The database server of `data_dir`, not started. `durable` is for the local one (LocalPostgres)."""
    match _chosen(mode, postgres_address()):
        case "environment":
            return needed_postgres()
        case "docker":
            from pombo.backing.containers import docker_postgres

            return docker_postgres(data_dir)
        case "local":
            return LocalPostgres(data_dir, die_with_parent=die_with_parent, durable=durable)
        case unknown:
            assert_never(unknown)


def _chosen(mode: Mode, address: str | None) -> Literal["local", "docker", "environment"]:
    if mode != "auto":
        return mode
    if address is not None:
        return "environment"
    return "docker" if os.environ.get("POMBO_BACKING") == "docker" else "local"
