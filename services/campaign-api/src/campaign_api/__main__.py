"""serve: the door and the worker · migrate: schema and topics · create-account, hold, release, verify-audit: for
operators."""

import asyncio
import getpass
import sys

from campaign_api.app import SCHEMA, build
from campaign_api.door import audit
from campaign_api.door.problems import Problem
from campaign_api.identity.http import create_account
from campaign_api.operation.holds import set_everything
from campaign_api.settings import MigrationRun, Settings
from chassis.database import driver, migrate
from chassis.kafka import ensure_topics
from chassis.lifecycle import main, run
from chassis.settings import load
from chassis.telemetry import configure
from contracts.topics import CAMPAIGN_API, produced_by

USAGE = (
    "usage: python -m campaign_api serve | migrate | create-account NAME E-MAIL [PERSON'S NAME] | verify-audit\n"
    "       | hold everything REASON | release everything\n"
    "create-account reads the password from the terminal or, where there is none, the first line of standard input\n"
)


def command(arguments: list[str]) -> int:
    match arguments:
        case ["serve"]:
            settings = load(Settings)
            configure(CAMPAIGN_API, settings.telemetry)
            main(run(CAMPAIGN_API, lambda stopping: build(settings, stopping).serve(), drain_s=settings.drain_s + 5))
        case ["migrate"]:
            migration = load(MigrationRun)
            migrate(migration.migration.owner_dsn, "campaign_api", SCHEMA)
            asyncio.run(ensure_topics(migration.kafka, produced_by(CAMPAIGN_API)))
        case ["create-account", account_name, email, *rest] if len(rest) <= 1:
            return asyncio.run(_create_account(load(Settings), account_name, email, rest[0] if rest else email))
        case ["hold", "everything", reason] if reason.strip():
            return asyncio.run(_hold_everything(load(Settings), held=True, reason=reason))
        case ["release", "everything"]:
            return asyncio.run(_hold_everything(load(Settings), held=False, reason=""))
        case ["verify-audit"]:
            return asyncio.run(_verify_audit(load(Settings)))
        case _:
            sys.stderr.write(USAGE)
            return 2
    return 0


async def _create_account(settings: Settings, account_name: str, email: str, name: str) -> int:
    password = getpass.getpass("Password: ") if sys.stdin.isatty() else sys.stdin.readline().rstrip("\n")
    if len(password) < 10:
        sys.stderr.write("The password needs at least 10 characters\n")
        return 2
    application = build(settings, asyncio.Event())
    try:
        principal = await create_account(application.parts, account_name, name, email, password)
    except Problem as problem:
        sys.stderr.write(f"{problem.detail}\n")
        return 1
    finally:
        await application.close()
    sys.stdout.write(f"account {principal.account_id} user {principal.user_id}\n")
    return 0


async def _hold_everything(settings: Settings, *, held: bool, reason: str) -> int:
    """Of all accounts. A running campaign-api publishes it; the version tells one order from the next."""
    application = build(settings, asyncio.Event())
    try:
        version = await set_everything(application.parts, held=held, reason=reason)
    finally:
        await application.close()
    sys.stdout.write(f"everything is {'held' if held else 'released'} (version {version})\n")
    return 0


async def _verify_audit(settings: Settings) -> int:
    """Recomputes the chain of every account; exit code 1 if an entry was changed, removed or put in."""
    application = build(settings, asyncio.Event())
    broken = 0
    try:
        async with application.parts.worker.transaction() as connection:
            raw = await driver(connection)
            for account in await raw.fetch("SELECT DISTINCT account_id FROM audit ORDER BY account_id"):
                rows = await raw.fetch("SELECT * FROM audit WHERE account_id = $1 ORDER BY position", account[0])
                if (position := audit.verify(rows)) is not None:
                    broken += 1
                    sys.stdout.write(f"account {account[0]}: broken at entry {position}\n")
    finally:
        await application.close()
    sys.stdout.write("the audit log is whole\n" if not broken else f"{broken} accounts are broken\n")
    return 1 if broken else 0


if __name__ == "__main__":
    sys.exit(command(sys.argv[1:]))
