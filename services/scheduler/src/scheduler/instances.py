"""Instances as the scheduler needs them: usable or not, how fast, how many people. From configuration and health."""

from collections.abc import Sequence
from datetime import timedelta
from typing import Any
from uuid import UUID

import asyncpg
from sqlalchemy.ext.asyncio import AsyncConnection

from chassis.database import driver, hear_latest
from chassis.kafka import Received
from contracts.instances import (
    BreakerClosed,
    BreakerOpened,
    InstanceBanned,
    InstanceConfigured,
    InstanceConnected,
    InstanceDisconnected,
    InstanceLimitsChanged,
    InstanceRateRestored,
    InstanceThrottled,
    WarmUpChanged,
    WarmUpPlan,
    kinds_of,
    newest_of,
)
from scheduler.campaign.campaigns import account_of
from scheduler.lane import lanes
from scheduler.signals import Stage

# What the provider said stays until a person has acted (a new request, or the status set back to active).
_CONFIGURE = """
INSERT INTO instance AS i (instance_id, account_id, name, status, is_active, is_default, deleted, max_users, rate,
    target, wanted_version)
VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11)
ON CONFLICT (instance_id, account_id) DO UPDATE SET name = excluded.name, status = excluded.status,
    is_active = excluded.is_active, is_default = excluded.is_default, deleted = excluded.deleted,
    max_users = excluded.max_users, rate = excluded.rate, target = excluded.target,
    wanted_version = excluded.wanted_version, throttled_rate = NULL,
    health = CASE WHEN excluded.wanted_version > i.wanted_version
        OR excluded.status = 'active' AND i.status <> 'active' THEN NULL ELSE i.health END
"""
_HEALTH = "UPDATE instance SET health = $2 WHERE instance_id = $1"
# As good as banned, until the provider reinstates the account behind the number.
ACCOUNT_DISABLED = "account_disabled"
_REINSTATED = "UPDATE instance SET health = NULL WHERE instance_id = $1 AND health = $2"
_THROTTLED = "UPDATE instance SET throttled_rate = $2 WHERE instance_id = $1"
_DETECTED = "UPDATE instance SET detected_rate = $2, throttled_rate = NULL WHERE instance_id = $1"
_BLOCK = """
UPDATE lane SET blocked_until = $2, blocked_by = $3 WHERE instance_id = $1
"""
# A new day of the warm-up begins with what is still out: it may leave in this day, and is none of it once it came back.
# A slower day has used what it has.
_WARM_UP = """
UPDATE lane SET warm_used = CASE WHEN warm_begins_at = $3 THEN warm_used ELSE in_flight END, warm_allowance = $2,
    warm_begins_at = $3, warm_until = $4
WHERE instance_id = $1
"""
# Until the sender tells its days: what is released before that would leave as soon as the number can send.
_FIRST_DAY = """
UPDATE lane SET warm_used = in_flight, warm_allowance = $2, warm_begins_at = $3
WHERE instance_id = $1 AND warm_begins_at IS NULL
"""
# Since when it cannot send for a reason that may move what it has not sent. A person's pause is no such reason.
_STOPPED = """
UPDATE instance SET stopped_at = CASE WHEN deleted OR status IN ('banned', 'disconnected')
    OR health IN ('banned', 'account_disabled', 'disconnected') THEN coalesce(stopped_at, statement_timestamp()) END
WHERE instance_id = ANY($1::uuid[])
"""
# A breaker that only a person closes: looked at again then; until that the lane stands.
_UNTIL_A_PERSON_ACTS = timedelta(days=3650)


class Instances:
    def __init__(self, stage: Stage) -> None:
        self._stage = stage

    async def handle(self, connection: AsyncConnection, batch: Sequence[Received]) -> None:
        """Lanes are locked first (see lanes.py); nothing here locks a campaign."""
        raw = await driver(connection)
        owners = {UUID(one.envelope.subject): account_of(one) for one in batch}
        await lanes.create(raw, dict(sorted(owners.items())))
        await lanes.lock(raw, owners)
        for one in batch:
            instance_id = UUID(one.envelope.subject)
            await _apply(raw, instance_id, account_of(one), await _newest(raw, instance_id, one))
            if isinstance(one.event, InstanceConfigured) and one.event.warm_up is not None:
                await raw.execute(_FIRST_DAY, instance_id, first_day(one.event.warm_up), one.envelope.time)
        await raw.execute(_STOPPED, list(owners))
        self._stage.wake_instances(owners)


def first_day(plan: WarmUpPlan) -> int:
    """What the sender will tell of a number whose warm-up begins."""
    return max(1, min(plan.first_day, plan.full_per_day))


async def _newest(raw: asyncpg.Connection, instance_id: UUID, record: Received) -> Any:
    """What gateways tell late or again changes nothing; what the sender tells comes in its order."""
    event = record.event
    if not isinstance(event, InstanceConnected | InstanceDisconnected | InstanceBanned | InstanceLimitsChanged):
        return event
    at = min(event.at, record.envelope.time)  # a gateway's clock may be ahead
    newest = await hear_latest(raw, "instance", "instance_id = $3", kinds_of(event), at, instance_id)
    return newest_of(event, newest)


async def _apply(raw: asyncpg.Connection, instance_id: UUID, account_id: UUID, event: Any) -> None:
    match event:
        case InstanceConfigured():
            await raw.execute(
                _CONFIGURE,
                instance_id,
                account_id,
                event.name,
                event.status,
                event.is_active,
                event.is_default,
                event.deleted,
                event.max_users,
                event.limits.messages_per_second,
                event.limits.target_per_second,
                event.wanted_version,
            )
        case InstanceConnected():
            await raw.execute(_HEALTH, instance_id, "connected")
        case InstanceDisconnected():
            await raw.execute(_HEALTH, instance_id, "disconnected")
        case InstanceBanned():
            await raw.execute(_HEALTH, instance_id, "banned")
        case InstanceThrottled():
            await raw.execute(_THROTTLED, instance_id, event.messages_per_second)
        case InstanceRateRestored():
            await raw.execute(_THROTTLED, instance_id, None)
        case InstanceLimitsChanged() if event.messages_per_second is not None:
            await raw.execute(_DETECTED, instance_id, event.messages_per_second)
        case BreakerOpened():
            until = event.until or event.at + _UNTIL_A_PERSON_ACTS
            await raw.execute(_BLOCK, instance_id, until, f"breaker: {event.reason}")
            if event.reason == ACCOUNT_DISABLED:
                await raw.execute(_HEALTH, instance_id, ACCOUNT_DISABLED)
        case BreakerClosed():
            await raw.execute(_BLOCK, instance_id, None, None)
            await raw.execute(_THROTTLED, instance_id, None)
            await raw.execute(_REINSTATED, instance_id, ACCOUNT_DISABLED)
        case WarmUpChanged():
            await raw.execute(_WARM_UP, instance_id, event.allowance, event.begins_at, event.ends_at)
        case _:
            return
