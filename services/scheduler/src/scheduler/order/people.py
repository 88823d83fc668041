"""What contacts' streams say about people: opted out or in, erased, known under another name."""

from collections.abc import Sequence
from uuid import UUID

from sqlalchemy.ext.asyncio import AsyncConnection

from chassis.database import driver
from chassis.kafka import Received
from contracts.contacts import ContactAliasLearned, ContactErased, ContactOptedIn, ContactOptedOut
from scheduler.campaign.campaigns import account_of
from scheduler.campaign.runs import Definitions
from scheduler.order import aliases, erasures, opt_outs
from scheduler.signals import Stage


async def handle(
    connection: AsyncConnection, batch: Sequence[Received], definitions: Definitions, stage: Stage
) -> None:
    raw = await driver(connection)
    opted_out: set[tuple[UUID, str]] = set()
    for one in batch:
        account_id = account_of(one)
        match one.event:
            case ContactOptedOut(recipient_key=key):
                names = (await aliases.all_names(raw, account_id, [key]))[key]
                await opt_outs.add(raw, account_id, names)
                opted_out |= {(account_id, name) for name in names}
            case ContactOptedIn(recipient_key=key):
                names = (await aliases.all_names(raw, account_id, [key]))[key]
                await opt_outs.remove(raw, account_id, names)
                opted_out -= {(account_id, name) for name in names}
            case ContactAliasLearned(address=address):
                shown = aliases.names(address)
                await aliases.learn(raw, account_id, shown)
                names = set().union(*(await aliases.all_names(raw, account_id, shown)).values())
                if await aliases.suppressed(raw, account_id, names):
                    opted_out |= {(account_id, name) for name in names}
            case _:
                continue
    if opted_out:
        await opt_outs.skip_pending(connection, raw, sorted(opted_out, key=str), definitions, stage)
    for one in batch:
        if isinstance(one.event, ContactErased):
            contact_id = UUID(one.envelope.subject)
            await erasures.erase(connection, account_of(one), contact_id, one.event.recipient_key, definitions, stage)
