"""What the conversations' routes take and give."""

from datetime import datetime
from typing import Annotated, Any, Literal
from uuid import UUID

from pydantic import BaseModel, ConfigDict, Field

from campaign_api.conversation.conversation import State


class _Request(BaseModel):
    model_config = ConfigDict(extra="forbid")


class Answer(_Request):
    """A text, media by its address, or an approved template."""

    text: Annotated[str, Field(max_length=4096)] = ""
    content_type: Literal["text", "image", "video", "audio", "document", "template"] = "text"
    media_url: Annotated[str, Field(max_length=2000, pattern=r"^https?://\S+$")] | None = None
    file_name: Annotated[str, Field(max_length=200)] | None = None
    template_name: Annotated[str, Field(max_length=512)] | None = None
    template_language: Annotated[str, Field(max_length=20)] | None = None
    template_parameters: Annotated[list[Annotated[str, Field(max_length=1024)]], Field(max_length=50)] = []
    reply_to: Annotated[str, Field(max_length=200)] | None = None


class NewMessage(Answer):
    """To one of them."""

    contact_id: UUID | None = None
    external_id: Annotated[str, Field(min_length=1, max_length=200)] | None = None
    phone_number: Annotated[str, Field(max_length=50)] | None = None


class Assignment(_Request):
    """null: to nobody."""

    assignee_id: UUID | None


class StateChange(_Request):
    state: State


class Answered(BaseModel):
    """`message_id`: the dispatch's id, under which the message is listed until the provider has named it."""

    success: Literal[True] = True
    message_id: UUID


class Conversation(BaseModel):
    model_config = ConfigDict(extra="allow")

    id: UUID
    instance_id: UUID | None
    contact_id: UUID | None
    contact_name: str | None
    phone_number: str | None
    remote_jid: str | None
    is_group: bool
    last_message_preview: str | None
    last_message_at: datetime | None
    unread_count: int
    delivery_status: str | None
    assignee_id: UUID | None
    state: State
    labels: list[Any]
    created_at: datetime | None
    updated_at: datetime | None


class Message(BaseModel):
    model_config = ConfigDict(extra="allow")

    id: UUID
    conversation_id: UUID | None
    instance_id: UUID | None
    direction: Literal["in", "out"]
    type: str | None
    text: str | None
    media_url: str | None
    status: str | None
    error_message: str | None
    created_at: datetime | None
