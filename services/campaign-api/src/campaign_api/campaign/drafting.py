"""Creating, editing and cloning: the definition and the audience, all or nothing."""

from contextlib import AsyncExitStack
from dataclasses import dataclass
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any
from uuid import UUID

from sqlalchemy.ext.asyncio import AsyncConnection

from campaign_api.campaign import audience as intakes
from campaign_api.campaign import campaign as decisions
from campaign_api.campaign import store
from campaign_api.campaign.campaign import Campaign
from campaign_api.campaign.definition import faults_of, warnings_of
from campaign_api.campaign.lifecycle import apply
from campaign_api.campaign.models import CampaignBody, CampaignPatch, ListedContact, definition_of
from campaign_api.door import audit
from campaign_api.door.parts import Parts
from campaign_api.door.principal import Principal
from campaign_api.door.problems import FieldProblem, Problem, not_found
from campaign_api.instance import store as instances
from campaign_api.upload import reading
from campaign_api.upload import store as uploads
from campaign_api.upload.models import ColumnMapping
from chassis.database import driver
from contracts.campaigns import CampaignEvent, Definition

SCHEDULE_AHEAD_MAX = timedelta(days=366)


@dataclass(frozen=True, slots=True)
class Source:
    """Where an audience comes from; at most one of them is given."""

    contacts: list[ListedContact] | None
    upload_id: UUID | None
    mapping: ColumnMapping | None
    tags: list[str] | None

    @classmethod
    def of(cls, body: CampaignBody | CampaignPatch) -> "Source | None":
        given = [body.contacts is not None, body.upload_id is not None, bool(body.tags)]
        if sum(given) > 1:
            raise Problem(422, "Give contacts, upload_id or tags, not several of them")
        return cls(body.contacts, body.upload_id, body.column_mapping, body.tags) if any(given) else None


async def account_defaults(connection: AsyncConnection) -> tuple[str, str]:
    """Country and time zone."""
    row = await (await driver(connection)).fetchrow("SELECT country, time_zone FROM account")
    if row is None:
        raise not_found("Account")
    return row["country"], row["time_zone"]


async def create(parts: Parts, principal: Principal, campaign_id: UUID, body: CampaignBody) -> list[str]:
    """Everything or nothing: the campaign, its audience, and its start where it is no draft. Answers warnings."""
    now, source = parts.now(), Source.of(body)
    check_time(body.scheduled_at, now)
    async with AsyncExitStack() as stack:
        path = await fetch(parts, principal, source, stack)
        connection = await stack.enter_async_context(
            parts.web.transaction(account_id=principal.account_id, session=principal.session)
        )
        country, time_zone = await account_defaults(connection)
        definition = definition_of(body, principal.user_id, time_zone)
        warnings = await check(connection, definition)
        made = await apply(
            connection,
            principal.account_id,
            campaign_id,
            lambda campaign: decisions.create(campaign, definition=definition, by=principal.user_id),
            now=now,
        )
        if not made.events:
            return warnings  # the same request again
        if source:
            await take(parts, connection, principal, campaign_id, source, country, path, now)
        if body.is_draft and body.scheduled_at is not None:
            warnings.append("A draft has no time yet: schedule it, or send is_draft false")
        await launch(connection, principal, campaign_id, body, now)
        await audit.note(connection, principal, "campaign.create", str(campaign_id), now=now)
    return warnings


async def launch(
    connection: AsyncConnection, principal: Principal, campaign_id: UUID, body: CampaignBody, now: datetime
) -> None:
    audience = await store.audience(connection, principal.account_id, campaign_id)

    def decide(campaign: Campaign) -> list[CampaignEvent]:
        if body.scheduled_at is not None and not body.is_draft:
            return decisions.schedule(campaign, at=body.scheduled_at, audience=audience, by=principal.user_id)
        return decisions.start(campaign, audience=audience, by=principal.user_id)

    if not body.is_draft:
        await apply(connection, principal.account_id, campaign_id, decide, now=now)


async def fetch(parts: Parts, principal: Principal, source: Source | None, stack: AsyncExitStack) -> Path | None:
    """The uploaded file on disk, before any transaction is open."""
    if source is None or source.upload_id is None:
        return None
    async with parts.web.transaction(account_id=principal.account_id) as connection:
        if await uploads.one(connection, source.upload_id) is None:
            raise Problem(422, "The uploaded file is not known (files are kept for a day)")
    await stack.enter_async_context(parts.readers)
    return await stack.enter_async_context(reading.on_disk(parts.web, principal.account_id, source.upload_id))


