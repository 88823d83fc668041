"""What the desk's routes take and give."""

from datetime import datetime
from typing import Annotated, Any, Literal
from uuid import UUID

from pydantic import AwareDatetime, BaseModel, ConfigDict, Field

Name = Annotated[str, Field(min_length=1, max_length=200)]
Text = Annotated[str, Field(max_length=4096)]
Tags = Annotated[list[Annotated[str, Field(min_length=1, max_length=100)]], Field(max_length=50)]
Cents = Annotated[int, Field(ge=0, le=10**15)]


class _Request(BaseModel):
    model_config = ConfigDict(extra="forbid", allow_inf_nan=False)


class NewProduct(_Request):
    name: Name
    description: Text = ""
    price_cents: Cents | None = None
    details: dict[str, Any] = {}


class ProductChange(_Request):
    name: Name | None = None
    description: Text | None = None
    price_cents: Cents | None = None
    details: dict[str, Any] | None = None


class NewTask(_Request):
    title: Name
    description: Text = ""
    due_at: AwareDatetime | None = None
    assignee_id: UUID | None = None
    contact_id: UUID | None = None
    conversation_id: UUID | None = None
    status: Literal["open", "done"] = "open"


class TaskChange(_Request):
    title: Name | None = None
    description: Text | None = None
    due_at: AwareDatetime | None = None
    assignee_id: UUID | None = None
    contact_id: UUID | None = None
    conversation_id: UUID | None = None
    status: Literal["open", "done"] | None = None


class NewGroup(_Request):
    """People gathered by the tags they carry."""

    name: Name
    description: Text = ""
    tags: Tags = []


class GroupChange(_Request):
    name: Name | None = None
    description: Text | None = None
    tags: Tags | None = None


class NewCannedAnswer(_Request):
    shortcut: Annotated[str, Field(min_length=1, max_length=50)]
    text: Annotated[str, Field(min_length=1, max_length=4096)]


class CannedAnswerChange(_Request):
    shortcut: Annotated[str, Field(min_length=1, max_length=50)] | None = None
    text: Annotated[str, Field(min_length=1, max_length=4096)] | None = None


class _Stored(BaseModel):
    id: UUID
    created_at: datetime
    updated_at: datetime


class Product(_Stored):
    name: str
    description: str
    price_cents: int | None
    details: dict[str, Any]


class Task(_Stored):
    title: str
    description: str
    due_at: datetime | None
    assignee_id: UUID | None
    contact_id: UUID | None
    conversation_id: UUID | None
    status: Literal["open", "done"]


class Group(_Stored):
    name: str
    description: str
    tags: list[str]


class CannedAnswer(_Stored):
    shortcut: str
    text: str
