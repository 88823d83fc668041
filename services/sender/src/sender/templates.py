"""Templates that their provider stops or frees: which gate that is, and what people are told."""

from collections.abc import Iterable
from datetime import datetime
from typing import Final, assert_never

from sqlalchemy.ext.asyncio import AsyncConnection

from chassis.database import driver
from chassis.kafka import Outgoing, outgoing
from chassis.outbox import append
from chassis.telemetry import log
from contracts.envelope import Envelope
from contracts.instances import TemplateStatusChanged
from contracts.progress import TemplateFreed, TemplateStopped
from contracts.topics import CAMPAIGN_PROGRESS, SENDER
from providers.failures import TEMPLATE_DISABLED, TEMPLATE_PAUSED
from sender.gates import Freed, Stop, Word, stop_templates
from sender.work import template_gate

# In the words of a refused send, so that people read the same sentence.
_REASONS: Final = {"paused": TEMPLATE_PAUSED.name, "disabled": TEMPLATE_DISABLED.name, "usable": None}


def read_word(envelope: Envelope, event: TemplateStatusChanged) -> Word | None:
    if envelope.account_id is None:
        return None
    key = template_gate(envelope.account_id, event.name)[1]
    return Word(key, envelope.account_id, _REASONS[event.status], event.at)


async def stop(connection: AsyncConnection, stops: Iterable[Stop], now: datetime) -> None:
    """For what sends were answered; in a transaction of its own, because gates are locked before attempts."""
    await tell(connection, await stop_templates(await driver(connection), stops), now)


async def tell(connection: AsyncConnection, changes: Iterable[Stop | Freed], now: datetime) -> None:
    """In the transaction of the gates themselves."""
    await append(connection, [_told(change, now) for change in changes])


def _told(change: Stop | Freed, now: datetime) -> Outgoing:
    template = change.key.partition(":")[2]
    event: TemplateStopped | TemplateFreed
    match change:
        case Stop():
            log.warning("template_stopped", account_id=str(change.account_id), key=change.key, cause=change.reason)
            event = TemplateStopped(template=template, reason=change.reason, until=change.until, at=now)
        case Freed():
            log.info("template_freed", account_id=str(change.account_id), key=change.key)
            event = TemplateFreed(template=template, at=now)
        case _:
            assert_never(change)
    return outgoing(
        CAMPAIGN_PROGRESS, str(change.account_id), event, source=SENDER, account_id=change.account_id, time=now
    )
