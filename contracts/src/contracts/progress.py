"""What scheduler and sender report about a campaign (topic campaign-progress, keyed by campaign)."""

from typing import Any, Literal
from uuid import UUID

from pydantic import AwareDatetime, BaseModel, ConfigDict

from contracts.envelope import Event
from contracts.operations import HoldScope

DeadLetterFate = Literal["released", "after_resume", "campaign_reopened", "cancelled", "final"]
DispatchState = Literal["pending", "released", "accepted", "failed", "skipped", "expired", "cancelled", "unresolved"]
FINAL_STATES: frozenset[DispatchState] = frozenset(
    {"accepted", "failed", "skipped", "expired", "cancelled", "unresolved"}
)


class DispatchChange(BaseModel):
    """One dispatch's state after a change. `version` grows with each change: readers keep the highest.

    `reason`: why it waits, failed or was skipped (the failure's name, `opted_out`, `previous_step`, `paused`, …).
    `due_at`: when a waiting dispatch may be released, None if that depends on something else than time.
    `may_duplicate`, told with an outcome: an attempt before it may have arrived as well. `given_up`: a person cleared
    the dead letter.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    dispatch_id: UUID
    recipient_id: UUID
    step: int
    instance_id: UUID | None
    version: int
    attempt: int
    release: int
    state: DispatchState
    reason: str | None = None
    due_at: AwareDatetime | None = None
    may_duplicate: bool = False
    given_up: bool = False


class DispatchesChanged(Event):
    """At most 500 changes."""

    changes: tuple[DispatchChange, ...]


class CampaignDue(Event):
    """The scheduled time has come; campaign-api starts it if it is still scheduled for `scheduled_at`."""

    scheduled_at: AwareDatetime


class CampaignDrained(Event):
    """A run has nothing non-final (again). Completes the campaign only if run epoch and count match its stream."""

    run_epoch: int
    planned: int


class CampaignBlocked(Event):
    """A run cannot go on: no instance of its pool is usable."""

    run_epoch: int
    reason: Literal["no_usable_instance", "credentials_refused", "template_stopped", "plan_failed"]
    detail: str = ""


class LaneExplained(Event):
    """The scheduler's answer to ExplainRequested: every reason that holds the subject now, and until when.

    A reason has `scope` (what it is about), `reason` (its name), `until` (None: depends on an event, not on time),
    `detail`, `campaign_id`, `instance_id`; where they apply `since`, `count`, `limit`, and `slows`: true = it goes on,
    slower. `behind_s`: how old the request was when it was read. `waiting`: dispatches that have no outcome yet.
    """

    request_id: UUID
    reasons: tuple[dict[str, Any], ...]
    estimated_end: AwareDatetime | None = None
    behind_s: float = 0
    waiting: int | None = None


class SendingExplained(Event):
    """The sender's answer to ExplainRequested, in the same words: gates, owners, limits, what is under way."""

    request_id: UUID
    reasons: tuple[dict[str, Any], ...]
    behind_s: float = 0


class PlanPreviewed(Event):
    """The answer to PlanPreviewRequested: recipients by instance and the end under policy and limits."""

    request_id: UUID
    by_instance: dict[str, int]
    problems: tuple[str, ...] = ()
    estimated_end: AwareDatetime | None = None


class DeadLetterGroup(BaseModel):
    """Dead letters that have all of this in common, and what a requeue would make of them.

    `fate`: released as the lane allows · once the campaign is resumed · its ended campaign runs again · not in a
    cancelled campaign · not at all, because the reason cannot pass.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    campaign_id: UUID | None
    instance_id: UUID | None
    reason: str | None
    fate: DeadLetterFate
    count: int


class DeadLettersPreviewed(Event):
    """The answer to DeadLettersPreviewRequested: the largest groups, at most 500, and all that would be tried again."""

    request_id: UUID
    groups: tuple[DeadLetterGroup, ...]
    again: int


class DeadLettersTaken(Event):
    """From the scheduler: dead letters of this run, or one that a person has sent again, wait again, so a campaign that
    has ended runs on."""

    run_epoch: int
    count: int
    by: UUID | None = None


class HoldTaken(Event):
    """From the sender, keyed by account: since this version of the hold no intent that it covers can commit (or, where
    it was lifted, they can again)."""

    scope: HoldScope
    key: str = ""
    held: bool
    version: int


class TemplateStopped(Event):
    """From the sender, keyed by account: the provider stopped the template, so no intent with it can commit before
    `until` (None: until the provider approves it again or a person lifts the hold)."""

    template: str
    reason: str
    until: AwareDatetime | None = None
    at: AwareDatetime


class TemplateFreed(Event):
    """From the sender, keyed by account: what the provider had said of the template stops it no more."""

    template: str
    at: AwareDatetime


class GateClosed(Event):
    """From the sender: no intent up to `run_epoch` can commit any more and none is in flight."""

    run_epoch: int


ProgressEvent = (
    DispatchesChanged
    | CampaignDue
    | CampaignDrained
    | CampaignBlocked
    | LaneExplained
    | SendingExplained
    | PlanPreviewed
    | DeadLettersPreviewed
    | DeadLettersTaken
    | HoldTaken
    | TemplateStopped
    | TemplateFreed
    | GateClosed
)
