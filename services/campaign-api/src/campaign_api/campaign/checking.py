"""The dry run: what can be told here at once, and what the scheduler answers within two seconds."""

import asyncio
from collections.abc import Mapping
from typing import Any
from uuid import UUID, uuid4

from sqlalchemy.ext.asyncio import AsyncConnection

from campaign_api.campaign import store
from campaign_api.campaign.definition import faults_of, warnings_of
from campaign_api.campaign.recipients import contacts_of
from campaign_api.campaign.variables import blanks, render, values_of
from campaign_api.door.parts import Parts
from campaign_api.door.principal import Principal
from campaign_api.explanation.facts import people_written
from campaign_api.instance import store as instances
from campaign_api.operation import orders
from campaign_api.operation import store as answers
from contracts.campaigns import Definition
from contracts.operations import PlanPreviewRequested

POLL_S = 0.05
POOL_MAX = 500
# What only the scheduler can tell; all else of its list is told by `look` already.
_PROBLEMS = {
    "no_usable_instance": "no instance of the campaign can send now",
    "hours_never_open": "the allowed hours and weekdays never open",
    "ends_after_validity": "it would not be through before valid_until: what is left then expires",
}


async def look(connection: AsyncConnection, account_id: UUID, row: store.Row) -> dict[str, Any]:
    definition = store.definition_of(row)
    audience = await store.audience_row(connection, account_id, row["id"])
    total = audience["recipient_count"] if audience else 0
    known = await instances.kinds(connection, definition.pool)
    missing = [
        what
        for what, present in (("instance", definition.pool), ("messages", definition.steps), ("contacts", total))
        if not present
    ]
    problems = [fault.text for fault in faults_of(definition)]
    problems += [f"instance {one} is gone" for one in definition.pool if one not in known]
    problems += [
        f"instance {configuration.name} is {configuration.status}"
        for configuration in known.values()
        if configuration.status != "active"
    ]
    blank = blanks(definition.steps, audience["filled"] if audience else {}, total)
    return {
        "total_contacts": total,
        "total_messages": total * len(definition.steps),
        "ready": not missing and not faults_of(definition),
        "missing": missing,
        "blank_variables": blank,
        "warnings": warnings_of(definition, any(one.provider in ("evolution_web", "zapi") for one in known.values())),
        "preview": await _preview(connection, account_id, row["id"], definition),
        "problems": problems,
    }


async def _preview(
    connection: AsyncConnection, account_id: UUID, campaign_id: UUID, definition: Definition
) -> list[dict[str, str]]:
    async for chunk in store.chunks(connection, account_id, campaign_id):
        for sample in contacts_of(chunk, 1):
            values = values_of(sample)
            return [
                {"content_type": step.kind, "content": render(step.content, values), "phone_number": sample.phone}
                for step in definition.steps
            ]
    return []


async def ask_plan(
    parts: Parts, principal: Principal, campaign_id: UUID, definition: Definition | None, recipient_count: int
) -> dict[str, Any]:
    """Recipients by instance, the estimated end and what would stop it, where the scheduler answers in time.

    `definition`: of a campaign that was not started yet.
    """
    request_id = uuid4()
    async with parts.web.transaction(account_id=principal.account_id) as connection:
        known = await instances.some(connection, None, POOL_MAX)
        names = {str(row["id"]): row["name"] for row in known}
        event = PlanPreviewRequested(
            request_id=request_id,
            campaign_id=campaign_id,
            definition=definition,
            recipient_count=recipient_count,
            people_written=await people_written(connection),
        )
        await orders.give(connection, principal.account_id, event, parts.now(), request_id)
    data = await wait_for_answer(parts, principal, request_id)
    if data is None:
        return {}
    return {
        "by_instance": data["by_instance"],
        "estimated_end": data.get("estimated_end"),
        "problems": [text for problem in data["problems"] if (text := _told(problem, names))],
    }


def _told(problem: str, names: Mapping[str, str]) -> str | None:
    """In words; None where `look` told it already."""
    kind, _, subject = problem.partition(": ")
    if kind.startswith("instance_") and subject in names:
        return f"instance {names[subject]} is {kind.removeprefix('instance_')}"
    return _PROBLEMS.get(problem)


async def wait_for_answer(parts: Parts, principal: Principal, request_id: UUID) -> dict[str, Any] | None:
    """None where none came within `answer_wait_s`."""
    try:
        async with asyncio.timeout(parts.settings.answer_wait_s):
            while not parts.stopping.is_set():
                async with parts.web.transaction(account_id=principal.account_id) as connection:
                    if (data := await answers.answer(connection, request_id)) is not None:
                        return data
                await asyncio.sleep(POLL_S)
    except TimeoutError:
        pass
    return None
