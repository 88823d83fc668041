"""What became of a campaign: statistics, recipients, the export."""

from collections.abc import AsyncIterator
from datetime import datetime
from typing import Annotated, Any
from uuid import UUID

from fastapi import APIRouter, Query, Response
from fastapi.responses import StreamingResponse
from pydantic import BaseModel

from campaign_api.campaign import models, reading
from campaign_api.campaign.http import visible
from campaign_api.door import cursors
from campaign_api.door.parts import Here, Parts
from campaign_api.door.principal import Operator, Principal
from campaign_api.door.problems import responses
from campaign_api.upload.tables import write_csv

EXPORT_PAGE = 1000
router = APIRouter(prefix="/api", tags=["campaigns"])


class Statistics(BaseModel):
    """Counts of recipients; the same by dispatch in `dispatches`. They add up to `total_contacts` at every moment.

    `delivery_rate` = sent ÷ total × 100. `messages_per_minute`: over the last minute. `possibly_twice`: messages that
    may have arrived more than once; `GET /api/whatsapp/queue/possibly-twice` names each. `estimated_end`: as explain
    tells it, at most half a minute old; null also in the first moment after nobody had looked.
    """

    campaign_id: UUID
    status: str
    total_contacts: int
    pending_count: int
    queued: int
    sent_count: int
    delivered: int
    read: int
    replied: int
    failed_count: int
    failed_by_reason: dict[str, int]
    skipped: int
    skipped_by_reason: dict[str, int]
    expired: int
    cancelled: int
    unresolved: int
    delivery_rate: float
    delivered_rate: float
    read_rate: float
    replied_rate: float
    dispatches: dict[str, int]
    possibly_twice: int
    messages_per_minute: int
    estimated_end: datetime | None


@router.get("/campaigns/{campaign_id}/statistics", responses=responses(404))
async def statistics(campaign_id: UUID, principal: Operator, parts: Here) -> Statistics:
    async with parts.web.transaction(account_id=principal.account_id, session=principal.session) as connection:
        row = await visible(connection, campaign_id)
        figures = dict((await reading.figures(connection, [campaign_id])).get(campaign_id) or {})
        running = row["status"] in ("running", "pausing", "cancelling")
        lately = await parts.paces.per_minute(connection, campaign_id, parts.now()) if running else 0
        going = row["status"] == "running"
        end = await parts.forecasts.end_of(connection, principal.account_id, row, parts.now()) if going else None
        twice = await reading.possibly_twice(connection, campaign_id)
    counted = _completed(figures, row["recipient_count"])
    return Statistics(
        campaign_id=campaign_id,
        status=row["status"],
        dispatches={name[11:]: value for name, value in figures.items() if name.startswith("dispatches_")},
        possibly_twice=twice,
        messages_per_minute=lately,
        estimated_end=end,
        **counted,
    )


_COUNTS = [
    "total_contacts",
    "pending_count",
    "queued",
    "sent_count",
    "delivered",
    "read",
    "replied",
    "failed_count",
    "skipped",
    "expired",
    "cancelled",
    "unresolved",
]
_RATES = ("delivery_rate", "delivered_rate", "read_rate", "replied_rate")


def _completed(figures: dict[str, Any], recipient_count: int) -> dict[str, Any]:
    """Recipients that the read model has not heard of yet are pending: the sum is right from the first moment."""
    counted: dict[str, Any] = {name: int(figures.get(name) or 0) for name in _COUNTS}
    counted |= {name: float(figures.get(name) or 0) for name in _RATES}
    counted |= {name: figures.get(name) or {} for name in ("failed_by_reason", "skipped_by_reason")}
    behind = recipient_count - counted["total_contacts"]
    if behind > 0:
        counted["pending_count"] += behind
        counted["total_contacts"] = recipient_count
        counted["delivery_rate"] = round(counted["sent_count"] * 100 / recipient_count, 2)
    return counted


@router.get("/campaigns/{campaign_id}/recipients", responses=responses(400, 404))
async def recipients(
    campaign_id: UUID,
    principal: Operator,
    parts: Here,
    page: cursors.Hundred,
    state: Annotated[list[str] | None, Query(max_length=20)] = None,
    search: Annotated[str | None, Query(max_length=200)] = None,
) -> list[models.Recipient]:
    """Filtered by state, status or delivery; the next page is in the header `Link`."""
    async with parts.web.transaction(account_id=principal.account_id, session=principal.session) as connection:
        await visible(connection, campaign_id)
        rows = await reading.recipients(
            connection, campaign_id, page.after(UUID), page.fetched, states=state or [], search=search or None
        )
    return [models.Recipient(**row) for row in page.cut(rows, "recipient_id")]


@router.get(
    "/campaigns/{campaign_id}/export.csv",
    response_class=Response,
    responses=responses(404) | {200: {"content": {"text/csv": {"schema": {"type": "string"}}}}},
)
async def export(campaign_id: UUID, principal: Operator, parts: Here) -> Response:
    """Every recipient with what became of it; safe to open in a spreadsheet."""
    async with parts.web.transaction(account_id=principal.account_id, session=principal.session) as connection:
        await visible(connection, campaign_id)
    headers = {"Content-Disposition": f'attachment; filename="campaign-{campaign_id}.csv"'}
    return StreamingResponse(_export(parts, principal, campaign_id), media_type="text/csv", headers=headers)


async def _export(parts: Parts, principal: Principal, campaign_id: UUID) -> AsyncIterator[bytes]:
    """A page at a time, each in a transaction of its own; a byte order mark so that spreadsheets read UTF-8."""
    columns = [
        "external_id",
        "phone_number",
        "name",
        "status",
        "state",
        "reason",
        "delivery_status",
        "sent_at",
        "replied_at",
        "error_message",
        "possibly_twice",
    ]
    yield b"\xef\xbb\xbf" + write_csv([columns]).encode()
    after: UUID | None = None
    while True:
        async with parts.web.transaction(account_id=principal.account_id, session=principal.session) as connection:
            rows = await reading.recipients(connection, campaign_id, after, EXPORT_PAGE)
        if not rows:
            return
        yield write_csv([[_text(row[name]) for name in columns] for row in rows]).encode()
        after = rows[-1]["recipient_id"]


def _text(value: Any) -> str:
    if isinstance(value, datetime):
        return value.isoformat()
    if isinstance(value, bool):
        return "yes" if value else ""
    return "" if value is None else str(value)
