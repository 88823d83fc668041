"""The campaign's stream: written by campaign-api only. Small; the run epoch is in each."""

from datetime import time
from typing import Literal
from uuid import UUID

from pydantic import AwareDatetime, BaseModel, ConfigDict

from contracts.envelope import Event
from contracts.ids import PersonalText

StepKind = Literal["text", "image", "video", "audio", "document", "template"]
Guarantee = Literal["at_most_once", "at_least_once"]
FailReason = Literal["no_usable_instance", "credentials_refused", "template_stopped", "plan_failed"]


class _Part(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")


class Step(_Part):
    """One ordered message. Variables `{{name|fallback}}` are replaced in `content` and template parameters."""

    kind: StepKind
    content: str = ""
    media_url: str | None = None
    file_name: str | None = None
    template_name: str | None = None
    template_language: str | None = None
    template_parameters: tuple[str, ...] = ()


class SendingPolicy(_Part):
    """Delays and rests in seconds (fractions allowed); hours in `time_zone`; weekdays 0 = Monday."""

    min_delay_s: float = 5
    max_delay_s: float = 15
    pause_after_messages: int | None = 50
    pause_duration_s: float = 300
    max_retries: int = 3
    daily_limit: int | None = None
    allowed_hours_start: time | None = None
    allowed_hours_end: time | None = None
    weekdays: tuple[int, ...] = (0, 1, 2, 3, 4, 5, 6)
    time_zone: str = "America/Sao_Paulo"
    valid_until: AwareDatetime | None = None
    guarantee: Guarantee = "at_most_once"
    retry_delay_s: float = 120


class Definition(_Part):
    """What a campaign sends, from where, and how."""

    name: str
    owner_id: UUID | None = None
    pool: tuple[UUID, ...] = ()
    steps: tuple[Step, ...] = ()
    policy: SendingPolicy = SendingPolicy()
    google_sheets_url: str | None = None
    sheet_id_column: str = "id"


class _Lifecycle(Event):
    """`run_epoch`: 0 before the first start, 1 once started, one more at each resume. `by`: the user, None = Pombo."""

    run_epoch: int
    by: UUID | None = None


class CampaignCreated(_Lifecycle):
    definition: Definition


class CampaignEdited(_Lifecycle):
    definition: Definition


class CampaignScheduled(_Lifecycle):
    scheduled_at: AwareDatetime


class CampaignUnscheduled(_Lifecycle):
    pass


class CampaignStarted(_Lifecycle):
    """The plan is complete when `chunk_count` chunks of RecipientsAdded are in, from `first_chunk` on, in any order."""

    definition: Definition
    chunk_count: int
    recipient_count: int
    first_chunk: int = 0


class CampaignPausing(_Lifecycle):
    """A person asked: no new intent of this run epoch may commit."""


class CampaignPaused(_Lifecycle):
    """The sender closed the gate: nothing of this run epoch is sent any more."""


class CampaignResumed(_Lifecycle):
    """`retry` = also what failed for reasons that can pass."""

    retry: Literal["none", "failed"] = "none"


class CampaignCancelling(_Lifecycle):
    pass


class CampaignCancelled(_Lifecycle):
    pass


class CampaignCompleted(_Lifecycle):
    pass


class CampaignFailed(_Lifecycle):
    reason: FailReason
    detail: str = ""


class CampaignDeleted(_Lifecycle):
    pass


CampaignEvent = (
    CampaignCreated
    | CampaignEdited
    | CampaignScheduled
    | CampaignUnscheduled
    | CampaignStarted
    | CampaignPausing
    | CampaignPaused
    | CampaignResumed
    | CampaignCancelling
    | CampaignCancelled
    | CampaignCompleted
    | CampaignFailed
    | CampaignDeleted
)


class Recipient(_Part):
    """A contact's place in one campaign. `phone`: E.164 digits without '+'."""

    recipient_id: UUID
    contact_id: UUID
    external_id: str
    phone: PersonalText
    name: PersonalText = ""
    custom_fields: dict[str, PersonalText] = {}


class RecipientsAdded(Event):
    """Published when the audience is made, long before most starts. At most 500 rows and 512 KB.

    `chunk` counts from 0 and on: an audience that replaces another one begins with the next free number, its
    `first_chunk`, and the chunks before that are of nobody any more.
    """

    chunk: int
    first_chunk: int = 0
    recipients: tuple[Recipient, ...]
