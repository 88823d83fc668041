"""`python -m projections serve|migrate|rebuild|check`."""

import asyncio
import sys
from collections.abc import Callable, Coroutine
from dataclasses import asdict
from typing import Any, TypeVar

import orjson
import uvloop

from chassis import telemetry
from chassis.database import migrate
from chassis.kafka import ensure_topics
from chassis.lifecycle import collect_garbage_rarely, main, run, survive_broken_connections
from chassis.settings import MigrateSettings, load
from contracts.topics import PROJECTIONS, produced_by
from projections.app import SCHEMA, build
from projections.generation.log import LogIsShorter
from projections.generation.rebuild import RebuildRunning, compare, rebuild
from projections.settings import Settings

T = TypeVar("T")
USAGE = "usage: python -m projections serve|migrate|rebuild|check"


def _serve() -> None:
    settings = load(Settings)
    telemetry.configure(PROJECTIONS, settings.telemetry)
    main(run(PROJECTIONS, build(settings).serve))


def _migrate() -> None:
    settings = load(MigrateSettings)
    telemetry.configure(PROJECTIONS, settings.telemetry)
    migrate(settings.migration.owner_dsn, "projections", SCHEMA)
    asyncio.run(ensure_topics(settings.kafka, produced_by(PROJECTIONS)))


def _rebuild() -> None:
    """One JSON line: what was rebuilt, in which time."""
    settings = load(Settings)
    telemetry.configure(PROJECTIONS, settings.telemetry)
    _write(asdict(_finish(rebuild(settings))))


def _check() -> None:
    """One JSON line for each table, live and rebuilt; exit code 1 if any differs."""
    settings = load(Settings)
    telemetry.configure(PROJECTIONS, settings.telemetry)
    compared = _finish(compare(settings))
    for table, live in compared.live.items():
        rebuilt = compared.rebuilt[table]
        _write({"table": table, "equal": live == rebuilt, "live": asdict(live), "rebuilt": asdict(rebuilt)})
    _write({"events": compared.events, "equal": not compared.differing, "differing": compared.differing})
    if compared.differing:
        sys.exit(1)


def _finish(work: Coroutine[Any, Any, T]) -> T:
    """Runs to its end as a service runs; with Python's own garbage thresholds a rebuild takes twice as long."""
    collect_garbage_rarely()
    survive_broken_connections()
    return uvloop.run(work)


def _write(line: object) -> None:
    sys.stdout.write(orjson.dumps(line).decode() + "\n")


def run_command(arguments: list[str]) -> None:
    match arguments:
        case ["serve"]:
            _serve()
        case ["migrate"]:
            _migrate()
        case ["rebuild"]:
            _exclusively(_rebuild)
        case ["check"]:
            _exclusively(_check)
        case _:
            sys.exit(USAGE)


def _exclusively(command: Callable[[], None]) -> None:
    try:
        command()
    except (RebuildRunning, LogIsShorter) as error:
        sys.exit(str(error))


if __name__ == "__main__":
    run_command(sys.argv[1:])
