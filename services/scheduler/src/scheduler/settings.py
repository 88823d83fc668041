"""What can be set for the scheduler: unit and default of each."""

from pydantic import BaseModel, ConfigDict, Field

from chassis.settings import ServiceSettings


class PacingSettings(BaseModel):
    """Waits in seconds.

    `horizon_s`: how many seconds of an instance's rate may be released without an outcome. `send_within_s` and
    `answer_within_s`: a released message older than this is returned by the sender instead of sent. `stuck_s`:
    released without an outcome for so long, a message is published again. `unpublished_s`: the same for one whose
    publication was not recorded. `mark_each_s`: how often what was published is recorded. `blocked_grace_s`: a run
    whose instances are all unusable for so long is reported. `move_after_s`: what a number that has been disconnected
    for so long has not sent moves to other numbers of the campaign's pool (at once if it is banned or deleted); None =
    never.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    horizon_s: float = Field(5.0, gt=0)
    send_within_s: float = Field(30.0, gt=0)
    answer_within_s: float = Field(300.0, gt=0)
    poll_s: float = Field(0.1, gt=0, description="how often due lanes are looked for when nothing wakes the worker")
    idle_s: float = Field(30.0, gt=0, description="how long a lane with nothing to do is left alone")
    sweep_s: float = Field(2.0, gt=0)
    stuck_s: float = Field(60.0, gt=0)
    unpublished_s: float = Field(3.0, gt=0)
    mark_each_s: float = Field(1.0, ge=0)
    blocked_grace_s: float = Field(10.0, ge=0)
    move_after_s: float | None = Field(300.0, ge=0)
    kept_days: float = Field(7.0, gt=0, description="final dispatches of ended campaigns are removed after this")


class BatchSettings(BaseModel):
    """Bounds of one transaction."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    lanes: int = Field(16, ge=1, description="lanes released in one transaction")
    lane_messages: int = Field(250, ge=1, description="messages of one lane in one transaction")
    plan_recipients: int = Field(5000, ge=1, description="recipients planned in one transaction")
    chore_dispatches: int = Field(2500, ge=1, description="dispatches changed in one transaction of a bulk change")


class Settings(ServiceSettings):
    """The scheduler's environment: PACING__HORIZON_S, BATCH__LANES, … beside what every service has."""

    pacing: PacingSettings = PacingSettings()
    batch: BatchSettings = BatchSettings()
