"""Why is nothing moving: of a campaign, of an instance, of one message."""

from dataclasses import dataclass
from uuid import UUID
from zoneinfo import ZoneInfo

from fastapi import APIRouter, Query
from sqlalchemy.ext.asyncio import AsyncConnection

from campaign_api.campaign import reading
from campaign_api.campaign import store as campaigns
from campaign_api.campaign.http import visible
from campaign_api.door.idempotency import IdempotentRoute
from campaign_api.door.parts import Here, NewId, Parts
from campaign_api.door.principal import Operator, Principal
from campaign_api.door.problems import Problem, not_found, responses
from campaign_api.explanation import facts
from campaign_api.explanation.asking import Answers, ask
from campaign_api.explanation.forecasts import request_of
from campaign_api.explanation.merging import merge
from campaign_api.explanation.models import Explanation, Reason, Subject
from campaign_api.explanation.sentences import Words, sentence, summed_up
from campaign_api.identity import store as identity
from campaign_api.instance import store as instances
from contracts import ids
from contracts.campaigns import Definition
from contracts.operations import ExplainRequested

# The read model may be behind by what flows in so many seconds, and by a few messages in any case.
SCREEN_BEHIND_S = 5.0
SCREEN_BEHIND = 100
router = APIRouter(prefix="/api", tags=["explanations"], route_class=IdempotentRoute)


@dataclass(frozen=True, slots=True)
class _Known:
    """What is known here before anybody is asked. `shown`: what the read model has as waiting; None = not compared."""

    subject: Subject
    id: UUID
    request: ExplainRequested
    own: list[Reason]
    name: str | None = None
    status: str | None = None
    definition: Definition | None = None
    shown: int | None = None
    per_minute: int = 0


@router.get("/campaigns/{campaign_id}/explain", responses=responses(404))
async def of_campaign(campaign_id: UUID, principal: Operator, parts: Here, request_id: NewId) -> Explanation:
    """Every reason that holds the campaign now and until when, and its true end."""
    async with parts.web.transaction(account_id=principal.account_id, session=principal.session) as connection:
        known = await _campaign(connection, parts, principal, campaign_id, request_id)
    return await _explained(parts, principal, known)


@router.get("/instances/{instance_id}/explain", responses=responses(404))
async def of_instance(instance_id: UUID, principal: Operator, parts: Here, request_id: NewId) -> Explanation:
    """Every reason that holds the number now; the end is of all that running campaigns have in its lane."""
    async with parts.web.transaction(account_id=principal.account_id, session=principal.session) as connection:
        row = await instances.one(connection, instance_id)
        if row is None:
            raise not_found("Instance")
        written = await facts.people_written(connection, [instance_id])
        own = await facts.of_holds(connection, [instance_id], None)
    request = ExplainRequested(request_id=request_id, instance_id=instance_id, people_written=written)
    known = _Known("instance", instance_id, request, own, name=row["name"], status=row["connection_status"])
    return await _explained(parts, principal, known)


@router.get("/campaigns/{campaign_id}/recipients/{recipient_id}/explain", responses=responses(404))
async def of_recipient(
    campaign_id: UUID, recipient_id: UUID, principal: Operator, parts: Here, request_id: NewId
) -> Explanation:
    """Why this person has not got the campaign's next message, and when it will leave."""
    async with parts.web.transaction(account_id=principal.account_id, session=principal.session) as connection:
        definition = campaigns.definition_of(await visible(connection, campaign_id))
        steps = range(len(definition.steps))
        row = await facts.queued(connection, [ids.dispatch_id(recipient_id, step) for step in steps])
        if row is None or row["campaign_id"] != campaign_id:
            raise not_found("Recipient")
    return await of_dispatch(row["id"], principal, parts, request_id)


