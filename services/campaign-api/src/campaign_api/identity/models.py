"""What identity's routes take and give."""

from datetime import datetime
from typing import Annotated, Literal
from uuid import UUID
from zoneinfo import ZoneInfo, ZoneInfoNotFoundError

from pydantic import AfterValidator, AwareDatetime, BaseModel, ConfigDict, EmailStr, Field

from campaign_api.door.principal import Role
from campaign_api.identity.passwords import LENGTH_MAX, LENGTH_MIN

Password = Annotated[str, Field(min_length=LENGTH_MIN, max_length=LENGTH_MAX)]
Name = Annotated[str, Field(min_length=1, max_length=200)]


class _Request(BaseModel):
    model_config = ConfigDict(extra="forbid")


class SignIn(_Request):
    """`session` cookie: for the panel; the tokens then travel in HttpOnly cookies, changes need X-CSRF-Token."""

    email: EmailStr
    password: str = Field(max_length=LENGTH_MAX)
    session: Literal["token", "cookie"] = "token"


class Refresh(_Request):
    refresh_token: str | None = Field(None, max_length=200)


class SignUp(_Request):
    account_name: Name
    name: Name
    email: EmailStr
    password: Password


class NewUser(_Request):
    email: EmailStr
    name: Name
    password: Password
    role: Role = "operator"


class UserChange(_Request):
    name: Name | None = None
    role: Role | None = None
    active: bool | None = None
    password: Password | None = None


def _known_zone(name: str) -> str:
    try:
        ZoneInfo(name)
    except (ZoneInfoNotFoundError, ValueError, OSError) as error:
        raise ValueError("is not a time zone") from error
    return name


class AccountChange(_Request):
    """`stop_words`: a whole message that opts its writer out. `operators_restricted`: they see only what is theirs."""

    name: Name | None = None
    country: Annotated[str, Field(pattern=r"^[A-Z]{2}$")] | None = None
    time_zone: Annotated[str, AfterValidator(_known_zone)] | None = None
    stop_words: Annotated[list[Annotated[str, Field(min_length=1, max_length=40)]], Field(max_length=50)] | None = None
    operators_restricted: bool | None = None


class Account(BaseModel):
    account_id: UUID
    name: str
    country: str
    time_zone: str
    stop_words: list[str]
    operators_restricted: bool
    created_at: datetime


class NewApiKey(_Request):
    name: Name
    role: Role = "operator"
    expires_at: AwareDatetime | None = None


class Me(BaseModel):
    account_id: UUID
    user_id: UUID | None
    role: Role
    kind: str
    name: str | None = None
    email: str | None = None


class SessionAnswer(BaseModel):
    """`access_token` for the header `Authorization: Bearer`; the refresh token can be used once."""

    access_token: str
    refresh_token: str
    token_type: Literal["Bearer"] = "Bearer"
    expires_in: int
    user: Me


class User(BaseModel):
    id: UUID
    email: str
    name: str
    role: Role
    active: bool
    created_at: datetime
    updated_at: datetime


class ApiKey(BaseModel):
    """`hint`: the key's last characters; `key` only in the answer that created it."""

    id: UUID
    name: str
    hint: str
    role: Role
    created_by: UUID | None
    created_at: datetime
    expires_at: datetime | None
    revoked_at: datetime | None
    key: str | None = None


class Done(BaseModel):
    success: bool = True


class AuditEntry(BaseModel):
    position: int
    at: datetime
    actor_id: UUID | None
    actor_kind: str
    address: str | None
    action: str
    subject: str
    details: dict[str, object]
