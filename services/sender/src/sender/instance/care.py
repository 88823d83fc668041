"""How numbers are looked after: the two policies together, and what a rest means for the warm-up."""

from dataclasses import dataclass, field
from datetime import datetime
from uuid import UUID

from sqlalchemy.ext.asyncio import AsyncConnection

from sender.instance import rests, warming
from sender.instance.rules import Policy as RestPolicy
from sender.instance.warm_up import Policy as WarmUpPolicy
from sender.settings import Settings


@dataclass(frozen=True, slots=True)
class Care:
    """The policies of rests and of warm-ups."""

    rules: RestPolicy = field(default_factory=RestPolicy)
    warm_up: WarmUpPolicy = field(default_factory=WarmUpPolicy)


def care_of(settings: Settings) -> Care:
    return Care(
        RestPolicy(
            settings.rests_s,
            settings.rest_forget_s,
            settings.errors_share,
            settings.errors_least,
            settings.errors_window_s,
        ),
        WarmUpPolicy(
            day_s=settings.warm_up_day_s,
            delivered_share=settings.warm_up_delivered_share,
            answered_share=settings.warm_up_answered_share,
        ),
    )


async def begin_rest(
    connection: AsyncConnection,
    instance_id: UUID,
    reason: str,
    now: datetime,
    care: Care,
    at_least: datetime | None = None,
    happened_at: datetime | None = None,
) -> bool:
    """Whether a rest began; a number that is warmed up may send less afterwards."""
    begun = await rests.begin_rest(connection, instance_id, reason, now, care.rules, at_least, happened_at)
    if begun:
        await warming.slow(connection, instance_id, reason, now, care.warm_up)
    return begun
