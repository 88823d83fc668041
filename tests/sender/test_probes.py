"""What gateways are asked now and then, against the provider simulator, and what an id of ours is good for."""

from datetime import UTC, datetime
from pathlib import Path
from typing import Any
from uuid import UUID

import pytest

from contracts.codec import decode
from contracts.ids import attempt_label
from contracts.instances import InstanceConfigured, InstanceLimitsChanged
from providers.evolution.send import derive_message_id
from providers.protocol import Account
from providers.registry import PROVIDERS
from sender.gateway.client import Gateway
from sender.instance.instances import Instances
from sender.instance.probes import Probes
from sender.ledger.attempt import NoAnswer
from sender.ledger.delivery import Intend
from sender.settlement.evidence import Report
from sender_ledger import NUMBER, Ledger, number
from sender_parts import ACCOUNT, BOX, add_meta_number, queued, settings
from simulated_providers import simulator

pytestmark = pytest.mark.postgres
OTHER = UUID(int=43)
CHOOSING: dict[str, Any] = {
    "config": InstanceConfigured(name="n", provider="evolution_web", server_url=""),
    "account": Account("evolution_web", gateway_version="2.4.0"),
    "provider": PROVIDERS["evolution_web"],
    "labelled": False,
    "chooses_ids": True,
}


async def add(ledger: Ledger, instance_id: UUID, config: InstanceConfigured) -> None:
    await ledger.read(
        "INSERT INTO instance (instance_id, account_id, config) VALUES ($1, $2, $3::jsonb)",
        instance_id,
        ACCOUNT,
        config.model_dump_json(),
    )


async def test_a_gateways_version_and_a_numbers_limits_are_asked_for(ledger: Ledger, tmp_path: Path) -> None:
    async with simulator(tmp_path, {"settings": {"evolution_version": "2.4.0"}}) as played:
        await add_meta_number(played.http, played.url, "1055", tier="TIER_10K", quality="YELLOW")
        token = BOX.seal("token-1055", account_id=ACCOUNT, instance_id=NUMBER, field="access_token")
        meta = InstanceConfigured(
            name="m", provider="meta_cloud", server_url=played.url, phone_number_id="1055",
            credentials={"access_token": token},
        )  # fmt: skip
        await add(ledger, NUMBER, meta)
        web = InstanceConfigured(name="e", provider="evolution_web", server_url=played.url, gateway_instance="loja")
        await add(ledger, OTHER, web)
        own = settings(allowed_hosts=(played.url.removeprefix("http://"),))
        instances, gateway = Instances(ledger.database, BOX, own), Gateway(own)
        await gateway.open()
        try:
            probes = Probes(ledger.database, gateway, instances, 3600.0)
            assert await probes.ask() == 2
            assert await probes.ask() == 0
        finally:
            await gateway.close()

        rows = await ledger.read("SELECT headers ->> 'ce_type' AS type, value FROM outbox")
        (told,) = [decode(row["type"].rpartition(".")[2], 1, bytes(row["value"])) for row in rows]
        assert isinstance(told, InstanceLimitsChanged)
        assert (told.tier, told.unique_per_24h, told.messages_per_second, told.quality) == (
            "TIER_10K",
            10_000,
            80,
            "YELLOW",
        )
        await instances.refresh()
        chooses = {one.instance_id: (one.chooses_ids, one.account.gateway_version) for one in instances.all()}
        assert chooses == {NUMBER: (False, None), OTHER: (True, "2.4.0")}


async def test_an_uncertain_send_is_recognised_by_the_id_that_we_chose(ledger: Ledger) -> None:
    epoch, choosing = await ledger.own(), number(**CHOOSING)
    one, two, three = (queued(n, content=queued(1).content) for n in range(3))  # the same words to each
    assert all(isinstance(d, Intend) for d in await ledger.intend([one, two, three], epoch, choosing))
    await ledger.record([one, two, three], epoch, NoAnswer("no_answer"))
    assert dict(await ledger.states()) == {"ambiguous": 3}

    def seen(message: Any, fact: str) -> Report:
        identity, now = derive_message_id(attempt_label(message.dispatch_id, message.attempt)), datetime.now(UTC)
        return Report(ACCOUNT, NUMBER, identity, fact, now, now)

    await ledger.report(seen(one, "delivered"), seen(two, "echo"))
    await ledger.report(seen(one, "echo"))
    states = await ledger.read("SELECT dispatch_id, state, evidence FROM attempt ORDER BY state, evidence")
    assert [(row["dispatch_id"], row["state"], row["evidence"]) for row in states] == [
        (one.dispatch_id, "accepted", "bound_id"),
        (two.dispatch_id, "accepted", "echo"),
        (three.dispatch_id, "ambiguous", None),
    ]
