"""The queue: figures, dead letters, unresolved messages."""

from collections.abc import Sequence
from datetime import datetime
from uuid import UUID

from fastapi import APIRouter, Query

from campaign_api.door import audit
from campaign_api.door.idempotency import IdempotentRoute
from campaign_api.door.parts import Here
from campaign_api.door.principal import Operator, Supervisor
from campaign_api.door.problems import Problem, not_found, responses
from campaign_api.identity.models import Done
from campaign_api.instance import store as instances
from campaign_api.operation import models, orders, store, webhooks
from contracts.envelope import Event
from contracts.operations import (
    DeadLettersCleared,
    DeadLettersRequeued,
    StuckRecoveryRequested,
    UnreadWebhooksCleared,
    UnreadWebhooksReplayed,
    UnresolvedDecided,
)

NUMBERS_MAX = 100_000  # of an account: whoever has more sees the rest of them without their names
router = APIRouter(prefix="/api", tags=["queue"], route_class=IdempotentRoute)


@router.get("/whatsapp/queue/stats", responses=responses())
async def stats(
    principal: Operator, parts: Here, instance_id: UUID | None = Query(None, alias="instanceId")
) -> models.QueueStats:
    now = parts.now()
    async with parts.web.transaction(account_id=principal.account_id, session=principal.session) as connection:
        rows = await store.queue(connection, instance_id)
        known = {row["id"]: row for row in await instances.some(connection, None, NUMBERS_MAX)}
        unread = await webhooks.figures(connection, instance_id)
    queues = []
    for row in rows:
        figures, instance = _figures([row], now), known.get(row["instance_id"])
        configuration = instances.configuration_of(instance) if instance else None
        queues.append(
            models.InstanceQueue(
                **figures.model_dump(),
                instance_id=row["instance_id"],
                name=configuration.name if configuration else None,
                tier=configuration.tier if configuration else None,
                window_used=row["window_used"],
                window_limit=configuration.limits.unique_per_24h if configuration else None,
                breaker=instance["breaker"] if instance else None,
                breaker_until=instance["breaker_until"] if instance else None,
            )
        )
    return models.QueueStats(campaigns=_figures(rows, now), webhooks=unread, instances=queues)


def _figures(rows: Sequence[store.Row], now: datetime) -> models.QueueFigures:
    oldest = min((row["oldest"] for row in rows if row["oldest"] is not None), default=None)
    return models.QueueFigures(
        pending=sum(row["pending"] for row in rows),
        processing=sum(row["processing"] for row in rows),
        dead_letters=sum(row["dead_letters"] for row in rows),
        unresolved=sum(row["unresolved"] for row in rows),
        oldest_age_s=max(0.0, (now - oldest).total_seconds()) if oldest else None,
        rate=sum(row["sent_last_minute"] for row in rows),
    )


@router.post("/whatsapp/queue/stats", responses=responses(404))
async def act(body: models.QueueAction, principal: Supervisor, parts: Here) -> Done:
    """Dead letters again or gone, or what is stuck looked for at once. An ended campaign runs again for them.

    Of the queue `webhooks`: those of the account's numbers that could not be translated, translated again or given up.
    """
    event = _order(body, principal)
    async with parts.web.transaction(account_id=principal.account_id, session=principal.session) as connection:
        await orders.give(connection, principal.account_id, event, parts.now())
        details = body.model_dump(mode="json", exclude_defaults=True)
        now = parts.now()
        await audit.note(connection, principal, f"queue.{body.action}", str(body.jobId or ""), now=now, details=details)
    return Done()


def _order(body: models.QueueAction, principal: Supervisor) -> Event:
    by = principal.user_id
    try:
        match body.queue, body.action:
            case "campaigns", "retry_dlq":
                return DeadLettersRequeued(**body.fields(), by=by)
            case "campaigns", "clear":
                return DeadLettersCleared(**body.fields(), by=by)
            case "webhooks", "retry_dlq":
                return UnreadWebhooksReplayed(**body.of_webhooks(), by=by)
            case "webhooks", "clear":
                return UnreadWebhooksCleared(**body.of_webhooks(), by=by)
            case "campaigns", _:
                return StuckRecoveryRequested(by=by)
            case _:
                raise ValueError("No webhook is ever stuck: what was not translated is fetched again by itself")
    except ValueError as error:
        raise Problem(422, str(error)) from error


@router.post("/whatsapp/queue/unresolved/{dispatch_id}", responses=responses(404))
async def decide(dispatch_id: UUID, body: models.Decision, principal: Supervisor, parts: Here) -> Done:
    """A person's decision on a message of which nobody can tell whether it was sent."""
    if principal.user_id is None:
        raise Problem(403, "This needs a person or an API key")
    async with parts.web.transaction(account_id=principal.account_id, session=principal.session) as connection:
        if not await store.is_unresolved(connection, dispatch_id):
            raise not_found("Unresolved message")
        event = UnresolvedDecided(dispatch_id=dispatch_id, decision=body.decision, by=principal.user_id)
        await orders.give(connection, principal.account_id, event, parts.now())
        await audit.note(
            connection,
            principal,
            "queue.decide",
            str(dispatch_id),
            now=parts.now(),
            details={"decision": body.decision},
        )
    return Done()
