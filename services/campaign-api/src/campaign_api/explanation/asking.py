"""Asks the scheduler and the sender at once, and says so where one of them does not answer."""

import asyncio
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Any
from uuid import UUID, uuid5

import orjson

from campaign_api.door.parts import Parts
from campaign_api.door.principal import Principal
from campaign_api.explanation.merging import read
from campaign_api.explanation.models import Reason, Teller
from campaign_api.operation import orders
from chassis.database import driver
from contracts.operations import ExplainRequested

POLL_S = 0.04
BEHIND_S = 1.0
_SAYS: Mapping[Teller, str] = {"scheduler": "scheduler", "sender": "sender"}


@dataclass(frozen=True, slots=True)
class Answers:
    """What came in time; `scheduler` and `sender` hold a reason of their own where nothing came."""

    scheduler: list[Reason]
    sender: list[Reason]
    waiting: int | None = None
    estimated_end: datetime | None = None


def sender_answer_id(request_id: UUID) -> UUID:
    """Where the sender's answer is kept, beside the scheduler's under the request's own id."""
    return uuid5(request_id, "sender")


async def ask(parts: Parts, principal: Principal, request: ExplainRequested) -> Answers:
    async with parts.web.transaction(account_id=principal.account_id) as connection:
        await orders.give(connection, principal.account_id, request, parts.now(), request.request_id)
    found = await _wait(parts, principal, request.request_id)
    plan = found.get(request.request_id)
    return Answers(
        scheduler=_reasons(plan, "scheduler"),
        sender=_reasons(found.get(sender_answer_id(request.request_id)), "sender"),
        waiting=None if plan is None else plan.get("waiting"),
        estimated_end=datetime.fromisoformat(plan["estimated_end"]) if plan and plan.get("estimated_end") else None,
    )


def _reasons(answer: Mapping[str, Any] | None, by: Teller) -> list[Reason]:
    if answer is None:
        return [Reason(scope="system", reason=f"{_SAYS[by]}_silent", told_by="campaign-api")]
    reasons = read(answer["reasons"], by)
    if (behind_s := answer.get("behind_s") or 0.0) > BEHIND_S:
        behind = Reason(scope="system", reason=f"{_SAYS[by]}_behind", count=round(behind_s, 1), slows=True, told_by=by)
        reasons.append(behind)
    return reasons


async def _wait(parts: Parts, principal: Principal, request_id: UUID) -> dict[UUID, dict[str, Any]]:
    """Both answers, or what is there after `answer_wait_s`."""
    wanted, found = [request_id, sender_answer_id(request_id)], dict[UUID, dict[str, Any]]()
    try:
        async with asyncio.timeout(parts.settings.answer_wait_s):
            while len(found) < len(wanted) and not parts.stopping.is_set():
                async with parts.web.transaction(account_id=principal.account_id) as connection:
                    rows = await (await driver(connection)).fetch(
                        "SELECT request_id, data::text AS data FROM answer WHERE request_id = ANY($1::uuid[])", wanted
                    )
                found = {row["request_id"]: orjson.loads(row["data"]) for row in rows}
                if len(found) < len(wanted):
                    await asyncio.sleep(POLL_S)
    except TimeoutError:
        pass
    return found
