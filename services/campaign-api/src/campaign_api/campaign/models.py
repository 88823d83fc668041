"""What the campaigns' routes take and give, in the names that clients know (PUT and POST take the same shape)."""

from datetime import datetime, time
from typing import Annotated, Any, Literal
from uuid import UUID
from zoneinfo import ZoneInfo, ZoneInfoNotFoundError

from pydantic import AfterValidator, AwareDatetime, BaseModel, ConfigDict, Field

from campaign_api.upload.models import ColumnMapping
from campaign_api.upload.tables import CELL_MAX_CHARS
from contracts.campaigns import Definition, Guarantee, SendingPolicy, Step, StepKind

CONTACTS_MAX = 50_000


def _known_zone(name: str) -> str:
    try:
        ZoneInfo(name)
    except (ZoneInfoNotFoundError, ValueError, OSError) as error:
        raise ValueError("is not a time zone") from error
    return name


class _Request(BaseModel):
    model_config = ConfigDict(extra="forbid", allow_inf_nan=False)


class MessageStep(_Request):
    content_type: StepKind = "text"
    content: Annotated[str, Field(max_length=10_000)] = ""
    media_url: Annotated[str, Field(max_length=2000)] | None = None
    order_index: Annotated[int, Field(ge=0, le=1000)] = 0
    file_name: Annotated[str, Field(max_length=200)] | None = None
    template_name: Annotated[str, Field(max_length=512)] | None = None
    template_language: Annotated[str, Field(max_length=20)] | None = None
    template_parameters: Annotated[list[Annotated[str, Field(max_length=1024)]], Field(max_length=50)] = []


class ListedContact(_Request):
    external_id: Annotated[str, Field(max_length=200)] | None = None
    phone_number: Annotated[str, Field(max_length=50)]
    name: Annotated[str, Field(max_length=200)] = ""
    custom_fields: Annotated[
        dict[
            Annotated[str, Field(max_length=64)],
            Annotated[str, Field(max_length=CELL_MAX_CHARS)] | int | float | bool | None,
        ],
        Field(max_length=100),
    ] = {}


class SendingConfiguration(_Request):
    """Delays in seconds, fractions allowed. `pause_after_messages` left out with delays of 0: no rests.

    `guarantee`: whether a message of which nobody knows if it was taken waits for a person's decision
    (`at_most_once`), or is sent again, perhaps for the second time, as often as `max_retries` allows (`at_least_once`).
    """

    min_delay_seconds: float = 5
    max_delay_seconds: float = 15
    pause_after_messages: int | None = None
    pause_duration_seconds: float = 300
    max_retries: int = 3
    retry_delay_seconds: float = 120
    daily_limit: Annotated[int, Field(le=2_000_000_000)] | None = None
    allowed_hours_start: time | None = None
    allowed_hours_end: time | None = None
    weekdays: list[int] = [0, 1, 2, 3, 4, 5, 6]
    time_zone: Annotated[str, AfterValidator(_known_zone)] | None = None
    valid_until: AwareDatetime | None = None
    guarantee: Guarantee = "at_most_once"


class CampaignBody(_Request):
    """A draft needs only a name; a start needs an instance, messages and contacts."""

    name: Annotated[str, Field(min_length=1, max_length=200)]
    is_draft: bool = True
    api_config_id: UUID | None = None
    instance_pool: Annotated[list[UUID], Field(max_length=500)] = []
    google_sheets_url: Annotated[str, Field(max_length=2000)] | None = None
    sheet_id_column: Annotated[str, Field(min_length=1, max_length=100)] = "id"
    scheduled_at: AwareDatetime | None = None
    messages: Annotated[list[MessageStep], Field(max_length=20)] = []
    contacts: Annotated[list[ListedContact], Field(max_length=CONTACTS_MAX)] | None = None
    upload_id: UUID | None = None
    column_mapping: ColumnMapping | None = None
    tags: Annotated[list[Annotated[str, Field(max_length=100)]], Field(max_length=50)] | None = None
    sending_configuration: SendingConfiguration = SendingConfiguration()


class CampaignPatch(_Request):
    """Only what is given changes."""

    name: Annotated[str, Field(min_length=1, max_length=200)] | None = None
    api_config_id: UUID | None = None
    instance_pool: Annotated[list[UUID], Field(max_length=500)] | None = None
    google_sheets_url: Annotated[str, Field(max_length=2000)] | None = None
    sheet_id_column: Annotated[str, Field(min_length=1, max_length=100)] | None = None
    scheduled_at: AwareDatetime | None = None
    messages: Annotated[list[MessageStep], Field(max_length=20)] | None = None
    contacts: Annotated[list[ListedContact], Field(max_length=CONTACTS_MAX)] | None = None
    upload_id: UUID | None = None
    column_mapping: ColumnMapping | None = None
    tags: Annotated[list[Annotated[str, Field(max_length=100)]], Field(max_length=50)] | None = None
    sending_configuration: SendingConfiguration | None = None


class ScheduleBody(_Request):
    scheduled_at: AwareDatetime


class CloneBody(_Request):
    name: Annotated[str, Field(min_length=1, max_length=200)] | None = None


