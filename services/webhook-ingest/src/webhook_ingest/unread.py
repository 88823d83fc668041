"""Webhooks that could not be translated and are somebody's: kept, told, tried again and cleared as people ask.

A webhook that names no number of ours (Meta mixes many in one request) is nobody's: it is parked, for operators.
"""

import json
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any, Literal, NamedTuple
from uuid import UUID

from sqlalchemy.ext.asyncio import AsyncConnection

from chassis.database import Database, driver
from chassis.inbox import Subscription
from chassis.kafka import Outgoing, Producer, Received, outgoing
from chassis.telemetry import log
from contracts import topics
from contracts.envelope import Envelope, Headers
from contracts.ids import event_id
from contracts.instances import UnreadWebhookSettled, WebhookLeftUnread
from contracts.operations import UnreadWebhooksCleared, UnreadWebhooksReplayed
from contracts.webhooks import WebhookReceived
from webhook_ingest.raw import SOURCE

ORDERS = Subscription(
    group="webhook-ingest-orders",
    topics=(topics.OPERATIONS,),
    handles=(UnreadWebhooksReplayed, UnreadWebhooksCleared),
)
REASON_MAX = 300
AT_ONCE = 500
# As long as the raw webhooks themselves are kept.
_FORGET = "DELETE FROM unread WHERE kept_at < now() - interval '30 days'"
_KEEP = """
INSERT INTO unread AS u (account_id, id, instance_id, reason, headers, value, received_at)
VALUES ($1, $2, $3, $4, $5::jsonb, $6, $7)
ON CONFLICT (account_id, id) DO UPDATE SET reason = excluded.reason WHERE u.reason <> excluded.reason
"""
# All of the filter's fields must match. In the order of ids, so that orders can be given twice at a time.
_PAGE = """
SELECT id, instance_id, reason, headers::text AS headers, value, received_at FROM unread
WHERE account_id = $1 AND ($2::uuid IS NULL OR instance_id = $2) AND (cardinality($3::uuid[]) = 0 OR id = ANY($3))
  AND ($4::text IS NULL OR reason = $4) AND id > $5
ORDER BY id LIMIT $6 FOR UPDATE
"""
_REMOVE = "DELETE FROM unread WHERE account_id = $1 AND id = ANY($2::uuid[])"
_BEFORE_ALL = UUID(int=0)


class Left(NamedTuple):
    """One webhook of a number, as its record on webhook-received has it."""

    envelope: Envelope
    instance_id: UUID
    headers: Headers
    value: bytes
    reason: str
    received_at: datetime


@dataclass(frozen=True, slots=True)
class Unread:
    database: Database
    producer: Producer
    now: Callable[[], datetime]

    async def keep(self, left: Sequence[Left]) -> None:
        """Repeatable: what is kept already stays, with its newest reason."""
        if not left:
            return
        async with self.database.transaction() as connection:
            raw = await driver(connection)
            await raw.execute(_FORGET)
            for one in sorted(left, key=lambda one: one.envelope.id):
                headers = json.dumps([(name, value.decode()) for name, value in one.headers])
                await raw.execute(
                    _KEEP, one.envelope.account_id, one.envelope.id, one.instance_id, _short(one.reason), headers,
                    one.value, one.received_at,
                )  # fmt: skip
        await self.producer.publish([self._told(one) for one in left])

    def _told(self, one: Left) -> Outgoing:
        event = WebhookLeftUnread(
            webhook_id=one.envelope.id, reason=_short(one.reason), received_at=one.received_at, at=self.now()
        )
        return _health(one.instance_id, one.envelope.account_id, one.envelope.id, event, _short(one.reason))


Translate = Callable[[Headers, bytes], tuple[list[Outgoing], str | None]]


@dataclass(frozen=True, slots=True)
class Orders:
    """What people order for the webhooks of their own account. `translate`: what a webhook says now, and why not."""

    producer: Producer
    translate: Translate
    now: Callable[[], datetime]

    async def handle(self, connection: AsyncConnection, batch: Sequence[Received]) -> None:
        for record in batch:
            account_id, order = record.envelope.account_id, record.event
            if account_id is not None and isinstance(order, UnreadWebhooksReplayed | UnreadWebhooksCleared):
                await self._carry_out(connection, account_id, order)

    async def _carry_out(
        self, connection: AsyncConnection, account_id: UUID, order: UnreadWebhooksReplayed | UnreadWebhooksCleared
    ) -> None:
        raw, last, count = await driver(connection), _BEFORE_ALL, 0
        named = list(order.webhook_ids)
        while rows := await raw.fetch(_PAGE, account_id, order.instance_id, named, order.reason, last, AT_ONCE):
            last = rows[-1]["id"]
            settled, told = self._settle(account_id, rows, order)
            # Before the rows go: a crash in between repeats what readers know by its id.
            await self.producer.publish(told)
            await raw.execute(_REMOVE, account_id, settled)
            count += len(settled)
        log.info("unread_webhooks_settled", account_id=str(account_id), order=type(order).__name__, count=count)

    def _settle(
        self, account_id: UUID, rows: Sequence[Any], order: UnreadWebhooksReplayed | UnreadWebhooksCleared
    ) -> tuple[list[UUID], list[Outgoing]]:
        settled: list[UUID] = []
        told: list[Outgoing] = []
        outcome: Literal["translated", "cleared"] = "cleared"
        for row in rows:
            if isinstance(order, UnreadWebhooksReplayed):
                outcome = "translated"
                headers: Headers = [(name, value.encode()) for name, value in json.loads(row["headers"])]
                events, why_not = self.translate(headers, bytes(row["value"]))
                told += events
                if why_not is not None:
                    continue
            settled.append(row["id"])
            event = UnreadWebhookSettled(webhook_id=row["id"], outcome=outcome, at=self.now())
            told.append(_health(row["instance_id"], account_id, row["id"], event, outcome))
        return settled, told


def left_unread(
    envelope: Envelope, webhook: WebhookReceived, headers: Headers, value: bytes, reason: str
) -> Left | None:
    """None where it is nobody's."""
    if envelope.account_id is None or webhook.instance_id is None:
        return None
    return Left(envelope, webhook.instance_id, headers, value, reason, webhook.received_at)


def _short(reason: str) -> str:
    return reason[:REASON_MAX]


def _health(
    instance_id: UUID,
    account_id: UUID | None,
    webhook_id: UUID,
    event: WebhookLeftUnread | UnreadWebhookSettled,
    what: str,
) -> Outgoing:
    return outgoing(
        topics.INSTANCE_HEALTH,
        str(instance_id),
        event,
        source=SOURCE,
        account_id=account_id,
        time=event.at,
        event_id=event_id(SOURCE, str(instance_id), f"unread:{webhook_id}:{type(event).__name__}:{what}"),
    )