async def take(
    parts: Parts,
    connection: AsyncConnection,
    principal: Principal,
    campaign_id: UUID,
    source: Source,
    country: str,
    path: Path | None,
    now: datetime,
) -> None:
    intake = await intakes.Intake.begin(
        connection,
        principal,
        campaign_id,
        upload_id=source.upload_id,
        rows_max=parts.settings.import_rows_max,
        now=now,
    )
    if source.contacts is not None:
        await intakes.take_list(intake, source.contacts, country)
    elif path is not None:
        options: dict[str, Any] = (source.mapping or ColumnMapping()).options(country)
        await intakes.take_file(intake, path, options)
    elif source.tags:
        await intakes.take_contacts(intake, intakes.tagged(connection, source.tags))
    await intake.finish()


async def check(connection: AsyncConnection, definition: Definition) -> list[str]:
    """Raises Problem 422 with every fault; answers warnings."""
    faults = [FieldProblem(field=fault.field, detail=fault.text) for fault in faults_of(definition)]
    known = await instances.kinds(connection, definition.pool)
    for instance_id in definition.pool:
        configuration = known.get(instance_id)
        if configuration is None:
            faults.append(FieldProblem(field="instance_pool", detail=f"there is no instance {instance_id}"))
        elif not configuration.is_active:
            faults.append(FieldProblem(field="instance_pool", detail=f"instance {instance_id} is not active"))
    if faults:
        raise Problem(422, "; ".join(fault.detail for fault in faults[:3]), errors=faults)
    return warnings_of(definition, any(known[one].provider in ("evolution_web", "zapi") for one in known))


def check_time(scheduled_at: datetime | None, now: datetime) -> None:
    if scheduled_at is not None and not now < scheduled_at < now + SCHEDULE_AHEAD_MAX:
        raise Problem(422, "scheduled_at must be in the future, within a year")


async def edit(
    parts: Parts,
    principal: Principal,
    campaign_id: UUID,
    body: CampaignBody,
    source: Source | None,
    expected_version: int | None,
    *,
    reschedule: bool,
) -> list[str]:
    """The whole definition anew; the audience only where one is given; the time only where `reschedule`."""
    now = parts.now()
    async with AsyncExitStack() as stack:
        path = await fetch(parts, principal, source, stack)
        connection = await stack.enter_async_context(
            parts.web.transaction(account_id=principal.account_id, session=principal.session)
        )
        row = await store.one(connection, campaign_id)
        if row is None:
            raise not_found("Campaign")
        country, time_zone = await account_defaults(connection)
        definition = definition_of(body, row["owner_id"], time_zone)
        warnings = await check(connection, definition)
        account_id, by = principal.account_id, principal.user_id
        await apply(
            connection,
            account_id,
            campaign_id,
            lambda campaign: decisions.edit(campaign, definition=definition, by=by),
            now=now,
            expected_version=expected_version,
        )
        if source:
            await take(parts, connection, principal, campaign_id, source, country, path, now)
        if reschedule and body.scheduled_at != row["scheduled_at"] and row["status"] == "scheduled":
            await _reschedule(connection, principal, campaign_id, body.scheduled_at, now)
        await audit.note(connection, principal, "campaign.edit", str(campaign_id), now=now)
    return warnings


async def _reschedule(
    connection: AsyncConnection, principal: Principal, campaign_id: UUID, at: datetime | None, now: datetime
) -> None:
    check_time(at, now)
    audience = await store.audience(connection, principal.account_id, campaign_id)

    def decide(campaign: Campaign) -> list[CampaignEvent]:
        if at is None:
            return decisions.unschedule(campaign, by=principal.user_id)
        return decisions.schedule(campaign, at=at, audience=audience, by=principal.user_id)

    await apply(connection, principal.account_id, campaign_id, decide, now=now)


async def clone(parts: Parts, principal: Principal, source_id: UUID, campaign_id: UUID, name: str | None) -> None:
    """A draft with the same definition and audience."""
    now, account_id = parts.now(), principal.account_id
    async with parts.web.transaction(account_id=account_id, session=principal.session) as connection:
        row = await store.one(connection, source_id)
        if row is None:
            raise not_found("Campaign")
        original = store.definition_of(row)
        definition = original.model_copy(update={"name": name or original.name, "owner_id": principal.user_id})
        made = await apply(
            connection,
            account_id,
            campaign_id,
            lambda campaign: decisions.create(campaign, definition=definition, by=principal.user_id),
            now=now,
        )
        if not made.events:
            return
        intake = await intakes.Intake.begin(
            connection, principal, campaign_id, upload_id=None, rows_max=parts.settings.import_rows_max, now=now
        )
        await intakes.take_contacts(intake, intakes.of_campaign(connection, account_id, source_id))
        await intake.finish()
        await audit.note(connection, principal, "campaign.clone", str(campaign_id), now=now)
