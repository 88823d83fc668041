"""The campaign: what it is, how events change it, what may happen next. No I/O, no clock.

Every decision answers the events to append, [] where the wanted thing is so already, or raises Refused.
"""

from collections.abc import Iterable
from dataclasses import asdict, dataclass, replace
from datetime import datetime
from functools import reduce
from typing import Literal, assert_never
from uuid import UUID

from contracts.campaigns import (
    CampaignCancelled,
    CampaignCancelling,
    CampaignCompleted,
    CampaignCreated,
    CampaignDeleted,
    CampaignEdited,
    CampaignEvent,
    CampaignFailed,
    CampaignPaused,
    CampaignPausing,
    CampaignResumed,
    CampaignScheduled,
    CampaignStarted,
    CampaignUnscheduled,
    Definition,
    FailReason,
)

Status = Literal[
    "none",
    "draft",
    "scheduled",
    "running",
    "pausing",
    "paused",
    "cancelling",
    "cancelled",
    "completed",
    "failed",
    "deleted",
]
NOTHING = Definition(name="")


class Refused(Exception):
    """The campaign's state does not allow what was asked; the text says why and is shown to the person."""


@dataclass(frozen=True, slots=True)
class Audience:
    """How many recipients stand behind the campaign, in how many chunks of RecipientsAdded, from which one on."""

    chunk_count: int = 0
    recipient_count: int = 0
    first_chunk: int = 0


@dataclass(frozen=True, slots=True)
class Campaign:
    """`audience` is the one that the run was started with; before the start it is empty."""

    status: Status = "none"
    definition: Definition = NOTHING
    run_epoch: int = 0
    scheduled_at: datetime | None = None
    audience: Audience = Audience()
    failure: FailReason | None = None
    failure_detail: str = ""
    retrying: bool = False

    @property
    def planned(self) -> int:
        return self.audience.recipient_count * len(self.definition.steps)


INITIAL = Campaign()


def evolve(campaign: Campaign, event: CampaignEvent) -> Campaign:
    match event:
        case CampaignCreated():
            return replace(campaign, status="draft", definition=event.definition)
        case CampaignEdited():
            return replace(campaign, definition=event.definition)
        case CampaignScheduled():
            return replace(campaign, status="scheduled", scheduled_at=event.scheduled_at)
        case CampaignUnscheduled():
            return replace(campaign, status="draft", scheduled_at=None)
        case CampaignStarted():
            return replace(
                campaign,
                status="running",
                definition=event.definition,
                run_epoch=event.run_epoch,
                audience=Audience(event.chunk_count, event.recipient_count, event.first_chunk),
            )
        case CampaignPausing():
            return replace(campaign, status="pausing")
        case CampaignPaused():
            return replace(campaign, status="paused")
        case CampaignResumed():
            return replace(
                campaign,
                status="running",
                run_epoch=event.run_epoch,
                failure=None,
                failure_detail="",
                retrying=event.retry == "failed",
            )
        case CampaignCancelling():
            return replace(campaign, status="cancelling")
        case CampaignCancelled():
            return replace(campaign, status="cancelled")
        case CampaignCompleted():
            return replace(campaign, status="completed")
        case CampaignFailed():
            return replace(campaign, status="failed", failure=event.reason, failure_detail=event.detail)
        case CampaignDeleted():
            return replace(campaign, status="deleted")
        case _:
            assert_never(event)


def folded(events: Iterable[CampaignEvent]) -> Campaign:
    return reduce(evolve, events, INITIAL)


def create(campaign: Campaign, *, definition: Definition, by: UUID | None) -> list[CampaignEvent]:
    if campaign.status == "none":
        return [CampaignCreated(run_epoch=0, by=by, definition=definition)]
    return []  # ids of creations are derived from the request: the same one again


def edit(campaign: Campaign, *, definition: Definition, by: UUID | None) -> list[CampaignEvent]:
    _must_exist(campaign)
    if campaign.status not in ("draft", "scheduled"):
        raise Refused("Only draft and scheduled campaigns can be edited")
    if campaign.definition == definition:
        return []
    return [CampaignEdited(run_epoch=campaign.run_epoch, by=by, definition=definition)]


def schedule(campaign: Campaign, *, at: datetime, audience: Audience, by: UUID | None) -> list[CampaignEvent]:
    """`at` was compared with the clock at the door."""
    _must_exist(campaign)
    if campaign.status not in ("draft", "scheduled"):
        raise Refused("Only draft and scheduled campaigns can be scheduled")
    if campaign.status == "scheduled" and campaign.scheduled_at == at:
        return []
    _must_be_complete(campaign.definition, audience)
    return [CampaignScheduled(run_epoch=campaign.run_epoch, by=by, scheduled_at=at)]


def unschedule(campaign: Campaign, *, by: UUID | None) -> list[CampaignEvent]:
    _must_exist(campaign)
    match campaign.status:
        case "scheduled":
            return [CampaignUnscheduled(run_epoch=campaign.run_epoch, by=by)]
        case "draft":
            return []
        case _:
            raise Refused("Only scheduled campaigns can be unscheduled")


