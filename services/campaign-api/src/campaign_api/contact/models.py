"""What the contacts' routes take and give."""

from datetime import datetime
from typing import Annotated, Any
from uuid import UUID

from pydantic import BaseModel, ConfigDict, Field

Tag = Annotated[str, Field(min_length=1, max_length=100)]
Fields = Annotated[
    dict[Annotated[str, Field(min_length=1, max_length=64)], Annotated[str, Field(max_length=2000)]],
    Field(max_length=100),
]


class _Request(BaseModel):
    model_config = ConfigDict(extra="forbid")


class NewContact(_Request):
    """Known by a phone number, or by one of the other names that WhatsApp gives people."""

    phone_number: Annotated[str, Field(max_length=50)] | None = None
    lid: Annotated[str, Field(min_length=1, max_length=100)] | None = None
    bsuid: Annotated[str, Field(min_length=1, max_length=200)] | None = None
    name: Annotated[str, Field(max_length=200)] = ""
    external_id: Annotated[str, Field(max_length=200)] | None = None
    source: Annotated[str, Field(min_length=1, max_length=100)] = "manual"
    tags: Annotated[list[Tag], Field(max_length=100)] = []
    funnel_stage: Annotated[str, Field(max_length=100)] | None = None
    custom_fields: Fields = {}


class ContactChange(_Request):
    """Only what is given changes; the phone number is the identity and does not."""

    name: Annotated[str, Field(max_length=200)] | None = None
    external_id: Annotated[str, Field(max_length=200)] | None = None
    tags: Annotated[list[Tag], Field(max_length=100)] | None = None
    funnel_stage: Annotated[str, Field(max_length=100)] | None = None
    custom_fields: Fields | None = None


class Contact(BaseModel):
    id: UUID
    phone_number: str | None
    lid: str | None
    bsuid: str | None
    name: str
    external_id: str | None
    source: str
    tags: list[str]
    funnel_stage: str | None
    custom_fields: dict[str, Any]
    opted_out: bool
    created_at: datetime
    updated_at: datetime


class PersonalData(BaseModel):
    """Everything that is stored about one person, as the law lets them ask for it."""

    contact: Contact
    campaigns: list[dict[str, Any]]
    conversations: list[dict[str, Any]]
    messages: list[dict[str, Any]]


def shown(row: Any) -> Contact:
    names = ("id", "lid", "bsuid", "name", "external_id", "source", "tags", "funnel_stage", "custom_fields")
    more = ("opted_out", "created_at", "updated_at")
    return Contact(phone_number=row["phone"], **{name: row[name] for name in names + more})
