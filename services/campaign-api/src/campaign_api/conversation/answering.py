"""Writes what a person says into its conversation's stream, once for each request."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import datetime
from uuid import UUID

from sqlalchemy.ext.asyncio import AsyncConnection

from campaign_api.conversation import conversation as decisions
from campaign_api.conversation import models, store
from campaign_api.door import audit
from campaign_api.door.parts import Parts
from campaign_api.door.principal import Principal
from campaign_api.door.problems import Problem
from campaign_api.event_store import Recorded, decide_in
from campaign_api.instance import store as instances
from chassis.database import driver
from contracts import ids
from contracts.conversations import AnswerContent, AnswerWritten, ConversationEvent
from contracts.ids import Address
from contracts.topics import CAMPAIGN_API

Decide = Callable[[decisions.Conversation], Sequence[ConversationEvent]]


@dataclass(frozen=True, slots=True)
class Addressee:
    """Where a message of a person goes."""

    conversation_id: UUID
    instance_id: UUID
    contact_id: UUID
    address: Address


async def write(
    parts: Parts,
    connection: AsyncConnection,
    principal: Principal,
    to: Addressee,
    body: models.Answer,
    *,
    last_inbound_at: datetime | None,
    request_id: UUID,
) -> models.Answered:
    """The answer as an event of its conversation, once for each request."""
    by, now = person(principal), parts.now()
    _check(body)
    configuration = (await instances.kinds(connection, [to.instance_id])).get(to.instance_id)
    if configuration is None:
        raise Problem(409, "The instance of this conversation was deleted")
    if (done := await _answered(connection, to.conversation_id, request_id)) is not None:
        return models.Answered(message_id=ids.answer_dispatch_id(done))
    written = AnswerWritten(
        instance_id=to.instance_id,
        contact_id=to.contact_id,
        address=to.address,
        content=_content(body),
        by=by,
        reply_to=body.reply_to,
    )
    recorded = await decide(
        connection,
        principal,
        to.conversation_id,
        lambda conversation: decisions.answer(
            conversation,
            written=written,
            provider=configuration.provider,
            last_inbound_at=last_inbound_at,
            now=now,
        ),
        now,
        request_id,
    )
    await audit.note(connection, principal, "conversation.answer", str(to.conversation_id), now=now)
    event_id = ids.event_id(CAMPAIGN_API, f"{principal.account_id}:{to.conversation_id}", f"v{recorded.version}")
    return models.Answered(message_id=ids.answer_dispatch_id(event_id))


def _content(body: models.Answer) -> AnswerContent:
    return AnswerContent(
        kind=body.content_type,
        text=body.text,
        media_url=body.media_url,
        file_name=body.file_name,
        template_name=body.template_name,
        template_language=body.template_language,
        template_parameters=tuple(body.template_parameters),
    )


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


async def _answered(connection: AsyncConnection, conversation_id: UUID, request_id: UUID) -> UUID | None:
    """The event of this very request, where it was done before its answer could be kept for its key."""
    found: UUID | None = await (await driver(connection)).fetchval(
        "SELECT event_id FROM event WHERE stream_id = $1 AND type = 'AnswerWritten' AND metadata ->> 'causation' = $2",
        conversation_id,
        str(request_id),
    )
    return found


def person(principal: Principal) -> UUID:
    if principal.user_id is None:
        raise Problem(403, "This needs a person or an API key")
    return principal.user_id


async def decide(
    connection: AsyncConnection,
    principal: Principal,
    conversation_id: UUID,
    choose: Decide,
    now: datetime,
    causation_id: UUID | None = None,
) -> Recorded[decisions.Conversation]:
    stream = store.stream(principal.account_id, conversation_id)
    try:
        return await decide_in(
            connection, stream, decisions.evolve, decisions.INITIAL, choose, now=now, causation_id=causation_id
        )
    except decisions.WindowClosed as error:
        raise Problem(409, str(error) or (decisions.WindowClosed.__doc__ or "").strip()) from error