@router.get("/dispatches/{dispatch_id}/explain", responses=responses(404))
async def of_dispatch(dispatch_id: UUID, principal: Operator, parts: Here, request_id: NewId) -> Explanation:
    """Why this message waits and until when; the end is when it leaves."""
    async with parts.web.transaction(account_id=principal.account_id, session=principal.session) as connection:
        row = await facts.queued(connection, [dispatch_id])
        if row is None:
            raise not_found("Message")
        numbers = (row["instance_id"],) if row["instance_id"] is not None else ()
        if row["campaign_id"] is not None:
            whole = await _campaign(connection, parts, principal, row["campaign_id"], request_id)
            own, definition, request = whole.own, whole.definition, whole.request
        else:
            own, definition = await facts.of_holds(connection, numbers, None), None
            request = ExplainRequested(request_id=request_id)
    own = own if row["state"] in ("pending", "released") else []
    request = request.model_copy(update={"dispatch_id": dispatch_id, "instance_ids": numbers})
    known = _Known("dispatch", dispatch_id, request, own, row["name"], row["state"], definition)
    return await _explained(parts, principal, known)


@router.get("/whatsapp/queue/explain", responses=responses(404))
async def of_any(
    principal: Operator,
    parts: Here,
    request_id: NewId,
    campaign_id: UUID | None = Query(None),
    instance_id: UUID | None = Query(None),
    dispatch_id: UUID | None = Query(None),
) -> Explanation:
    """The same by one of three parameters."""
    if sum(one is not None for one in (campaign_id, instance_id, dispatch_id)) != 1:
        raise Problem(422, "Give one of campaign_id, instance_id and dispatch_id")
    if campaign_id is not None:
        return await of_campaign(campaign_id, principal, parts, request_id)
    if instance_id is not None:
        return await of_instance(instance_id, principal, parts, request_id)
    assert dispatch_id is not None
    return await of_dispatch(dispatch_id, principal, parts, request_id)


async def _campaign(
    connection: AsyncConnection, parts: Parts, principal: Principal, campaign_id: UUID, request_id: UUID
) -> _Known:
    row = await visible(connection, campaign_id)
    definition = campaigns.definition_of(row)
    figures = (await reading.figures(connection, [campaign_id])).get(campaign_id)
    running = row["status"] == "running"
    return _Known(
        "campaign",
        campaign_id,
        own=[
            *await facts.of_campaign(connection, principal.account_id, row),
            *await facts.of_holds(connection, definition.pool, definition),
        ],
        request=await request_of(connection, row, request_id),
        name=row["name"],
        status=row["status"],
        definition=definition,
        shown=figures["dispatches_pending"] + figures["dispatches_queued"] if figures and running else None,
        per_minute=await parts.paces.per_minute(connection, campaign_id, parts.now()) if running else 0,
    )


async def _explained(parts: Parts, principal: Principal, known: _Known) -> Explanation:
    answers = await ask(parts, principal, known.request)
    reasons = merge([*known.own, *_screen(known, answers)], answers.scheduler, answers.sender)
    async with parts.web.transaction(account_id=principal.account_id, session=principal.session) as connection:
        users = await facts.names_of_users(connection, {one.by for one in reasons if one.by is not None})
        of_reasons = {each for one in reasons for each in one.instance_ids}
        numbers, troubles = await facts.names_of_instances(connection, of_reasons)
        account = await identity.account(connection)
    zone = known.definition.policy.time_zone if known.definition else account["time_zone"] if account else "UTC"
    words = Words(numbers, ZoneInfo(zone), parts.now(), troubles)
    named = [one.model_copy(update={"by_name": users.get(one.by) if one.by else None}) for one in reasons]
    told = [one.model_copy(update={"text": sentence(one, words)}) for one in named]
    return Explanation(
        subject=known.subject,
        id=known.id,
        name=known.name,
        status=known.status,
        summary=summed_up(told, answers.waiting, answers.estimated_end, words),
        reasons=told,
        waiting=answers.waiting,
        estimated_end=answers.estimated_end,
    )


def _screen(known: _Known, answers: Answers) -> list[Reason]:
    """Whether what people see is older than what they would think."""
    if known.shown is None or answers.waiting is None:
        return []
    behind = abs(known.shown - answers.waiting)
    if behind <= max(SCREEN_BEHIND, known.per_minute / 60 * SCREEN_BEHIND_S):
        return []
    return [Reason(scope="system", reason="screen_behind", count=behind, slows=True, told_by="campaign-api")]
