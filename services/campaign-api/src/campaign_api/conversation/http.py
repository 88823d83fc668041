"""The conversations' routes."""

from collections.abc import Callable, Sequence
from datetime import datetime
from typing import Annotated, Any
from uuid import UUID

from fastapi import APIRouter, Query, Request, Response
from sqlalchemy.ext.asyncio import AsyncConnection

from campaign_api.conversation import conversation as decisions
from campaign_api.conversation import models, store
from campaign_api.door import audit, cursors
from campaign_api.door.idempotency import IdempotentRoute
from campaign_api.door.parts import Here, NewId, Parts
from campaign_api.door.principal import RANK, Operator, Principal
from campaign_api.door.problems import Problem, not_found, responses
from campaign_api.event_store import Recorded, decide_in
from campaign_api.identity.models import Done
from campaign_api.instance import store as instances
from chassis.database import driver
from contracts import ids
from contracts.conversations import AnswerContent, AnswerWritten, ConversationEvent, ConversationRead
from contracts.ids import Address
from contracts.topics import CAMPAIGN_API

router = APIRouter(prefix="/api", tags=["conversations"], route_class=IdempotentRoute)
Decide = Callable[[decisions.Conversation], Sequence[ConversationEvent]]


@router.get("/conversations", responses=responses(400))
async def list_all(
    principal: Operator,
    parts: Here,
    request: Request,
    response: Response,
    state: decisions.State | None = None,
    assignee_id: UUID | None = None,
    search: Annotated[str | None, Query(max_length=200)] = None,
    cursor: cursors.Cursor = None,
    limit: cursors.Limit = 50,
) -> list[models.Conversation]:
    """The latest message first. An operator sees those that are theirs or nobody's."""
    before = None
    if cursor:
        at, last = cursors.decode(cursor, datetime, UUID)
        before = (at, last)
    async with parts.web.transaction(account_id=principal.account_id, session=principal.session) as connection:
        rows = await store.some(
            connection, before, limit + 1, state=state, assignee_id=assignee_id, search=search or None
        )
    page, more = cursors.cut(rows, limit)
    if more:
        cursors.link_next(request, response, page[-1]["last_message_at"], page[-1]["id"])
    return [models.Conversation(**row) for row in page]


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
    request: Request,
    response: Response,
    cursor: cursors.Cursor = None,
    limit: cursors.Limit = 50,
) -> list[models.Message]:
    """The newest first."""
    before = None
    if cursor:
        at, last = cursors.decode(cursor, datetime, UUID)
        before = (at, last)
    async with parts.web.transaction(account_id=principal.account_id, session=principal.session) as connection:
        await _visible(connection, conversation_id)
        rows = await store.messages(connection, conversation_id, before, limit + 1)
    page, more = cursors.cut(rows, limit)
    if more:
        cursors.link_next(request, response, page[-1]["created_at"], page[-1]["id"])
    return [models.Message(**row) for row in page]


@router.post("/conversations/{conversation_id}/messages", status_code=201, responses=responses(400, 404, 409))
async def answer(
    conversation_id: UUID, body: models.Answer, principal: Operator, parts: Here, new_id: NewId
) -> models.Answered:
    """Leaves through the instance that received, ahead of campaigns."""
    by, now = _person(principal), parts.now()
    _check(body)
    async with parts.web.transaction(account_id=principal.account_id, session=principal.session) as connection:
        row = await _visible(connection, conversation_id)
        configuration = (await instances.kinds(connection, [row["instance_id"]])).get(row["instance_id"])
        if configuration is None:
            raise Problem(409, "The instance of this conversation was deleted")
        written = AnswerWritten(
            instance_id=row["instance_id"],
            contact_id=row["contact_id"] or new_id,
            address=_address(row),
            content=AnswerContent(
                kind=body.content_type,
                text=body.text,
                media_url=body.media_url,
                file_name=body.file_name,
                template_name=body.template_name,
                template_language=body.template_language,
                template_parameters=tuple(body.template_parameters),
            ),
            by=by,
            reply_to=body.reply_to,
        )
        if (done := await _answered(connection, conversation_id, new_id)) is not None:
            return models.Answered(message_id=ids.answer_dispatch_id(done))
        recorded = await _decide(
            connection,
            principal,
            conversation_id,
            lambda conversation: decisions.answer(
                conversation,
                written=written,
                provider=configuration.provider,
                last_inbound_at=row["last_inbound_at"],
                now=now,
            ),
            now,
            new_id,
        )
        await audit.note(connection, principal, "conversation.answer", str(conversation_id), now=now)
    event_id = ids.event_id(CAMPAIGN_API, f"{principal.account_id}:{conversation_id}", f"v{recorded.version}")
    return models.Answered(message_id=ids.answer_dispatch_id(event_id))


def _check(body: models.Answer) -> None:
    match body.content_type:
        case "text" if not body.text.strip():
            raise Problem(422, "text must not be empty")
        case "template" if not body.template_name:
            raise Problem(422, "A template needs template_name")
        case "image" | "video" | "audio" | "document" if not body.media_url:
            raise Problem(422, f"A message of type {body.content_type} needs media_url")
        case _:
            pass


def _address(row: Any) -> Address:
    """As the chat is named; what the view shows as remote_jid where there is no phone."""
    jid = row["remote_jid"] or ""
    if row["is_group"]:
        return Address(group=jid)
    if row["phone_number"]:
        return Address(phone=row["phone_number"])
    return Address(lid=jid) if jid.endswith("@lid") else Address(bsuid=jid)


async def _answered(connection: AsyncConnection, conversation_id: UUID, request_id: UUID) -> UUID | None:
    """The event of this very request, where it was done before its answer could be kept for its key."""
    found: UUID | None = await (await driver(connection)).fetchval(
        "SELECT event_id FROM event WHERE stream_id = $1 AND type = 'AnswerWritten' AND metadata ->> 'causation' = $2",
        conversation_id,
        str(request_id),
    )
    return found


def _person(principal: Principal) -> UUID:
    if principal.user_id is None:
        raise Problem(403, "This needs a person or an API key")
    return principal.user_id


async def _decide(
    connection: AsyncConnection,
    principal: Principal,
    conversation_id: UUID,
    decide: Decide,
    now: datetime,
    causation_id: UUID | None = None,
) -> Recorded[decisions.Conversation]:
    stream = store.stream(principal.account_id, conversation_id)
    try:
        return await decide_in(
            connection, stream, decisions.evolve, decisions.INITIAL, decide, now=now, causation_id=causation_id
        )
    except decisions.WindowClosed as error:
        raise Problem(409, str(error) or (decisions.WindowClosed.__doc__ or "").strip()) from error


async def _act(parts: Parts, principal: Principal, conversation_id: UUID, action: str, decide: Decide) -> Done:
    now = parts.now()
    async with parts.web.transaction(account_id=principal.account_id, session=principal.session) as connection:
        await _visible(connection, conversation_id)
        recorded = await _decide(connection, principal, conversation_id, decide, now)
        if recorded.events:
            await audit.note(connection, principal, f"conversation.{action}", str(conversation_id), now=now)
    return Done()


@router.put("/conversations/{conversation_id}/assignee", responses=responses(404))
async def assign(conversation_id: UUID, body: models.Assignment, principal: Operator, parts: Here) -> Done:
    """An operator may take a conversation or give back their own; a supervisor assigns to anybody."""
    by = _person(principal)
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
    by = _person(principal)
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
    by = _person(principal)
    return await _act(parts, principal, conversation_id, "read", lambda _: [ConversationRead(by=by)])
