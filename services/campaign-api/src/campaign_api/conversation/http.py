"""The conversations' routes."""

from typing import Annotated, Any
from uuid import UUID

from fastapi import APIRouter, Query
from sqlalchemy.ext.asyncio import AsyncConnection

from campaign_api.contact import store as contacts
from campaign_api.contact.lifecycle import identify
from campaign_api.conversation import answering, models, store
from campaign_api.conversation import conversation as decisions
from campaign_api.door import audit, cursors
from campaign_api.door.idempotency import IdempotentRoute
from campaign_api.door.parts import Here, NewId, Parts
from campaign_api.door.principal import RANK, Operator, Principal
from campaign_api.door.problems import Problem, not_found, responses
from campaign_api.identity.models import Done
from campaign_api.upload.phone import NoPhone, normalise
from chassis.database import driver
from contracts import ids
from contracts.conversations import ConversationRead
from contracts.ids import Address

router = APIRouter(prefix="/api", tags=["conversations"], route_class=IdempotentRoute)


@router.get("/conversations", responses=responses(400))
async def list_all(
    principal: Operator,
    parts: Here,
    page: cursors.Fifty,
    state: decisions.State | None = None,
    assignee_id: UUID | None = None,
    search: Annotated[str | None, Query(max_length=200)] = None,
) -> list[models.Conversation]:
    """The latest message first. An operator sees those that are theirs or nobody's."""
    async with parts.web.transaction(account_id=principal.account_id, session=principal.session) as connection:
        rows = await store.some(
            connection, page.after_moment(), page.fetched, state=state, assignee_id=assignee_id, search=search or None
        )
    return [models.Conversation(**row) for row in page.cut(rows, "last_message_at", "id")]


@router.get("/conversations/{conversation_id}", responses=responses(404))
async def one(conversation_id: UUID, principal: Operator, parts: Here) -> models.Conversation:
    async with parts.web.transaction(account_id=principal.account_id, session=principal.session) as connection:
        return models.Conversation(**await _visible(connection, conversation_id))


async def _visible(connection: AsyncConnection, conversation_id: UUID) -> Any:
    row = await store.one(connection, conversation_id)
    if row is None:
        raise not_found("Conversation")
    return row


@router.get("/conversations/{conversation_id}/messages", responses=responses(400, 404))
async def messages(
    conversation_id: UUID,
    principal: Operator,
    parts: Here,
    page: cursors.Fifty,
) -> list[models.Message]:
    """The newest first."""
    async with parts.web.transaction(account_id=principal.account_id, session=principal.session) as connection:
        await _visible(connection, conversation_id)
        rows = await store.messages(connection, conversation_id, page.after_moment(), page.fetched)
    return [models.Message(**row) for row in page.cut(rows, "created_at", "id")]


@router.post("/conversations/{conversation_id}/messages", status_code=201, responses=responses(400, 404, 409))
async def answer(
    conversation_id: UUID, body: models.Answer, principal: Operator, parts: Here, new_id: NewId
) -> models.Answered:
    """Leaves through the instance that received, ahead of campaigns."""
    async with parts.web.transaction(account_id=principal.account_id, session=principal.session) as connection:
        row = await _visible(connection, conversation_id)
        return await answering.write(
            parts,
            connection,
            principal,
            answering.Addressee(conversation_id, row["instance_id"], row["contact_id"] or new_id, _address(row)),
            body,
            last_inbound_at=row["last_inbound_at"],
            request_id=new_id,
        )


def _address(row: Any) -> Address:
    """As the chat is named; what the view shows as remote_jid where there is no phone."""
    jid = row["remote_jid"] or ""
    if row["is_group"]:
        return Address(group=jid)
    if row["phone_number"]:
        return Address(phone=row["phone_number"])
    return Address(lid=jid) if jid.endswith("@lid") else Address(bsuid=jid)


async def _act(
    parts: Parts, principal: Principal, conversation_id: UUID, action: str, decide: answering.Decide
) -> Done:
    now = parts.now()
    async with parts.web.transaction(account_id=principal.account_id, session=principal.session) as connection:
        await _visible(connection, conversation_id)
        recorded = await answering.decide(connection, principal, conversation_id, decide, now)
        if recorded.events:
            await audit.note(connection, principal, f"conversation.{action}", str(conversation_id), now=now)
    return Done()


@router.post("/messages", status_code=201, responses=responses(404, 409))
async def send(body: models.NewMessage, principal: Operator, parts: Here, new_id: NewId) -> models.Answered:
    """One message to a contact, an external id or a phone number, through the contact's instance."""
    async with parts.web.transaction(account_id=principal.account_id, session=principal.session) as connection:
        country = await (await driver(connection)).fetchval("SELECT country FROM account")
        contact_id, address = await recipient_of(connection, principal.account_id, body, country)
        instance_id = await store.instance_of(connection, contact_id)
        if instance_id is None:
            raise Problem(409, "There is no instance to send from")
        conversation_id = ids.chat_id(instance_id, address)
        row = await store.one(connection, conversation_id)
        return await answering.write(
            parts,
            connection,
            principal,
            answering.Addressee(conversation_id, instance_id, contact_id, address),
            body,
            last_inbound_at=row["last_inbound_at"] if row else None,
            request_id=new_id,
        )


async def recipient_of(
    connection: AsyncConnection, account_id: UUID, body: models.NewMessage, country: str
) -> tuple[UUID, Address]:
    """A contact that is known, or a phone number that is not yet. Raises Problem 404, 422."""
    if sum(one is not None for one in (body.contact_id, body.external_id, body.phone_number)) != 1:
        raise Problem(422, "Give one of contact_id, external_id and phone_number")
    if body.phone_number is not None:
        try:
            address = Address(phone=normalise(body.phone_number, country))
        except NoPhone as error:
            raise Problem(422, str(error)) from error
        return await identify(connection, account_id, address), address
    row = await contacts.find(connection, body.contact_id, body.external_id)
    if row is None:
        raise not_found("Contact")
    return row["id"], contacts.contact_of(row).address


@router.put("/conversations/{conversation_id}/assignee", responses=responses(404))
async def assign(conversation_id: UUID, body: models.Assignment, principal: Operator, parts: Here) -> Done:
    """An operator may take a conversation or give back their own; a supervisor assigns to anybody."""
    by = answering.person(principal)
    if RANK[principal.role] < RANK["supervisor"] and body.assignee_id not in (None, by):
        raise Problem(403, "Only a supervisor assigns conversations to others")
    if body.assignee_id is not None:
        async with parts.web.transaction(account_id=principal.account_id) as connection:
            found = await (await driver(connection)).fetchval(
                "SELECT 1 FROM app_user WHERE id = $1 AND active", body.assignee_id
            )
        if found is None:
            raise Problem(422, "There is no such person in this account")
    return await _act(
        parts,
        principal,
        conversation_id,
        "assign",
        lambda conversation: decisions.assign(conversation, assignee=body.assignee_id, by=by),
    )


@router.put("/conversations/{conversation_id}/state", responses=responses(404))
async def move(conversation_id: UUID, body: models.StateChange, principal: Operator, parts: Here) -> Done:
    by = answering.person(principal)
    return await _act(
        parts,
        principal,
        conversation_id,
        "move",
        lambda conversation: decisions.move(conversation, state=body.state, by=by),
    )


@router.post("/conversations/{conversation_id}/read", responses=responses(404))
async def mark_read(conversation_id: UUID, principal: Operator, parts: Here) -> Done:
    """Everything up to now was seen."""
    by = answering.person(principal)
    return await _act(parts, principal, conversation_id, "read", lambda _: [ConversationRead(by=by)])
