"""What campaign-api itself knows of why something waits: its state, who asked for it, who holds it. SQL."""

from collections import defaultdict
from collections.abc import Collection, Iterable, Mapping, Sequence
from math import ceil
from typing import TypeAlias
from uuid import UUID

from asyncpg import Record
from sqlalchemy.ext.asyncio import AsyncConnection

from campaign_api.explanation.models import Reason
from campaign_api.instance import store as instances
from chassis.database import driver
from contracts.campaigns import Definition
from contracts.instances import InstanceConfigured
from contracts.operations import PeopleWritten

Row: TypeAlias = Record
_STOPPING = ("CampaignPausing", "CampaignCancelling", "CampaignFailed", "CampaignCompleted", "CampaignCancelled")


async def of_campaign(connection: AsyncConnection, account_id: UUID, row: Row) -> list[Reason]:
    """Its state where it is not running, and who brought it there."""
    if row["status"] == "running":
        return []
    reason = Reason(
        scope="campaign",
        reason="campaign_not_running",
        detail=row["status"],
        campaign_id=row["id"],
        told_by="campaign-api",
    )
    if row["status"] == "scheduled":
        return [reason.model_copy(update={"until": row["scheduled_at"]})]
    if row["status"] == "failed":
        said = (row["failure"] or "unknown").replace("_", " ")
        reason.detail = f"failed: {said}" + (f" ({row['failure_detail']})" if row["failure_detail"] else "")
    stopped = await (await driver(connection)).fetchrow(
        "SELECT (data ->> 'by')::uuid AS by, recorded_at FROM event"
        " WHERE account_id = $1 AND stream_id = $2 AND type = ANY($3) ORDER BY version DESC LIMIT 1",
        account_id,
        row["id"],
        list(_STOPPING),
    )
    if stopped is not None and row["status"] not in ("draft", "deleted"):
        reason.by, reason.since = stopped["by"], stopped["recorded_at"]
    return [reason]


async def of_holds(
    connection: AsyncConnection, instance_ids: Iterable[UUID], definition: Definition | None
) -> list[Reason]:
    """Kill-switches that are set, with who set them and when."""
    templates = {step.template_name for step in definition.steps} if definition is not None else set()
    wanted = {("everything", ""), ("account", "")} | {("instance", str(each)) for each in instance_ids}
    wanted |= {("template", name) for name in templates if name is not None}
    rows = await (await driver(connection)).fetch("SELECT scope, key, set_by, set_at, reason FROM hold WHERE held")
    return [
        Reason(
            scope=row["scope"],
            reason="held",
            detail=f"template: {row['key']}" if row["scope"] == "template" else row["scope"],
            instance_id=UUID(row["key"]) if row["scope"] == "instance" else None,
            by=row["set_by"],
            since=row["set_at"],
            because=row["reason"] or None,
            told_by="campaign-api",
        )
        for row in rows
        if (row["scope"], row["key"]) in wanted
    ]


async def people_written(
    connection: AsyncConnection, instance_ids: Collection[UUID] | None = None
) -> tuple[PeopleWritten, ...]:
    """Of these numbers (None: of all) those with a limit of new people in 24 hours. Messages are counted, which are at
    least as many as people."""
    rows = await (await driver(connection)).fetch(
        "SELECT i.id, i.configuration::text AS configuration, w.messages_sent FROM instance i"
        " LEFT JOIN projections.instance_window w ON w.instance_id = i.id"
    )
    numbers = {row["id"]: (instances.configuration_of(row), row["messages_sent"] or 0) for row in rows}
    wanted = numbers.keys() if instance_ids is None else set(instance_ids)
    return tuple(one for one in share_quotas(numbers) if one.instance_id in wanted)


def share_quotas(numbers: Mapping[UUID, tuple[InstanceConfigured, int]]) -> list[PeopleWritten]:
    """What each number has of its own limit, or of the smallest that is known of its portfolio, which its numbers use
    up together: told as if they did so evenly. `numbers`: with the messages that each sent in 24 hours."""
    groups: dict[str, list[UUID]] = defaultdict(list)
    for instance_id, (configuration, _) in numbers.items():
        groups[configuration.portfolio_id or str(instance_id)].append(instance_id)
    found: list[PeopleWritten] = []
    for members in groups.values():
        limits = [limit for each in members if (limit := numbers[each][0].limits.unique_per_24h) is not None]
        if limits:
            limit = max(1, min(limits) // len(members))
            used = ceil(sum(numbers[each][1] for each in members) / len(members))
            found += [PeopleWritten(instance_id=each, limit=limit, used=used) for each in members]
    return found


async def queued(connection: AsyncConnection, dispatch_ids: Sequence[UUID]) -> Row | None:
    """Of a recipient's messages the first that still waits, else the last one."""
    rows = await (await driver(connection)).fetch(
        "SELECT id, campaign_id, instance_id, name, state FROM projections.message_queue WHERE id = ANY($1::uuid[])"
        " ORDER BY order_index",
        list(dispatch_ids),
    )
    waiting = [row for row in rows if row["state"] in ("pending", "released", "unresolved")]
    return waiting[0] if waiting else rows[-1] if rows else None


async def names_of_users(connection: AsyncConnection, user_ids: Iterable[UUID]) -> dict[UUID, str]:
    rows = await (await driver(connection)).fetch(
        "SELECT id, name FROM app_user WHERE id = ANY($1::uuid[])", list(user_ids)
    )
    return {row["id"]: row["name"] for row in rows}


async def names_of_instances(
    connection: AsyncConnection, instance_ids: Iterable[UUID]
) -> tuple[dict[UUID, str], dict[UUID, str]]:
    """And why those do not send that do not, as far as the last word of them says."""
    rows = await (await driver(connection)).fetch(
        "SELECT id, name, trouble FROM instance WHERE id = ANY($1::uuid[])", list(instance_ids)
    )
    return {row["id"]: row["name"] for row in rows}, {row["id"]: row["trouble"] for row in rows if row["trouble"]}
