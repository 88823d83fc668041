"""`python -m scheduler serve` runs the service, `migrate` prepares its schema and topics."""

import asyncio
import sys

from chassis.database import migrate
from chassis.kafka import ensure_topics
from chassis.lifecycle import main, run
from chassis.settings import MigrateSettings, load
from chassis.telemetry import configure
from contracts.topics import SCHEDULER, produced_by
from scheduler.app import SCHEMA, build
from scheduler.settings import Settings


def serve() -> None:
    settings = load(Settings)
    configure(SCHEDULER, settings.telemetry)
    main(run(SCHEDULER, build(settings).serve))


def prepare() -> None:
    settings = load(MigrateSettings)
    configure(SCHEDULER, settings.telemetry)
    migrate(settings.migration.owner_dsn, "scheduler", SCHEMA)
    asyncio.run(ensure_topics(settings.kafka, produced_by(SCHEDULER)))


_COMMANDS = {"serve": serve, "migrate": prepare}

if __name__ == "__main__":
    command = _COMMANDS.get(sys.argv[1] if len(sys.argv) == 2 else "")
    if command is None:
        sys.stderr.write(f"usage: python -m scheduler {'|'.join(_COMMANDS)}\n")
        raise SystemExit(2)
    command()
