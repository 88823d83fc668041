"""Why nothing leaves, as the sender's ledger has it: each reason is the one that an intent meets."""

from datetime import UTC, datetime, timedelta
from typing import Any
from uuid import UUID, uuid4

import pytest

from chassis.database import driver
from contracts.instances import InstanceConfigured, Limits
from contracts.messages import Content
from contracts.operations import ExplainRequested
from contracts.progress import SendingExplained
from sender import gates
from sender.lane.quota import WINDOW_S
from sender.ledger.attempt import NoAnswer
from sender.ledger.delivery import Gate, Intend, Refuse, shut_gates
from sender.ledger.explanations import explain
from sender.work import EVERYTHING, template_gate
from sender_ledger import NUMBER, Ledger, number
from sender_parts import ACCOUNT, queued

CAMPAIGN = UUID(int=7)


async def explained(ledger: Ledger, **subject: Any) -> SendingExplained:
    request = ExplainRequested(request_id=uuid4(), **subject)
    async with ledger.database.transaction() as connection:
        return await explain(await driver(connection), ACCOUNT, request, datetime.now(UTC))


async def change(ledger: Ledger, *holds: gates.Hold, closes: tuple[gates.Close, ...] = ()) -> None:
    async with ledger.database.transaction() as connection:
        await gates.change(await driver(connection), closes, holds, [])


async def configure(ledger: Ledger, *, stopped: str | None = None, **limits: Any) -> None:
    config = InstanceConfigured(
        name="n", provider="meta_cloud", server_url="", portfolio_id="p", limits=Limits(**limits)
    )
    async with ledger.database.transaction() as connection:
        await (await driver(connection)).execute(
            "INSERT INTO instance (instance_id, account_id, config, stopped_reason, stopped_at)"
            " VALUES ($1, $2, $3::jsonb, $4, CASE WHEN $4::text IS NOT NULL THEN now() END)",
            NUMBER, ACCOUNT, config.model_dump_json(), stopped,
        )  # fmt: skip


def names(answer: SendingExplained) -> list[tuple[str, str]]:
    return [(one["scope"], one["reason"]) for one in answer.reasons]


def test_an_intent_meets_the_first_of_the_gates_that_people_are_told_of() -> None:
    keys = [EVERYTHING, ("account", "a"), ("campaign", "c")]
    shut = {EVERYTHING: Gate(held=True), ("account", "a"): Gate(), ("campaign", "c"): Gate(closed_through=1)}
    found = list(shut_gates(keys, 1, shut, 0.0))
    assert found == [(EVERYTHING, Refuse("held")), (("campaign", "c"), Refuse("paused"))]
    assert list(shut_gates(keys, 2, shut, 0.0)) == found[:1]


@pytest.mark.postgres
async def test_every_gate_that_is_shut_is_told(ledger: Ledger) -> None:
    epoch = await ledger.own()
    template = Content(kind="template", template_name="natal", template_language="pt_BR")
    message = queued(1, campaign_id=CAMPAIGN, content=template)
    subject = {"campaign_id": CAMPAIGN, "run_epoch": 1, "instance_ids": (NUMBER,), "template_names": ("natal",)}
    assert (await explained(ledger, **subject)).reasons == ()
    await change(
        ledger,
        gates.Hold("account", str(ACCOUNT), ACCOUNT, held=True, version=1),
        gates.Hold("instance", str(NUMBER), ACCOUNT, held=True, version=1),
        closes=(gates.Close(str(CAMPAIGN), ACCOUNT, 1, cancelled=False, asked_by=uuid4()),),
    )
    key = template_gate(ACCOUNT, "natal")[1]
    async with ledger.database.transaction() as connection:
        until = datetime.now(UTC) + timedelta(hours=3)
        await gates.stop_templates(await driver(connection), [gates.Stop(key, ACCOUNT, "template_paused", until)])
    answer = await explained(ledger, **subject)
    assert names(answer) == [
        ("account", "held"),
        ("instance", "held"),
        ("campaign", "template_stopped"),
        ("campaign", "gate_closing"),
    ]
    assert answer.reasons[2]["detail"] == "natal: template_paused"
    assert answer.reasons[2]["until"] == until.isoformat()
    assert isinstance((await ledger.intend([message], epoch))[0], Refuse)
    assert names(await explained(ledger, **(subject | {"run_epoch": 2})))[-1] == ("campaign", "template_stopped")


@pytest.mark.postgres
async def test_a_full_window_says_until_when_an_intent_is_refused(ledger: Ledger) -> None:
    epoch, one = await ledger.own(), number(quota=2)
    await configure(ledger, unique_per_24h=2)
    await ledger.intend([queued(n) for n in range(2)], epoch, one)
    (full,) = (await explained(ledger, instance_id=NUMBER)).reasons
    (refused,) = await ledger.intend([queued(3)], epoch, one)
    assert isinstance(refused, Refuse)
    assert refused.not_before is not None
    assert (full["reason"], full["count"], full["limit"]) == ("quota", 2, 2)
    assert abs(datetime.fromisoformat(full["until"]) - refused.not_before) < timedelta(seconds=1)
    await ledger.read(
        "UPDATE quota_seen SET last_at = last_at - make_interval(secs => $1) RETURNING 1", float(WINDOW_S)
    )
    assert (await explained(ledger, instance_id=NUMBER)).reasons == ()
    assert isinstance((await ledger.intend([queued(3)], epoch, one))[0], Intend)


@pytest.mark.postgres
async def test_a_stopped_number_a_lost_owner_and_a_limiter_ahead_are_told(ledger: Ledger) -> None:
    await ledger.own()
    await configure(ledger, stopped="credentials")
    assert names(await explained(ledger, instance_id=NUMBER)) == [("instance", "sender_stopped")]
    await ledger.read(
        "UPDATE instance_owner SET lease_until = now() - interval '1 s', tat = now() + interval '30 s' RETURNING 1"
    )
    answer = await explained(ledger, instance_id=NUMBER)
    assert [one["reason"] for one in answer.reasons] == ["sender_stopped", "no_owner", "limiter"]
    assert answer.reasons[0]["detail"] == "credentials"


@pytest.mark.postgres
async def test_a_dispatch_under_way_and_one_whose_answer_was_lost(ledger: Ledger) -> None:
    epoch, message = await ledger.own(), queued(1)
    assert (await explained(ledger, dispatch_id=message.dispatch_id)).reasons == ()
    await ledger.intend([message], epoch)
    (way,) = (await explained(ledger, dispatch_id=message.dispatch_id)).reasons
    assert way["reason"] == "under_way"
    assert datetime.fromisoformat(way["until"]) > datetime.now(UTC)
    await ledger.record([message], epoch, NoAnswer("no_answer"))
    assert names(await explained(ledger, dispatch_id=message.dispatch_id)) == [("dispatch", "attempt_ambiguous")]
