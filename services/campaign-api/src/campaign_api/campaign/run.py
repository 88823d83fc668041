"""Running a campaign: start, schedule, pause, resume, retry, cancel, check."""

import asyncio
from typing import Any
from uuid import UUID

from fastapi import APIRouter, Response

from campaign_api.campaign import campaign as decisions
from campaign_api.campaign import checking, drafting, models, store
from campaign_api.campaign.http import answer, visible
from campaign_api.campaign.lifecycle import Decide, apply
from campaign_api.door import audit
from campaign_api.door.idempotency import IdempotentRoute
from campaign_api.door.parts import Here, Parts
from campaign_api.door.principal import Operator, Principal
from campaign_api.door.problems import responses

POLL_S = 0.03
router = APIRouter(prefix="/api", tags=["campaigns"], route_class=IdempotentRoute)


async def _act(parts: Parts, principal: Principal, campaign_id: UUID, action: str, decide: Decide) -> None:
    now = parts.now()
    async with parts.web.transaction(account_id=principal.account_id, session=principal.session) as connection:
        await visible(connection, campaign_id)
        recorded = await apply(connection, principal.account_id, campaign_id, decide, now=now)
        if recorded.events:
            await audit.note(connection, principal, f"campaign.{action}", str(campaign_id), now=now)


async def _done(parts: Parts, principal: Principal, campaign_id: UUID, response: Response) -> models.CampaignDone:
    return models.CampaignDone(campaign=await answer(parts, principal, campaign_id, response))


@router.post("/campaigns/{campaign_id}/start", responses=responses(400, 404))
@router.post("/whatsapp/campaigns/{campaign_id}/send", responses=responses(400, 404))
async def start(campaign_id: UUID, principal: Operator, parts: Here, response: Response) -> models.CampaignDone:
    """Starts a draft or scheduled campaign now."""
    now = parts.now()
    async with parts.web.transaction(account_id=principal.account_id, session=principal.session) as connection:
        row = await visible(connection, campaign_id)
        if row["status"] in ("draft", "scheduled"):
            await drafting.check(connection, store.definition_of(row))
        audience = await store.audience(connection, principal.account_id, campaign_id)
        recorded = await apply(
            connection,
            principal.account_id,
            campaign_id,
            lambda campaign: decisions.start(campaign, audience=audience, by=principal.user_id),
            now=now,
        )
        if recorded.events:
            await audit.note(connection, principal, "campaign.start", str(campaign_id), now=now)
    return await _done(parts, principal, campaign_id, response)


@router.put("/campaigns/{campaign_id}/schedule", responses=responses(400, 404))
async def schedule(
    campaign_id: UUID, body: models.ScheduleBody, principal: Operator, parts: Here, response: Response
) -> models.CampaignDone:
    now = parts.now()
    drafting.check_time(body.scheduled_at, now)
    async with parts.web.transaction(account_id=principal.account_id, session=principal.session) as connection:
        await visible(connection, campaign_id)
        audience = await store.audience(connection, principal.account_id, campaign_id)
    await _act(
        parts,
        principal,
        campaign_id,
        "schedule",
        lambda campaign: decisions.schedule(campaign, at=body.scheduled_at, audience=audience, by=principal.user_id),
    )
    return await _done(parts, principal, campaign_id, response)


@router.put("/campaigns/{campaign_id}/unschedule", responses=responses(400, 404))
async def unschedule(campaign_id: UUID, principal: Operator, parts: Here, response: Response) -> models.CampaignDone:
    """Back to a draft."""
    await _act(parts, principal, campaign_id, "unschedule", lambda c: decisions.unschedule(c, by=principal.user_id))
    return await _done(parts, principal, campaign_id, response)


@router.put("/campaigns/{campaign_id}/pause", responses=responses(400, 404))
async def pause(campaign_id: UUID, principal: Operator, parts: Here, response: Response) -> models.CampaignDone:
    """Answers `paused` once nothing can be sent any more; `pausing` where that takes longer than two seconds."""
    await _act(parts, principal, campaign_id, "pause", lambda c: decisions.pause(c, by=principal.user_id))
    await _settled(parts, principal, campaign_id, "pausing")
    return await _done(parts, principal, campaign_id, response)


@router.put("/campaigns/{campaign_id}/resume", responses=responses(400, 404))
async def resume(campaign_id: UUID, principal: Operator, parts: Here, response: Response) -> models.CampaignDone:
    await _act(parts, principal, campaign_id, "resume", lambda c: decisions.resume(c, by=principal.user_id))
    return await _done(parts, principal, campaign_id, response)


@router.put("/campaigns/{campaign_id}/retry", responses=responses(400, 404))
async def retry(campaign_id: UUID, principal: Operator, parts: Here, response: Response) -> models.CampaignDone:
    """Sends again what failed for reasons that can pass, in a completed or failed campaign."""
    await _act(parts, principal, campaign_id, "retry", lambda c: decisions.retry(c, by=principal.user_id))
    return await _done(parts, principal, campaign_id, response)


@router.put("/campaigns/{campaign_id}/cancel", responses=responses(400, 404))
async def cancel(campaign_id: UUID, principal: Operator, parts: Here, response: Response) -> models.CampaignDone:
    """Answers `cancelled`, or `cancelling` where closing the gate takes longer than two seconds."""
    await _act(parts, principal, campaign_id, "cancel", lambda c: decisions.cancel(c, by=principal.user_id))
    await _settled(parts, principal, campaign_id, "cancelling")
    return await _done(parts, principal, campaign_id, response)


async def _settled(parts: Parts, principal: Principal, campaign_id: UUID, passing: str) -> None:
    """Waits for the second of the two facts: the consumer of campaign-progress writes it into the row."""
    try:
        async with asyncio.timeout(parts.settings.pause_wait_s):
            while not parts.stopping.is_set():
                async with parts.web.transaction(account_id=principal.account_id) as connection:
                    if await store.status(connection, campaign_id) != passing:
                        return
                await asyncio.sleep(POLL_S)
    except TimeoutError:
        return


@router.get("/campaigns/{campaign_id}/check", responses=responses(404))
async def check(campaign_id: UUID, principal: Operator, parts: Here) -> models.CampaignCheck:
    """The dry run: what is missing, which variables stay blank, a rendered preview, the plan. Sends nothing."""
    async with parts.web.transaction(account_id=principal.account_id, session=principal.session) as connection:
        row = await visible(connection, campaign_id)
        found: dict[str, Any] = await checking.look(connection, principal.account_id, row)
    if row["status"] in ("draft", "scheduled"):
        definition = store.definition_of(row) if found["ready"] else None
        asked = definition is not None
    else:
        definition, asked = None, True
    plan = await checking.ask_plan(parts, principal, campaign_id, definition, found["total_contacts"]) if asked else {}
    problems = [*found["problems"], *plan.get("problems", [])]
    return models.CampaignCheck(**(found | plan | {"problems": problems}))
