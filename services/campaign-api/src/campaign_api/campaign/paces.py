"""How fast campaigns go, for screens that ask every second."""

from datetime import datetime, timedelta
from typing import Final
from uuid import UUID

from sqlalchemy.ext.asyncio import AsyncConnection

from campaign_api.campaign import reading

EACH: Final = timedelta(seconds=5)
_REMEMBERED_MAX: Final = 10_000


class Paces:
    """Counting reads every message of the last minute, some ten thousand of a fast campaign: once in a while for all
    who ask."""

    def __init__(self) -> None:
        self._counted: dict[UUID, tuple[datetime, int]] = {}

    async def per_minute(self, connection: AsyncConnection, campaign_id: UUID, now: datetime) -> int:
        """Messages accepted within a minute that ended at most EACH ago. Who asks may see the campaign."""
        at, count = self._counted.get(campaign_id, (None, 0))
        if at is None or now - at >= EACH:
            count = await reading.sent_lately(connection, campaign_id)
            if len(self._counted) >= _REMEMBERED_MAX:
                self._counted.clear()
            self._counted[campaign_id] = now, count
        return count
