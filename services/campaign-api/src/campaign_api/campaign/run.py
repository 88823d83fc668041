"""Running a campaign: start, schedule, pause, resume, retry, cancel, check."""

import asyncio
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Annotated, Any
from uuid import UUID

from fastapi import APIRouter, Depends, Response

from campaign_api.campaign import campaign as decisions
from campaign_api.campaign import checking, drafting, models, store
from campaign_api.campaign.http import answer, visible
from campaign_api.campaign.lifecycle import apply
from campaign_api.door import audit
from campaign_api.door.idempotency import IdempotentRoute
from campaign_api.door.parts import Here, Parts
from campaign_api.door.principal import Operator, Principal
from campaign_api.door.problems import responses
from contracts.campaigns import CampaignEvent

POLL_S = 0.03
router = APIRouter(prefix="/api", tags=["campaigns"], route_class=IdempotentRoute)


@dataclass(frozen=True, slots=True)
class Asked:
    """A request to move one campaign, as FastAPI takes it apart."""

    campaign_id: UUID
    principal: Operator
    parts: Here
    response: Response

    async def move(
        self, action: str, decide: Callable[..., Sequence[CampaignEvent]], *, passing: str | None = None, **given: Any
    ) -> models.CampaignDone:
        """Decides by who asks, with what is `given`, and waits where the state is a `passing` one at first."""
        parts, principal, now = self.parts, self.principal, self.parts.now()
        async with parts.web.transaction(account_id=principal.account_id, session=principal.session) as connection:
            await visible(connection, self.campaign_id)
            decided = partial(decide, by=principal.user_id, **given)
            recorded = await apply(connection, principal.account_id, self.campaign_id, decided, now=now)
            if recorded.events:
                await audit.note(connection, principal, f"campaign.{action}", str(self.campaign_id), now=now)
        if passing is not None:
            await _settled(parts, principal, self.campaign_id, passing)
        return models.CampaignDone(campaign=await answer(parts, principal, self.campaign_id, self.response))


Move = Annotated[Asked, Depends(Asked)]


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
    return models.CampaignDone(campaign=await answer(parts, principal, campaign_id, response))


@router.put("/campaigns/{campaign_id}/schedule", responses=responses(400, 404))
async def schedule(asked: Move, body: models.ScheduleBody) -> models.CampaignDone:
    parts, principal = asked.parts, asked.principal
    drafting.check_time(body.scheduled_at, parts.now())
    async with parts.web.transaction(account_id=principal.account_id, session=principal.session) as connection:
        await visible(connection, asked.campaign_id)
        audience = await store.audience(connection, principal.account_id, asked.campaign_id)
    return await asked.move("schedule", decisions.schedule, at=body.scheduled_at, audience=audience)


@router.put("/campaigns/{campaign_id}/unschedule", responses=responses(400, 404))
async def unschedule(asked: Move) -> models.CampaignDone:
    """Back to a draft."""
    return await asked.move("unschedule", decisions.unschedule)


@router.put("/campaigns/{campaign_id}/pause", responses=responses(400, 404))
async def pause(asked: Move) -> models.CampaignDone:
    """Answers `paused` once nothing can be sent any more; `pausing` where that takes longer than two seconds."""
    return await asked.move("pause", decisions.pause, passing="pausing")


@router.put("/campaigns/{campaign_id}/resume", responses=responses(400, 404))
async def resume(asked: Move) -> models.CampaignDone:
    return await asked.move("resume", decisions.resume)


@router.put("/campaigns/{campaign_id}/retry", responses=responses(400, 404))
async def retry(asked: Move) -> models.CampaignDone:
    """Sends again what failed for reasons that can pass, in a completed or failed campaign."""
    return await asked.move("retry", decisions.retry)


@router.put("/campaigns/{campaign_id}/cancel", responses=responses(400, 404))
async def cancel(asked: Move) -> models.CampaignDone:
    """Answers `cancelled`, or `cancelling` where closing the gate takes longer than two seconds."""
    return await asked.move("cancel", decisions.cancel, passing="cancelling")


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
    problems = list(dict.fromkeys([*found["problems"], *plan.get("problems", [])]))
    return models.CampaignCheck(**(found | plan | {"problems": problems}))
