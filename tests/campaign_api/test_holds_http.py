"""Kill-switches over HTTP: ordered, acknowledged once the sender heeds them, seen with who and why, audited."""

import asyncio
from collections.abc import Sequence
from typing import Any
from uuid import UUID

import pytest

from campaign_api import consumers
from campaign_api.operation.holds import NOBODY, set_everything
from campaign_parts import Bench, Person, bench, heard
from chassis.lifecycle import utc_now
from contracts.operations import HoldSet
from contracts.progress import HoldTaken, TemplateFreed, TemplateStopped
from pombo.backing import Database

pytestmark = pytest.mark.postgres


async def ordered(api: Bench, account_id: UUID) -> Sequence[HoldSet]:
    return [event for _, _, event in await api.outbox(account_id) if isinstance(event, HoldSet)]


async def heed(api: Bench, account_id: UUID, order: HoldSet) -> None:
    """The sender's word, as the consumer hears it."""
    taken = HoldTaken(scope=order.scope, key=order.key, held=order.held, version=order.version)
    async with api.application.parts.worker.transaction() as connection:
        record = heard("campaign-progress", account_id, account_id, taken)
        await consumers.Progress(utc_now).handle(connection, [record])


async def seen(person: Person) -> list[dict[str, Any]]:
    found: list[dict[str, Any]] = (await person.client.get("/api/holds")).json()
    return found


@pytest.mark.parametrize("spell", [str.upper, lambda key: key.replace("-", "")])
async def test_an_instance_is_held_however_its_id_is_written(api: Bench, ana: Person, spell: Any) -> None:
    instance_id = await ana.instance()
    body = {"scope": "instance", "key": spell(instance_id), "held": True, "reason": "x"}
    assert (await ana.client.put("/api/holds", json=body)).json()["key"] == instance_id
    assert [order.key for order in await ordered(api, ana.account_id)] == [instance_id]


async def test_a_hold_tells_who_when_and_why_and_is_audited(api: Bench, ana: Person) -> None:
    instance_id = await ana.instance()
    body = {"scope": "instance", "key": instance_id, "held": True, "reason": "reclamações no grupo"}
    answer = await ana.client.put("/api/holds", json=body)
    assert answer.status_code == 200, answer.text
    held = answer.json()
    assert (held["held"], held["reason"], held["set_by_name"]) == (True, "reclamações no grupo", "Ana")
    assert held["effective"] is False, "nobody said yet that it is heeded"
    (order,) = await ordered(api, ana.account_id)
    assert (order.scope, order.key, order.held, order.reason) == ("instance", instance_id, True, body["reason"])
    await heed(api, ana.account_id, order)
    assert [(one["key"], one["effective"]) for one in await seen(ana)] == [(instance_id, True)]

    released = (await ana.client.put("/api/holds", json=body | {"held": False, "reason": "resolvido"})).json()
    assert (released["held"], released["version"], released["effective"]) == (False, 2, False)
    entries = await api.rows(
        "SELECT action, actor_id, details FROM audit WHERE account_id = $1 AND action = 'hold.set' ORDER BY position",
        ana.account_id,
    )
    assert [(row["actor_id"], row["details"]["held"], row["details"]["reason"]) for row in entries] == [
        (ana.user_id, True, body["reason"]),
        (ana.user_id, False, "resolvido"),
    ]


async def test_the_answer_waits_until_the_sender_heeds_it(api_database: Database) -> None:
    async with bench(api_database, pause_wait_s=20.0) as api:
        person = await api.admin()
        asking = {"scope": "account", "held": True, "reason": "parem tudo"}

        async def obey() -> None:
            while not (orders := await ordered(api, person.account_id)):
                await asyncio.sleep(0.02)
            await heed(api, person.account_id, orders[0])

        answer, _ = await asyncio.gather(person.client.put("/api/holds", json=asking), obey())
        assert answer.json()["effective"] is True


async def test_an_older_word_of_the_sender_says_nothing_of_a_newer_order(api: Bench, ana: Person) -> None:
    for held in (True, False, True):
        await ana.client.put("/api/holds", json={"scope": "template", "key": "cupom", "held": held})
    first, second, third = await ordered(api, ana.account_id)
    await heed(api, ana.account_id, second)
    await heed(api, ana.account_id, first)
    assert [one["effective"] for one in await seen(ana)] == [False]
    await heed(api, ana.account_id, third)
    await heed(api, ana.account_id, first)
    assert [one["effective"] for one in await seen(ana)] == [True]


async def test_holds_are_of_one_account_and_of_what_it_has(api: Bench, ana: Person, rival: Person) -> None:
    instance_id = await ana.instance()
    body = {"scope": "instance", "key": instance_id, "held": True}
    assert (await rival.client.put("/api/holds", json=body)).status_code == 404
    assert (await ana.client.put("/api/holds", json={"scope": "account", "key": "x", "held": True})).status_code == 422
    assert (await ana.client.put("/api/holds", json={"scope": "everything", "held": True})).status_code == 422
    assert (await ana.client.put("/api/holds", json=body)).status_code == 200
    operator = await api.colleague(ana, "operator")
    assert (await operator.client.put("/api/holds", json=body)).status_code == 403
    assert [one["key"] for one in await seen(operator)] == [instance_id]
    assert await seen(rival) == []


async def test_whoever_runs_the_installation_holds_everything_and_everybody_sees_why(
    api: Bench, ana: Person, rival: Person
) -> None:
    parts = api.application.parts
    version = await set_everything(parts, held=True, reason="incident 12")
    order = (await ordered(api, NOBODY))[-1]
    assert (order.scope, order.key, order.held, order.version, order.by) == ("everything", "", True, version, None)
    await heed(api, NOBODY, order)
    for person in (ana, rival):
        (shown,) = [one for one in await seen(person) if one["scope"] == "everything"]
        assert (shown["held"], shown["reason"], shown["set_by"], shown["effective"]) == (
            True,
            "incident 12",
            None,
            True,
        )
    assert await set_everything(parts, held=False, reason="") == version + 1
    (last,) = await api.rows(
        "SELECT actor_kind, address, details FROM audit WHERE account_id = $1 ORDER BY position DESC LIMIT 1", NOBODY
    )
    assert (last["actor_kind"], last["details"]["held"]) == ("system", False)
    assert last["address"], "whose shell it was"


async def test_a_template_that_its_provider_stopped_is_shown_beside_the_holds(api: Bench, ana: Person) -> None:
    async def hear(event: TemplateStopped | TemplateFreed) -> None:
        async with api.application.parts.worker.transaction() as connection:
            record = heard("campaign-progress", ana.account_id, ana.account_id, event)
            await consumers.Progress(utc_now).handle(connection, [record])

    async def templates(person: Person) -> list[dict[str, Any]]:
        return [one for one in await seen(person) if one["scope"] == "template"]

    stranger = await api.admin()
    await hear(TemplateStopped(template="cupom", reason="template_paused", at=utc_now()))
    (shown,) = await templates(ana)
    assert (shown["scope"], shown["key"], shown["held"]) == ("template", "cupom", False)
    assert (shown["stopped_reason"], shown["stopped_until"]) == ("template_paused", None)
    assert "paused the template" in shown["stopped_text"]
    assert await templates(stranger) == []
    await ana.client.put("/api/holds", json={"scope": "template", "key": "cupom", "held": True})
    assert [(one["held"], one["stopped_reason"]) for one in await templates(ana)] == [(True, "template_paused")]
    await hear(TemplateFreed(template="cupom", at=utc_now()))
    assert [(one["held"], one["stopped_reason"]) for one in await templates(ana)] == [(True, None)]
