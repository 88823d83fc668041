"""Messages that people exchange with an instance, and what a team does with the conversation."""

from typing import Annotated, Any, Literal
from uuid import UUID

from pydantic import AwareDatetime, BaseModel, ConfigDict

from contracts.envelope import Event
from contracts.ids import PERSONAL, Address, PersonalText


class Media(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")

    mime_type: str | None = None
    provider_media_id: str | None = None
    url: PersonalText | None = None
    file_name: PersonalText | None = None
    voice: bool = False


class MessageReceived(Event):
    """Keyed by chat id. Inbound, or an echo of our own (`direction` out).

    `origin`: contact, phone (typed on the device) or api (sent by us or another program).
    `message_at`: the provider's time, else the receive time.
    """

    instance_id: UUID
    message_id: UUID
    provider_message_id: str
    chat: Address
    sender: Address | None = None
    direction: Literal["in", "out"]
    origin: Literal["contact", "phone", "api"]
    type: str
    text: PersonalText = ""
    media: Media | None = None
    reply_to: str | None = None
    profile_name: PersonalText | None = None
    details: Annotated[dict[str, Any], PERSONAL] = {}
    message_at: AwareDatetime
    received_at: AwareDatetime


class MessageEdited(Event):
    instance_id: UUID
    provider_message_id: str
    message_id: UUID
    text: PersonalText
    edited_at: AwareDatetime


class MessageDeleted(Event):
    instance_id: UUID
    provider_message_id: str
    message_id: UUID
    deleted_at: AwareDatetime


InboundEvent = MessageReceived | MessageEdited | MessageDeleted


class AnswerContent(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")

    kind: Literal["text", "image", "video", "audio", "document", "template"] = "text"
    text: PersonalText = ""
    media_url: PersonalText | None = None
    file_name: PersonalText | None = None
    template_name: str | None = None
    template_language: str | None = None
    template_parameters: tuple[PersonalText, ...] = ()


class AnswerWritten(Event):
    """A person typed an answer; the scheduler makes it a dispatch of people's priority."""

    instance_id: UUID
    contact_id: UUID
    address: Address
    content: AnswerContent
    by: UUID
    reply_to: str | None = None


class ConversationAssigned(Event):
    assignee: UUID | None
    by: UUID


class ConversationStateChanged(Event):
    state: Literal["open", "pending", "resolved"]
    by: UUID | None = None


class ConversationRead(Event):
    by: UUID


ConversationEvent = AnswerWritten | ConversationAssigned | ConversationStateChanged | ConversationRead
