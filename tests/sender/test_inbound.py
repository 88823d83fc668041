"""What a number receives is kept free in its rate, on a real PostgreSQL."""

from datetime import UTC, datetime
from uuid import UUID

import pytest

from chassis.database import driver
from contracts.instances import InstanceConfigured, Limits, ProviderKind
from sender.instance import inbound
from sender.instance.instances import Instances
from sender.settlement import evidence
from sender_ledger import NUMBER, Ledger
from sender_parts import ACCOUNT, BOX, settings

pytestmark = pytest.mark.postgres
WEB = UUID(int=43)


async def test_a_number_that_receives_much_sends_that_much_less(ledger: Ledger) -> None:
    kinds: list[tuple[UUID, ProviderKind]] = [(NUMBER, "meta_cloud"), (WEB, "evolution_web")]
    for instance_id, provider in kinds:
        limits = Limits(messages_per_second=80, target_per_second=80)
        config = InstanceConfigured(name="n", provider=provider, server_url="", limits=limits)
        await ledger.read(
            "INSERT INTO instance (instance_id, account_id, config) VALUES ($1, $2, $3::jsonb)",
            instance_id,
            ACCOUNT,
            config.model_dump_json(),
        )
    instances = Instances(ledger.database, BOX, settings())
    assert set(await instances.refresh()) == {NUMBER, WEB}

    def rate(instance_id: UUID) -> float:
        found = instances.get(instance_id)
        assert found is not None
        return found.rate.per_second

    full = rate(NUMBER)
    async with ledger.database.transaction() as connection:
        raw = await driver(connection)
        now = datetime.now(UTC)
        await evidence.note_traffic(raw, {NUMBER: (ACCOUNT, now), WEB: (ACCOUNT, now)})
        await inbound.note(raw, {NUMBER: 150, WEB: 150})
        await inbound.note(raw, {NUMBER: 100})
    assert await instances.refresh() == [NUMBER]
    # 25 a second, and a fifth more because the measure is late.
    assert 45 < rate(NUMBER) < 53 < full
    assert rate(WEB) == full

    await ledger.read("UPDATE ingest_watermark SET inbound_at = inbound_at - interval '60 seconds' RETURNING 1 AS done")
    assert await instances.refresh() == [NUMBER]
    assert rate(NUMBER) == full
    assert await instances.refresh() == []
