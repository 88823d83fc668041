"""Servers that somebody else runs, known by their addresses: nothing is started or stopped."""

import json
import os
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from pombo.backing.failures import AddressMissing, NotServed
from pombo.backing.folders import write_private

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


@contextmanager
def served_addresses(data_dir: Path, addresses: dict[str, str]) -> Iterator[None]:
    """Leave the addresses in the folder while its servers run; the file holds the password, so it is private."""
    file = data_dir / "addresses.json"
    write_private(file, json.dumps(addresses))
    try:
        yield
    finally:
        file.unlink(missing_ok=True)


def served(data_dir: Path) -> tuple[OutsideKafka, OutsidePostgres]:
    """The servers that `python -m pombo.backing serve` runs on that folder."""
    try:
        addresses = json.loads((data_dir / "addresses.json").read_text())
    except FileNotFoundError:
        raise NotServed(data_dir) from None
    return OutsideKafka(addresses["kafka_bootstrap"]), OutsidePostgres(addresses["postgres_admin_dsn"])
