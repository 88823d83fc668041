"""The contacts' routes."""

from typing import Annotated, Any
from uuid import UUID

from fastapi import APIRouter, Query, Response
from sqlalchemy.ext.asyncio import AsyncConnection

from campaign_api.contact import contact as decisions
from campaign_api.contact import models, store
from campaign_api.contact.lifecycle import Decide, apply, identify
from campaign_api.door import audit, cursors, etags
from campaign_api.door.idempotency import IdempotentRoute
from campaign_api.door.parts import Here, Parts
from campaign_api.door.principal import Admin, Operator, Principal
from campaign_api.door.problems import Problem, not_found, responses
from campaign_api.identity.models import Done
from campaign_api.upload.phone import NoPhone, normalise
from chassis.database import driver
from contracts.contacts import ContactSaved
from contracts.ids import Address

router = APIRouter(prefix="/api", tags=["contacts"], route_class=IdempotentRoute)
EXPORT_MAX = 10_000


@router.get("/contacts", responses=responses(400))
async def list_all(
    principal: Operator,
    parts: Here,
    page: cursors.Hundred,
    search: Annotated[str | None, Query(max_length=200)] = None,
    tag: Annotated[list[str] | None, Query(max_length=50)] = None,
    opted_out: bool | None = None,
) -> list[models.Contact]:
    """Newest first; the next page is in the header `Link`."""
    async with parts.web.transaction(account_id=principal.account_id, session=principal.session) as connection:
        rows = await store.some(
            connection, page.after_moment(), page.fetched, search=search or None, tags=tag or [], opted_out=opted_out
        )
    return [models.shown(row) for row in page.cut(rows, "created_at", "id")]


@router.post("/contacts", status_code=201, responses=responses(409))
async def create(body: models.NewContact, principal: Operator, parts: Here, response: Response) -> models.Contact:
    """Who is known already under one of these names is updated: a person is there once."""
    now = parts.now()
    async with parts.web.transaction(account_id=principal.account_id, session=principal.session) as connection:
        country = await (await driver(connection)).fetchval("SELECT country FROM account")
        address = _address(body, country)
        contact_id = await identify(connection, principal.account_id, address)
        wanted = ContactSaved(
            address=address,
            name=body.name,
            external_id=body.external_id,
            source=body.source,
            tags=tuple(sorted(set(body.tags))),
            funnel_stage=body.funnel_stage,
            custom_fields=body.custom_fields,
        )
        key = store.aliases(address)[0]
        recorded = await apply(
            connection, principal.account_id, contact_id, key, lambda contact: decisions.save(contact, wanted), now=now
        )
        if recorded.events:
            await audit.note(connection, principal, "contact.save", str(contact_id), now=now)
        response.headers["Location"] = f"/api/contacts/{contact_id}"
        return await _shown(connection, contact_id, response)


def _address(body: models.NewContact, country: str) -> Address:
    try:
        phone = normalise(body.phone_number, country) if body.phone_number else None
    except NoPhone as error:
        raise Problem(422, str(error)) from error
    address = Address(phone=phone, lid=body.lid, bsuid=body.bsuid)
    if not store.aliases(address):
        raise Problem(422, "A contact needs phone_number, lid or bsuid")
    return address


async def _shown(connection: AsyncConnection, contact_id: UUID, response: Response) -> models.Contact:
    row = await store.one(connection, contact_id)
    if row is None:
        raise not_found("Contact")
    response.headers["ETag"] = etags.of(row["version"])
    return models.shown(row)


@router.get("/contacts/{contact_id}", responses=responses(404))
async def one(contact_id: UUID, principal: Operator, parts: Here, response: Response) -> models.Contact:
    async with parts.web.transaction(account_id=principal.account_id, session=principal.session) as connection:
        return await _shown(connection, contact_id, response)


