"""python -m sender serve | migrate"""

import asyncio
import sys

from chassis.database import migrate
from chassis.kafka import ensure_topics
from chassis.lifecycle import main, run
from chassis.settings import MigrateSettings, load
from chassis.telemetry import configure
from contracts.topics import SENDER, produced_by
from sender.app import SCHEMA, build
from sender.settings import Settings

USAGE = "usage: python -m sender serve | migrate"


def serve() -> None:
    settings = load(Settings)
    configure(SENDER, settings.telemetry)

    async def work() -> None:
        app = build(settings)
        await run(SENDER, app.serve, drain_s=settings.drain_s + settings.media_timeout_s / 6)

    main(work())


def prepare() -> None:
    settings = load(MigrateSettings)
    configure(SENDER, settings.telemetry)
    migrate(settings.migration.owner_dsn, "sender", SCHEMA)
    asyncio.run(ensure_topics(settings.kafka, produced_by(SENDER)))


match sys.argv[1:]:
    case ["serve"]:
        serve()
    case ["migrate"]:
        prepare()
    case _:
        sys.stderr.write(USAGE + "\n")
        sys.exit(2)
