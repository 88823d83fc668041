"""How fast a campaign goes is counted once in a while, not for each that asks."""

from datetime import UTC, datetime, timedelta
from typing import Any
from uuid import UUID, uuid4

import pytest

from campaign_api.campaign import reading
from campaign_api.campaign.paces import EACH, Paces

NOW = datetime(2026, 3, 1, 12, tzinfo=UTC)


async def test_those_who_ask_soon_after_each_other_share_a_count(monkeypatch: pytest.MonkeyPatch) -> None:
    counted: list[UUID] = []

    async def count(_connection: object, campaign_id: UUID) -> int:
        counted.append(campaign_id)
        return len(counted) * 10

    monkeypatch.setattr(reading, "sent_lately", count)
    paces, nobody, (one, other) = Paces(), Any, (uuid4(), uuid4())

    first = [await paces.per_minute(nobody, one, NOW + nth * EACH / 10) for nth in range(10)]
    assert first == [10] * 10
    assert await paces.per_minute(nobody, other, NOW) == 20
    assert await paces.per_minute(nobody, one, NOW + EACH) == 30
    assert await paces.per_minute(nobody, one, NOW + EACH + timedelta(seconds=1)) == 30
    assert counted == [one, other, one]
