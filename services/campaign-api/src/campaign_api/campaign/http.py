"""Campaigns: create, list, read, edit, delete, clone."""

from datetime import datetime
from typing import Annotated
from uuid import UUID

from fastapi import APIRouter, Query, Response
from sqlalchemy.ext.asyncio import AsyncConnection

from campaign_api.campaign import campaign as decisions
from campaign_api.campaign import drafting, models, reading, store
from campaign_api.campaign.drafting import Source
from campaign_api.campaign.lifecycle import apply
from campaign_api.campaign.shown import shown
from campaign_api.door import audit, cursors, etags
from campaign_api.door.idempotency import IdempotentRoute
from campaign_api.door.parts import Here, NewId, Parts
from campaign_api.door.principal import Operator, Principal
from campaign_api.door.problems import not_found, responses
from campaign_api.identity.models import Done
from chassis.database import driver
from contracts.campaigns import Definition

router = APIRouter(prefix="/api", tags=["campaigns"], route_class=IdempotentRoute)


async def visible(connection: AsyncConnection, campaign_id: UUID) -> store.Row:
    """The campaign, unless row-level security hides it from this person. Raises Problem 404."""
    row = await store.one(connection, campaign_id)
    if row is None:
        raise not_found("Campaign")
    return row


async def answer(
    parts: Parts, principal: Principal, campaign_id: UUID, response: Response, warnings: list[str] | None = None
) -> models.Campaign:
    async with parts.web.transaction(account_id=principal.account_id, session=principal.session) as connection:
        row = await visible(connection, campaign_id)
        audience = await store.audience_row(connection, principal.account_id, campaign_id)
        figures = await reading.figures(connection, [campaign_id])
    response.headers["ETag"] = etags.of(row["version"])
    return shown(row, figures.get(campaign_id), audience, warnings or [])


@router.post("/campaigns", status_code=201, responses=responses(400, 409, 413))
async def create(
    body: models.CampaignBody, principal: Operator, parts: Here, campaign_id: NewId, response: Response
) -> models.Campaign:
    """All or nothing: `is_draft: false` starts it at once, or schedules it where `scheduled_at` is given."""
    warnings = await drafting.create(parts, principal, campaign_id, body)
    response.headers["Location"] = f"/api/campaigns/{campaign_id}"
    return await answer(parts, principal, campaign_id, response, warnings)


@router.get("/campaigns", responses=responses(400))
async def list_all(
    principal: Operator,
    parts: Here,
    page: cursors.Fifty,
    status: Annotated[list[str] | None, Query(max_length=12)] = None,
    search: Annotated[str | None, Query(max_length=200)] = None,
) -> list[models.Campaign]:
    """Newest first; the next page is in the header `Link`."""
    async with parts.web.transaction(account_id=principal.account_id, session=principal.session) as connection:
        rows = await store.some(
            connection,
            page.after_moment(),
            page.fetched,
            statuses=status or [],
            search=search or None,
        )
        listed = page.cut(rows, "created_at", "id")
        figures = await reading.figures(connection, [row["id"] for row in listed])
    return [shown(row, figures.get(row["id"])) for row in listed]


@router.get("/campaigns/{campaign_id}", responses=responses(404))
async def one(campaign_id: UUID, principal: Operator, parts: Here, response: Response) -> models.Campaign:
    return await answer(parts, principal, campaign_id, response)


@router.put("/campaigns/{campaign_id}", responses=responses(400, 404, 412, 413))
async def replace(
    campaign_id: UUID,
    body: models.CampaignBody,
    principal: Operator,
    parts: Here,
    response: Response,
    expected: etags.IfMatch = None,
) -> models.Campaign:
    """A draft or scheduled campaign anew; its audience stays where none is given."""
    await _check_visible(parts, principal, campaign_id)
    warnings = await drafting.edit(
        parts,
        principal,
        campaign_id,
        body,
        Source.of(body),
        etags.read(expected),
        reschedule="scheduled_at" in body.model_fields_set,
    )
    return await answer(parts, principal, campaign_id, response, warnings)


@router.patch("/campaigns/{campaign_id}", responses=responses(400, 404, 412, 413))
async def change(
    campaign_id: UUID,
    body: models.CampaignPatch,
    principal: Operator,
    parts: Here,
    response: Response,
    expected: etags.IfMatch = None,
) -> models.Campaign:
    """Only what is given changes."""
    row = await _check_visible(parts, principal, campaign_id)
    whole = _merged(store.definition_of(row), row["scheduled_at"], body)
    version = etags.read(expected)
    warnings = await drafting.edit(
        parts,
        principal,
        campaign_id,
        whole,
        Source.of(body),
        # What was merged is what was read just now: somebody's edit in between must not be undone.
        row["version"] if version is None else version,
        reschedule="scheduled_at" in body.model_fields_set,
    )
    return await answer(parts, principal, campaign_id, response, warnings)


def _merged(current: Definition, scheduled_at: datetime | None, patch: models.CampaignPatch) -> models.CampaignBody:
    given = {name: getattr(patch, name) for name in patch.model_fields_set}
    pool = list(current.pool)
    if "instance_pool" in given or "api_config_id" in given:
        pool = [*([given["api_config_id"]] if given.get("api_config_id") else []), *(given.get("instance_pool") or [])]
    return models.CampaignBody(
        name=given.get("name") or current.name,
        instance_pool=pool,
        google_sheets_url=given.get("google_sheets_url", current.google_sheets_url),
        sheet_id_column=given.get("sheet_id_column") or current.sheet_id_column,
        scheduled_at=given.get("scheduled_at", scheduled_at),
        messages=given.get("messages") if given.get("messages") is not None else models.steps_shown(current),
        sending_configuration=given.get("sending_configuration") or models.policy_shown(current.policy),
    )


async def _check_visible(parts: Parts, principal: Principal, campaign_id: UUID) -> store.Row:
    async with parts.web.transaction(account_id=principal.account_id, session=principal.session) as connection:
        return await visible(connection, campaign_id)


@router.delete("/campaigns/{campaign_id}", responses=responses(400, 404))
async def delete(campaign_id: UUID, principal: Operator, parts: Here) -> Done:
    """Only a campaign that is not running."""
    now = parts.now()
    async with parts.web.transaction(account_id=principal.account_id, session=principal.session) as connection:
        await visible(connection, campaign_id)
        await apply(
            connection,
            principal.account_id,
            campaign_id,
            lambda campaign: decisions.delete(campaign, by=principal.user_id),
            now=now,
        )
        await (await driver(connection)).execute("DELETE FROM audience_chunk WHERE campaign_id = $1", campaign_id)
        await audit.note(connection, principal, "campaign.delete", str(campaign_id), now=now)
    return Done()


@router.post("/campaigns/{campaign_id}/clone", status_code=201, responses=responses(404))
async def clone(
    campaign_id: UUID,
    principal: Operator,
    parts: Here,
    new_id: NewId,
    response: Response,
    body: models.CloneBody | None = None,
) -> models.Campaign:
    """A draft with the same messages, policy and audience."""
    await _check_visible(parts, principal, campaign_id)
    await drafting.clone(parts, principal, campaign_id, new_id, body.name if body else None)
    return await answer(parts, principal, new_id, response)
