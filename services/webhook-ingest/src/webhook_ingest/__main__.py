"""serve: the door · translate: the translator · migrate: schema and topics · replay: translate raw webhooks again."""

import asyncio
import sys
from datetime import datetime
from functools import partial

from chassis.database import migrate
from chassis.kafka import ensure_topics
from chassis.lifecycle import main, run
from chassis.settings import MigrateSettings, load
from chassis.telemetry import configure
from contracts.topics import produced_by
from webhook_ingest.app import SCHEMA, SERVICE, TRANSLATOR, serve, translate
from webhook_ingest.replay import replay
from webhook_ingest.settings import Settings

USAGE = "usage: python -m webhook_ingest serve | translate | migrate | replay SINCE (ISO 8601 with offset)"


def command(arguments: list[str]) -> int:
    match arguments:
        case ["serve"]:
            settings = load(Settings)
            configure(SERVICE, settings.telemetry)
            main(run(SERVICE, partial(serve, settings)))
        case ["translate"]:
            settings = load(Settings)
            configure(TRANSLATOR, settings.telemetry)
            main(run(TRANSLATOR, partial(translate, settings)))
        case ["migrate"]:
            migration = load(MigrateSettings)
            migrate(migration.migration.owner_dsn, "webhook_ingest", SCHEMA)
            asyncio.run(ensure_topics(migration.kafka, produced_by(SERVICE)))
        case ["replay", since]:
            settings = load(Settings)
            print(f"{asyncio.run(replay(settings, datetime.fromisoformat(since)))} events published")  # noqa: T201
        case _:
            print(USAGE, file=sys.stderr)  # noqa: T201
            return 2
    return 0


if __name__ == "__main__":
    sys.exit(command(sys.argv[1:]))
