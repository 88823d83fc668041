"""`python -m projections serve|migrate`."""

import asyncio
import sys

from chassis import telemetry
from chassis.database import migrate
from chassis.kafka import ensure_topics
from chassis.lifecycle import main, run
from chassis.settings import MigrateSettings, load
from contracts.topics import PROJECTIONS, produced_by
from projections.app import SCHEMA, build
from projections.settings import Settings

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


def run_command(arguments: list[str]) -> None:
    match arguments:
        case ["serve"]:
            _serve()
        case ["migrate"]:
            _migrate()
        case _:
            sys.exit(USAGE)


if __name__ == "__main__":
    run_command(sys.argv[1:])
