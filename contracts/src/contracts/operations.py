"""What people order across services (topic operations, keyed by account id)."""

from typing import Literal
from uuid import UUID

from pydantic import BaseModel, ConfigDict

from contracts.campaigns import Definition
from contracts.envelope import Event

HoldScope = Literal["everything", "account", "instance", "template"]


class DeadLettersRequeued(Event):
    """Failed dispatches are tried again; all of the filter's fields must match."""

    campaign_id: UUID | None = None
    instance_id: UUID | None = None
    dispatch_ids: tuple[UUID, ...] = ()
    reason: str | None = None
    by: UUID | None = None


class DeadLettersCleared(Event):
    """They are not offered for another try any more; all of the filter's fields must match."""

    campaign_id: UUID | None = None
    instance_id: UUID | None = None
    dispatch_ids: tuple[UUID, ...] = ()
    reason: str | None = None
    by: UUID | None = None


class DeadLettersPreviewRequested(Event):
    """What DeadLettersRequeued with the same filter would do: the scheduler answers DeadLettersPreviewed."""

    request_id: UUID
    campaign_id: UUID | None = None
    instance_id: UUID | None = None
    dispatch_ids: tuple[UUID, ...] = ()
    reason: str | None = None


class UnreadWebhooksReplayed(Event):
    """Webhooks that could not be translated are tried again; all of the filter's fields must match."""

    instance_id: UUID | None = None
    webhook_ids: tuple[UUID, ...] = ()
    reason: str | None = None
    by: UUID | None = None


class UnreadWebhooksCleared(Event):
    """They are given up; all of the filter's fields must match."""

    instance_id: UUID | None = None
    webhook_ids: tuple[UUID, ...] = ()
    reason: str | None = None
    by: UUID | None = None


class StuckRecoveryRequested(Event):
    by: UUID | None = None


class UnresolvedDecided(Event):
    """A person decided on an unresolved dispatch."""

    dispatch_id: UUID
    decision: Literal["was_sent", "send_again", "give_up"]
    by: UUID


class HoldSet(Event):
    """A kill-switch: nothing goes out while held. `version` grows; the highest wins. `key`: instance id, template
    name, or '' for the account or everything. `reason`: what whoever set it wrote down."""

    scope: HoldScope
    key: str = ""
    held: bool
    version: int
    by: UUID | None = None
    reason: str = ""


class PeopleWritten(BaseModel):
    """How much of a number's 24-hour limit of new people is used, as far as whoever asks knows it."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    instance_id: UUID
    limit: int
    used: int


class ExplainRequested(Event):
    """The scheduler and the sender answer, each what it knows: LaneExplained and SendingExplained.

    One of the three subjects. `run_epoch` is the campaign's. `instance_ids`: the numbers that it, or the dispatch, may
    be sent from. `people_written`: for the estimated end.
    """

    request_id: UUID
    campaign_id: UUID | None = None
    instance_id: UUID | None = None
    dispatch_id: UUID | None = None
    run_epoch: int = 0
    instance_ids: tuple[UUID, ...] = ()
    template_names: tuple[str, ...] = ()
    people_written: tuple[PeopleWritten, ...] = ()


class PlanPreviewRequested(Event):
    """Before the start the scheduler knows nothing of the campaign: `definition` and `recipient_count` tell it."""

    request_id: UUID
    campaign_id: UUID
    definition: Definition | None = None
    recipient_count: int = 0
    people_written: tuple[PeopleWritten, ...] = ()


OperationEvent = (
    DeadLettersRequeued
    | DeadLettersCleared
    | DeadLettersPreviewRequested
    | UnreadWebhooksReplayed
    | UnreadWebhooksCleared
    | StuckRecoveryRequested
    | UnresolvedDecided
    | HoldSet
    | ExplainRequested
    | PlanPreviewRequested
)
