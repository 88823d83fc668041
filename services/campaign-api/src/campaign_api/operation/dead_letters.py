"""Dead letters: what another try would do, asked before it is ordered; and campaigns that run again for them."""

from fastapi import APIRouter

from campaign_api.campaign import store as campaigns
from campaign_api.campaign.campaign import Campaign
from campaign_api.campaign.checking import wait_for_answer
from campaign_api.door.idempotency import IdempotentRoute
from campaign_api.door.parts import Here, NewId, Parts
from campaign_api.door.principal import Operator, Principal
from campaign_api.door.problems import Problem, responses
from campaign_api.operation import models, orders, webhooks
from contracts.campaigns import CampaignEvent, CampaignResumed
from contracts.operations import DeadLettersPreviewRequested
from contracts.progress import DeadLettersTaken

router = APIRouter(prefix="/api", tags=["queue"], route_class=IdempotentRoute)


@router.post("/whatsapp/queue/dead-letters/preview", responses=responses(504))
async def preview(
    body: models.DeadLetterFilter, principal: Operator, parts: Here, request_id: NewId
) -> models.DeadLetterPreview:
    """What `retry_dlq` with the same filter would do now: by campaign, instance and reason. Changes nothing."""
    if body.queue == "webhooks":
        return await _of_webhooks(body, principal, parts)
    asked = DeadLettersPreviewRequested(request_id=request_id, **body.fields())
    async with parts.web.transaction(account_id=principal.account_id, session=principal.session) as connection:
        await orders.give(connection, principal.account_id, asked, parts.now(), request_id)
    data = await wait_for_answer(parts, principal, request_id)
    if data is None:
        raise Problem(504, "The scheduler did not answer in time: try again")
    found = models.DeadLetterPreview(groups=data["groups"], again=data["again"])
    return await _own(parts, principal, found) if principal.own_only else found


async def _own(parts: Parts, principal: Principal, found: models.DeadLetterPreview) -> models.DeadLetterPreview:
    """Of the campaigns that the operator may see: the scheduler answers for the whole account."""
    async with parts.web.transaction(account_id=principal.account_id, session=principal.session) as connection:
        seen = await campaigns.seen(connection, [group.campaign_id for group in found.groups if group.campaign_id])
    groups = [group for group in found.groups if group.campaign_id in seen]
    again = sum(group.count for group in groups if group.fate not in ("cancelled", "final"))
    return models.DeadLetterPreview(groups=groups, again=again)


async def _of_webhooks(body: models.DeadLetterFilter, principal: Operator, parts: Here) -> models.DeadLetterPreview:
    """Each is tried again at once: whether it can be read now is seen by that alone."""
    try:
        body.of_webhooks()
    except ValueError as error:
        raise Problem(422, str(error)) from error
    async with parts.web.transaction(account_id=principal.account_id, session=principal.session) as connection:
        rows = await webhooks.groups(connection, body)
    groups = [models.DeadLetterGroup(**row) for row in rows]
    return models.DeadLetterPreview(groups=groups[: webhooks.GROUPS_MAX], again=sum(group.count for group in groups))


def reopen(campaign: Campaign, *, taken: DeadLettersTaken) -> list[CampaignEvent]:
    """Dead letters of its last run wait again: a campaign that has ended runs on, with these."""
    if campaign.status not in ("completed", "failed") or taken.run_epoch != campaign.run_epoch:
        return []
    return [CampaignResumed(run_epoch=campaign.run_epoch + 1, by=taken.by)]
