"""What people order across services (topic operations, keyed by account id)."""

from typing import Literal
from uuid import UUID

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
    campaign_id: UUID | None = None
    instance_id: UUID | None = None
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
    name, or '' for the account or everything."""

    scope: HoldScope
    key: str = ""
    held: bool
    version: int
    by: UUID | None = None


class ExplainRequested(Event):
    request_id: UUID
    campaign_id: UUID | None = None
    instance_id: UUID | None = None
    dispatch_id: UUID | None = None


class PlanPreviewRequested(Event):
    """Before the start the scheduler knows nothing of the campaign: `definition` and `recipient_count` tell it."""

    request_id: UUID
    campaign_id: UUID
    definition: Definition | None = None
    recipient_count: int = 0


OperationEvent = (
    DeadLettersRequeued
    | DeadLettersCleared
    | StuckRecoveryRequested
    | UnresolvedDecided
    | HoldSet
    | ExplainRequested
    | PlanPreviewRequested
)
