"""Servers that somebody else runs: their addresses come from the environment, nothing is started or stopped."""

import os
from dataclasses import dataclass

from pombo.backing.failures import AddressMissing

KAFKA_VARIABLE = "POMBO_KAFKA_BOOTSTRAP"
POSTGRES_VARIABLE = "POMBO_POSTGRES_ADMIN_DSN"


@dataclass(frozen=True, slots=True)
class OutsideKafka:
    """A broker known by its address, `host:port` or several with commas."""

    bootstrap: str
    pid: int | None = None

    def start(self) -> None: ...
    def stop(self) -> None: ...
    def kill(self) -> None: ...
    def remove(self) -> None: ...


@dataclass(frozen=True, slots=True)
class OutsidePostgres:
    """A server known by the address of its superuser."""

    admin_dsn: str
    pid: int | None = None

    def start(self) -> None: ...
    def stop(self) -> None: ...
    def kill(self) -> None: ...
    def remove(self) -> None: ...


def kafka_address() -> str | None:
    return os.environ.get(KAFKA_VARIABLE) or None


def postgres_address() -> str | None:
    return os.environ.get(POSTGRES_VARIABLE) or None


def needed_kafka() -> OutsideKafka:
    if (address := kafka_address()) is None:
        raise AddressMissing(KAFKA_VARIABLE)
    return OutsideKafka(address)


def needed_postgres() -> OutsidePostgres:
    if (address := postgres_address()) is None:
        raise AddressMissing(POSTGRES_VARIABLE)
    return OutsidePostgres(address)
