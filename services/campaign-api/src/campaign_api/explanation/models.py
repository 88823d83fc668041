"""What the routes of explanations give."""

from datetime import datetime
from typing import Literal
from uuid import UUID

from pydantic import BaseModel

Teller = Literal["campaign-api", "scheduler", "sender"]
Subject = Literal["campaign", "instance", "dispatch"]


class Reason(BaseModel):
    """One thing that holds it. `text`: for people. `until` null = depends on an event or a person, not on time.

    `slows`: it goes on, slower. `moves`: what waits goes to other numbers. `instance_ids`: whom it is about.
    `count` and `limit` are of what the reason names. `by`: the person behind it, null = Pombo itself; `because`: in
    their own words.
    """

    scope: str
    reason: str
    text: str = ""
    slows: bool = False
    moves: bool = False
    until: datetime | None = None
    since: datetime | None = None
    detail: str | None = None
    count: float | None = None
    limit: float | None = None
    campaign_id: UUID | None = None
    instance_id: UUID | None = None
    instance_ids: list[UUID] = []
    by: UUID | None = None
    by_name: str | None = None
    because: str | None = None
    told_by: Teller = "scheduler"


class Explanation(BaseModel):
    """Every reason that holds it now, and until when. `summary`: in one sentence. `waiting`: messages without outcome.

    `estimated_end`: under the policy, all limits and the other campaigns of the same numbers; null = not before
    somebody acts. Of one message: when it leaves.
    """

    subject: Subject
    id: UUID
    name: str | None = None
    status: str | None = None
    summary: str
    reasons: list[Reason]
    waiting: int | None = None
    estimated_end: datetime | None = None