class AudienceReport(BaseModel):
    """How the list was taken; the rejected rows are in `GET /api/imports/{campaign id}/rejected.csv`."""

    total_contacts: int
    rejected: int = 0
    duplicates: int = 0
    opted_out: int = 0


class Campaign(BaseModel):
    """`status` is the exact state, `pausing` and `cancelling` included; `state` repeats it."""

    id: UUID
    name: str
    status: str
    state: str
    user_id: UUID | None
    api_config_id: UUID | None
    instance_pool: list[UUID]
    google_sheets_url: str | None
    sheet_id_column: str
    messages: list[MessageStep]
    sending_configuration: SendingConfiguration
    total_recipients: int
    total_contacts: int
    run_epoch: int
    failure_reason: str | None
    failure_detail: str
    scheduled_at: datetime | None
    started_at: datetime | None
    completed_at: datetime | None
    created_at: datetime
    updated_at: datetime
    sent_count: int = 0
    failed_count: int = 0
    audience: AudienceReport | None = None
    warnings: list[str] = []


class CampaignDone(BaseModel):
    success: Literal[True] = True
    campaign: Campaign


class CampaignCheck(BaseModel):
    """`blank_variables`: unknown or empty ones -> for how many recipients. `preview`: rendered for the first one.

    The plan as it would be now: recipients `by_instance` and `estimated_end`; null where nothing is ready to be
    planned, or the scheduler did not answer in time.
    """

    total_contacts: int
    total_messages: int
    ready: bool
    missing: list[str]
    blank_variables: dict[str, int]
    warnings: list[str]
    preview: list[dict[str, str]]
    by_instance: dict[str, int] | None = None
    problems: list[str] = []
    estimated_end: datetime | None = None


class Recipient(BaseModel):
    """`status`: sent, failed, pending or cancelled as before; `state` the exact one. `possibly_twice`: a message of
    the campaign may have come more than once."""

    model_config = ConfigDict(extra="allow")

    recipient_id: UUID
    external_id: str | None
    phone_number: str | None
    name: str | None
    custom_fields: dict[str, Any]
    status: str
    state: str
    sent_at: datetime | None = None
    error_message: str | None = None
    possibly_twice: bool = False


def definition_of(body: CampaignBody, owner_id: UUID | None, time_zone: str) -> Definition:
    pool = [*([body.api_config_id] if body.api_config_id else []), *body.instance_pool]
    ordered = sorted(body.messages, key=lambda step: step.order_index)  # stable: equal indexes keep their order
    return Definition(
        name=body.name.strip(),
        owner_id=owner_id,
        pool=tuple(dict.fromkeys(pool)),
        steps=tuple(
            Step(
                kind=step.content_type,
                content=step.content,
                media_url=step.media_url,
                file_name=step.file_name,
                template_name=step.template_name,
                template_language=step.template_language,
                template_parameters=tuple(step.template_parameters),
            )
            for step in ordered
        ),
        policy=policy_of(body.sending_configuration, time_zone),
        google_sheets_url=body.google_sheets_url,
        sheet_id_column=body.sheet_id_column,
    )


def policy_of(wanted: SendingConfiguration, time_zone: str) -> SendingPolicy:
    rests = wanted.pause_after_messages
    if "pause_after_messages" not in wanted.model_fields_set:
        rests = None if wanted.max_delay_seconds == 0 else 50
    return SendingPolicy(
        min_delay_s=wanted.min_delay_seconds,
        max_delay_s=wanted.max_delay_seconds,
        pause_after_messages=rests,
        pause_duration_s=wanted.pause_duration_seconds,
        max_retries=wanted.max_retries,
        daily_limit=wanted.daily_limit,
        allowed_hours_start=wanted.allowed_hours_start,
        allowed_hours_end=wanted.allowed_hours_end,
        weekdays=tuple(sorted(set(wanted.weekdays))),
        time_zone=wanted.time_zone or time_zone,
        valid_until=wanted.valid_until,
        guarantee=wanted.guarantee,
        retry_delay_s=wanted.retry_delay_seconds,
    )


def steps_shown(definition: Definition) -> list[MessageStep]:
    return [
        MessageStep(
            content_type=step.kind,
            content=step.content,
            media_url=step.media_url,
            order_index=index,
            file_name=step.file_name,
            template_name=step.template_name,
            template_language=step.template_language,
            template_parameters=list(step.template_parameters),
        )
        for index, step in enumerate(definition.steps)
    ]


def policy_shown(policy: SendingPolicy) -> SendingConfiguration:
    return SendingConfiguration(
        min_delay_seconds=policy.min_delay_s,
        max_delay_seconds=policy.max_delay_s,
        pause_after_messages=policy.pause_after_messages,
        pause_duration_seconds=policy.pause_duration_s,
        max_retries=policy.max_retries,
        retry_delay_seconds=policy.retry_delay_s,
        daily_limit=policy.daily_limit,
        allowed_hours_start=policy.allowed_hours_start,
        allowed_hours_end=policy.allowed_hours_end,
        weekdays=list(policy.weekdays),
        time_zone=policy.time_zone,
        valid_until=policy.valid_until,
        guarantee=policy.guarantee,
    )