async def _act(
    parts: Parts,
    principal: Principal,
    contact_id: UUID,
    action: str,
    decide: Decide,
    response: Response | None,
    expected_version: int | None = None,
) -> models.Contact | None:
    now = parts.now()
    async with parts.web.transaction(account_id=principal.account_id, session=principal.session) as connection:
        row = await store.one(connection, contact_id)
        if row is None:
            raise not_found("Contact")
        recorded = await apply(
            connection,
            principal.account_id,
            contact_id,
            row["recipient_key"],
            decide,
            now=now,
            expected_version=expected_version,
        )
        if recorded.events:
            await audit.note(connection, principal, f"contact.{action}", str(contact_id), now=now)
        return await _shown(connection, contact_id, response) if response is not None else None


@router.patch("/contacts/{contact_id}", responses=responses(404, 412))
@router.put("/contacts/{contact_id}", responses=responses(404, 412))
async def change(
    contact_id: UUID,
    body: models.ContactChange,
    principal: Operator,
    parts: Here,
    response: Response,
    expected: etags.IfMatch = None,
) -> models.Contact:
    given = {name: getattr(body, name) for name in body.model_fields_set}

    def decide(contact: decisions.Contact) -> Any:
        return decisions.save(
            contact,
            ContactSaved(
                address=contact.address,
                name=given.get("name") if given.get("name") is not None else contact.name,
                external_id=given.get("external_id", contact.external_id),
                source=contact.source,
                tags=tuple(sorted(set(given["tags"]))) if given.get("tags") is not None else contact.tags,
                funnel_stage=given.get("funnel_stage", contact.funnel_stage),
                custom_fields=given.get("custom_fields") or dict(contact.custom_fields)
                if given.get("custom_fields") is None
                else given["custom_fields"],
            ),
        )

    changed = await _act(parts, principal, contact_id, "change", decide, response, etags.read(expected))
    assert changed is not None
    return changed


@router.post("/contacts/{contact_id}/opt-out", responses=responses(404))
async def opt_out(contact_id: UUID, principal: Operator, parts: Here, response: Response) -> models.Contact:
    """No campaign message any more, also not of those that run now."""
    changed = await _act(
        parts,
        principal,
        contact_id,
        "opt_out",
        lambda contact: decisions.opt_out(contact, key=contact.key, reason="manual"),
        response,
    )
    assert changed is not None
    return changed


@router.post("/contacts/{contact_id}/opt-in", responses=responses(404))
async def opt_in(contact_id: UUID, principal: Operator, parts: Here, response: Response) -> models.Contact:
    changed = await _act(
        parts,
        principal,
        contact_id,
        "opt_in",
        lambda contact: decisions.opt_in(contact, key=contact.key, by=principal.user_id),
        response,
    )
    assert changed is not None
    return changed


@router.delete("/contacts/{contact_id}", responses=responses(404))
async def erase(contact_id: UUID, principal: Admin, parts: Here) -> Done:
    """Everything that tells who it was goes; an opt-out stays, as a key only."""
    await _act(parts, principal, contact_id, "erase", lambda contact: decisions.erase(contact, key=contact.key), None)
    async with parts.web.transaction(account_id=principal.account_id) as connection:
        await (await driver(connection)).execute("DELETE FROM contact_alias WHERE contact_id = $1", contact_id)
    return Done()


@router.get("/contacts/{contact_id}/personal-data", responses=responses(404))
async def personal_data(contact_id: UUID, principal: Admin, parts: Here, response: Response) -> models.PersonalData:
    """What is stored about this person, from our own tables and the read models."""
    async with parts.web.transaction(account_id=principal.account_id, session=principal.session) as connection:
        contact = await _shown(connection, contact_id, response)
        raw = await driver(connection)
        found = {
            view: await raw.fetch(
                f"SELECT * FROM projections.{view} WHERE contact_id = $1 ORDER BY created_at LIMIT $2",  # noqa: S608
                contact_id,
                EXPORT_MAX,
            )
            for view in ("campaign_contacts", "conversations", "messages")
        }
    rows = {view: [dict(row) for row in records] for view, records in found.items()}
    return models.PersonalData(
        contact=contact,
        campaigns=rows["campaign_contacts"],
        conversations=rows["conversations"],
        messages=rows["messages"],
    )