def start(campaign: Campaign, *, audience: Audience, by: UUID | None) -> list[CampaignEvent]:
    _must_exist(campaign)
    match campaign.status:
        case "draft" | "scheduled":
            _must_be_complete(campaign.definition, audience)
            return [_started(campaign, audience, by)]
        case "running":
            return []
        case "paused" | "failed":
            raise Refused("The campaign was started already: resume it")
        case _:
            raise Refused(f"A campaign that is {campaign.status} cannot be started")


def come_due(campaign: Campaign, *, scheduled_at: datetime, audience: Audience) -> list[CampaignEvent]:
    """Its time has come: starts it if it is still scheduled for exactly this time."""
    if campaign.status != "scheduled" or campaign.scheduled_at != scheduled_at:
        return []
    return [_started(campaign, audience, None)]


def pause(campaign: Campaign, *, by: UUID | None) -> list[CampaignEvent]:
    _must_exist(campaign)
    match campaign.status:
        case "running":
            return [CampaignPausing(run_epoch=campaign.run_epoch, by=by)]
        case "pausing":
            return []
        case _:
            raise Refused("Only running campaigns can be paused")


def close_gate(campaign: Campaign, *, run_epoch: int) -> list[CampaignEvent]:
    """The sender reports that nothing up to `run_epoch` can be sent any more."""
    if run_epoch < campaign.run_epoch:
        return []
    match campaign.status:
        case "pausing":
            return [CampaignPaused(run_epoch=campaign.run_epoch)]
        case "cancelling":
            return [CampaignCancelled(run_epoch=campaign.run_epoch)]
        case _:
            return []


def resume(campaign: Campaign, *, by: UUID | None) -> list[CampaignEvent]:
    _must_exist(campaign)
    match campaign.status:
        case "paused" | "failed":
            return [CampaignResumed(run_epoch=campaign.run_epoch + 1, by=by)]
        case "running":
            return []
        case "pausing":
            raise Refused("The campaign is still pausing: resume it once it is paused")
        case _:
            raise Refused("Only paused and failed campaigns can be resumed")


def retry(campaign: Campaign, *, by: UUID | None) -> list[CampaignEvent]:
    """Also what failed for reasons that can pass is tried again."""
    _must_exist(campaign)
    match campaign.status:
        case "completed" | "failed":
            return [CampaignResumed(run_epoch=campaign.run_epoch + 1, by=by, retry="failed")]
        case "running" if campaign.retrying:
            return []
        case _:
            raise Refused("Only completed and failed campaigns can be retried")


def cancel(campaign: Campaign, *, by: UUID | None) -> list[CampaignEvent]:
    """Before the start nothing can be on its way; afterwards the sender must close the gate first."""
    _must_exist(campaign)
    match campaign.status:
        case "draft" | "scheduled":
            return [CampaignCancelled(run_epoch=campaign.run_epoch, by=by)]
        case "running" | "pausing" | "paused":
            return [CampaignCancelling(run_epoch=campaign.run_epoch, by=by)]
        case "cancelling" | "cancelled":
            return []
        case _:
            raise Refused(f"A campaign that is {campaign.status} cannot be cancelled")


def drain(campaign: Campaign, *, run_epoch: int, planned: int) -> list[CampaignEvent]:
    """Completes only if the report speaks of this run and of all that was planned."""
    if campaign.status != "running" or run_epoch != campaign.run_epoch or planned != campaign.planned:
        return []
    return [CampaignCompleted(run_epoch=campaign.run_epoch)]


def block(campaign: Campaign, *, run_epoch: int, reason: FailReason, detail: str) -> list[CampaignEvent]:
    if campaign.status != "running" or run_epoch != campaign.run_epoch:
        return []
    return [CampaignFailed(run_epoch=campaign.run_epoch, reason=reason, detail=detail)]


def delete(campaign: Campaign, *, by: UUID | None) -> list[CampaignEvent]:
    match campaign.status:
        case "none" | "deleted":
            return []
        case "running" | "pausing" | "cancelling":
            raise Refused("A running campaign cannot be deleted: cancel it first")
        case _:
            return [CampaignDeleted(run_epoch=campaign.run_epoch, by=by)]


def _started(campaign: Campaign, audience: Audience, by: UUID | None) -> CampaignStarted:
    return CampaignStarted(run_epoch=campaign.run_epoch + 1, by=by, definition=campaign.definition, **asdict(audience))


def _must_exist(campaign: Campaign) -> None:
    if campaign.status in ("none", "deleted"):
        raise Refused("The campaign was deleted")


def _must_be_complete(definition: Definition, audience: Audience) -> None:
    missing = [
        what
        for what, present in (
            ("an instance", definition.pool),
            ("messages", definition.steps),
            ("contacts", audience.recipient_count),
        )
        if not present
    ]
    if missing:
        raise Refused(f"The campaign cannot start without {', '.join(missing)}")
