"""What the queue's routes take and give."""

from datetime import datetime
from typing import Annotated, Literal
from uuid import UUID

from pydantic import BaseModel, ConfigDict, Field

from contracts.operations import HoldScope


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
    """One queue for all accounts: its length is among the installation's metrics, and null here."""

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


class QueueAction(_Request):
    """`jobId`: one dispatch; without it all that match."""

    action: Literal["retry_dlq", "clear", "recover_stuck"]
    queue: Literal["campaigns", "webhooks"] = "campaigns"
    jobId: UUID | None = None  # noqa: N815
    campaign_id: UUID | None = None
    instance_id: UUID | None = None
    reason: Annotated[str, Field(max_length=100)] | None = None


class Decision(_Request):
    """On a message of which nobody can tell whether it was sent."""

    decision: Literal["was_sent", "send_again", "give_up"]


class HoldChange(_Request):
    """A kill-switch. `key`: instance id or template name; empty for the whole account."""

    scope: Literal["account", "instance", "template"]
    key: Annotated[str, Field(max_length=512)] = ""
    held: bool


class Hold(BaseModel):
    scope: HoldScope
    key: str
    held: bool
    version: int
    set_by: UUID | None
    set_at: datetime
