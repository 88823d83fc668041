"""A message's way out: queued for the sender, and every outcome (topics message-queued and message-sent)."""

from typing import Annotated, Any, Literal
from uuid import UUID

from pydantic import AwareDatetime, BaseModel, ConfigDict

from contracts.envelope import Event
from contracts.ids import PERSONAL, Address, PersonalText

ContentKind = Literal["text", "image", "video", "audio", "document", "template"]
Priority = Literal["person", "campaign", "automation"]
ReturnReason = Literal[
    "paused",
    "cancelled",
    "held",
    "quota",
    "pair_rate",
    "breaker",
    "retry_budget",
    "throttled",
    "expired",
    "instance_unknown",
    "instance_stopped",
    "shutting_down",
]


class Content(BaseModel):
    """Rendered: nothing is left to be replaced. `template_components` as Meta's API takes them."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    kind: ContentKind
    text: PersonalText = ""
    media_url: PersonalText | None = None
    file_name: PersonalText | None = None
    mime_type: str | None = None
    template_name: str | None = None
    template_language: str | None = None
    template_components: Annotated[tuple[dict[str, Any], ...], PERSONAL] = ()


class MessageQueued(Event):
    """Keyed by instance id. Work that can be done now, one attempt of one dispatch.

    `release` counts the releases of this attempt; answers repeat it. `send_before`: the end of allowed hours,
    validity or feed horizon, whichever is first. `may_duplicate`: an earlier attempt ended unresolved and the
    campaign (or a person) accepts a possible duplicate.
    """

    dispatch_id: UUID
    attempt: int
    release: int
    campaign_id: UUID | None
    run_epoch: int
    recipient_id: UUID | None
    contact_id: UUID
    step: int
    priority: Priority
    address: Address
    content: Content
    send_before: AwareDatetime
    may_duplicate: bool = False
    reply_to: str | None = None


class Outcome(Event):
    """What every answer to a MessageQueued repeats. Keyed by dispatch id (the envelope's subject)."""

    instance_id: UUID
    attempt: int
    release: int
    campaign_id: UUID | None
    run_epoch: int
    recipient_id: UUID | None
    step: int


class MessageSent(Outcome):
    """Accepted by the provider. `address` in the provider's canonical form where it answered one."""

    provider_message_id: str
    message_id: UUID
    contact_id: UUID
    chat_id: UUID
    address: Address
    content: Content
    sent_at: AwareDatetime


class MessageFailed(Outcome):
    """`reason`: a name of the closed list of failures. `counts`: uses up one of `max_retries`.

    `not_before`: the earliest time that the provider's error allows for another attempt.
    """

    reason: str
    retryable: bool
    counts: bool = True
    code: str | None = None
    detail: str = ""
    not_before: AwareDatetime | None = None


class MessageAmbiguous(Outcome):
    """The bytes left and no answer proves anything: neither sent nor failed until evidence comes."""

    reason: str


class MessageResolved(Outcome):
    """An ambiguous attempt was settled by evidence, or ended `unresolved`."""

    outcome: Literal["accepted", "unresolved"]
    evidence: Literal["label", "echo", "bound_id", "look_up", "person", "none"]
    provider_message_id: str | None = None
    message_id: UUID | None = None
    contact_id: UUID | None = None
    chat_id: UUID | None = None
    address: Address | None = None
    content: Content | None = None
    sent_at: AwareDatetime | None = None


class MessageReturned(Outcome):
    """Refused before any intent: nothing was sent; the dispatch waits again."""

    reason: ReturnReason
    not_before: AwareDatetime | None = None


MessageEvent = MessageSent | MessageFailed | MessageAmbiguous | MessageResolved | MessageReturned
