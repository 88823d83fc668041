"""What the queue's routes take and give."""

from datetime import datetime
from typing import Annotated, Any, Literal
from uuid import UUID

from pydantic import BaseModel, ConfigDict, Field

from contracts.operations import HoldScope
from contracts.progress import DeadLetterFate


class _Request(BaseModel):
    model_config = ConfigDict(extra="forbid")


class QueueFigures(BaseModel):
    """`oldest_age_s`: of what is pending or processing. `rate`: accepted in the last minute."""

    pending: int = 0
    processing: int = 0
    dead_letters: int = 0
    unresolved: int = 0
    oldest_age_s: float | None = None
    rate: int = 0


class WebhookFigures(BaseModel):
    """`dead_letters`: webhooks of the account's numbers that could not be translated, `oldest_age_s` of these. What
    waits is one queue for all accounts: its length is among the installation's metrics, and null here."""

    pending: int | None = None
    processing: int | None = None
    dead_letters: int | None = None
    oldest_age_s: float | None = None
    rate: int | None = None


class InstanceQueue(QueueFigures):
    """`window_used`: messages sent within 24 hours, at least as many as people reached; `window_limit`: of people."""

    instance_id: UUID | None
    name: str | None = None
    tier: str | None = None
    breaker: str | None = None
    breaker_until: datetime | None = None
    window_limit: int | None = None
    window_used: int = 0


class QueueStats(BaseModel):
    campaigns: QueueFigures
    webhooks: WebhookFigures
    instances: list[InstanceQueue]


class DeadLetterFilter(_Request):
    """`jobId`, `jobIds`: one dispatch (or webhook), some; without them all that match everything else."""

    queue: Literal["campaigns", "webhooks"] = "campaigns"
    jobId: UUID | None = None  # noqa: N815
    jobIds: Annotated[tuple[UUID, ...], Field(max_length=500)] = ()  # noqa: N815
    campaign_id: UUID | None = None
    instance_id: UUID | None = None
    reason: Annotated[str, Field(max_length=100)] | None = None

    def named(self) -> tuple[UUID, ...]:
        return tuple(dict.fromkeys((*((self.jobId,) if self.jobId else ()), *self.jobIds)))

    def fields(self) -> dict[str, Any]:
        """In the words of the orders about dispatches."""
        wanted = {"campaign_id": self.campaign_id, "instance_id": self.instance_id, "reason": self.reason}
        return wanted | {"dispatch_ids": self.named()}

    def of_webhooks(self) -> dict[str, Any]:
        """In the words of the orders about webhooks. Raises ValueError where the filter is for dispatches."""
        if self.campaign_id is not None:
            raise ValueError("A webhook belongs to no campaign: leave campaign_id out")
        return {"instance_id": self.instance_id, "webhook_ids": self.named(), "reason": self.reason}


class QueueAction(DeadLetterFilter):
    """The filter is for dead letters; what is stuck is looked for everywhere."""

    action: Literal["retry_dlq", "clear", "recover_stuck"]


class DeadLetterGroup(BaseModel):
    """`fate`: released at once · after the campaign is resumed · its ended campaign runs again · not tried, because it
    is cancelled · not tried, because the reason cannot pass."""

    campaign_id: UUID | None
    instance_id: UUID | None
    reason: str | None
    fate: DeadLetterFate
    count: int


class DeadLetterPreview(BaseModel):
    """The largest groups; `again`: how many would be tried again in all."""

    groups: list[DeadLetterGroup]
    again: int


class Decision(_Request):
    """On a message of which nobody can tell whether it was sent."""

    decision: Literal["was_sent", "send_again", "give_up"]


class HoldChange(_Request):
    """A kill-switch. `key`: instance id or template name; empty for the whole account."""

    scope: Literal["account", "instance", "template"]
    key: Annotated[str, Field(max_length=512)] = ""
    held: bool
    reason: Annotated[str, Field(max_length=500)] = ""


class Hold(BaseModel):
    """`effective`: the sender heeds it, so that only what was on its way before can still arrive.

    `stopped_*`: beside it, what the provider says of the template: since when and why nothing is sent with it, until
    when (null: until the provider approves it again, or a person sets `held` to false), and what to do.
    """

    scope: HoldScope
    key: str
    held: bool
    version: int
    set_by: UUID | None
    set_by_name: str | None = None
    set_at: datetime
    reason: str = ""
    effective: bool = False
    stopped_reason: str | None = None
    stopped_text: str | None = None
    stopped_until: datetime | None = None
    stopped_at: datetime | None = None
