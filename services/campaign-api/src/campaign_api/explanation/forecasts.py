"""When a campaign ends, for figures that are asked for every second: the forecast, asked for now and then."""

from datetime import datetime
from typing import Final
from uuid import UUID, uuid5

import orjson
from sqlalchemy.ext.asyncio import AsyncConnection

from campaign_api.campaign import store as campaigns
from campaign_api.explanation import facts
from campaign_api.operation import orders
from chassis.database import driver
from contracts.operations import ExplainRequested

EACH_S: Final = 15  # a forecast is at most about twice as old
_REMEMBERED_MAX: Final = 10_000
_ANSWERS = "SELECT request_id, data::text AS data FROM answer WHERE request_id = ANY($1::uuid[])"


class Forecasts:
    """One question in each span of time for each campaign that somebody looks at, whatever asks here how often. Its id
    is made of both, so that all replicas share the answer."""

    def __init__(self) -> None:
        self._asked: dict[UUID, UUID] = {}

    async def end_of(
        self, connection: AsyncConnection, account_id: UUID, row: campaigns.Row, now: datetime
    ) -> datetime | None:
        """Of a running campaign, as explain tells it; None also until the first answer is there, a moment later."""
        campaign_id: UUID = row["id"]
        span = int(now.timestamp()) // EACH_S
        newest, before = (uuid5(campaign_id, f"forecast:{nth}") for nth in (span, span - 1))
        rows = await (await driver(connection)).fetch(_ANSWERS, [newest, before])
        found = {one["request_id"]: orjson.loads(one["data"]) for one in rows}
        if newest not in found and self._asked.get(campaign_id) != newest:
            if len(self._asked) >= _REMEMBERED_MAX:
                self._asked.clear()
            self._asked[campaign_id] = newest
            await orders.give(connection, account_id, await request_of(connection, row, newest), now, newest)
        answer = found.get(newest) or found.get(before) or {}
        end = answer.get("estimated_end")
        return None if end is None else datetime.fromisoformat(end)


async def request_of(connection: AsyncConnection, row: campaigns.Row, request_id: UUID) -> ExplainRequested:
    """The question about a campaign, with what only this service knows of its numbers."""
    definition = campaigns.definition_of(row)
    return ExplainRequested(
        request_id=request_id,
        campaign_id=row["id"],
        run_epoch=row["run_epoch"],
        instance_ids=definition.pool,
        template_names=tuple(step.template_name for step in definition.steps if step.template_name),
        people_written=await facts.people_written(connection, definition.pool or None),
    )
