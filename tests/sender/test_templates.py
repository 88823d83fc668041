"""A template that its provider refuses: held for all numbers of the account until a person lifts it."""

from datetime import UTC, datetime, timedelta
from typing import Any
from uuid import UUID, uuid4

import pytest

from chassis.database import driver
from chassis.kafka import Received
from contracts.codec import decode
from contracts.envelope import Envelope
from contracts.instances import TemplateStatusChanged
from contracts.messages import Content, MessageQueued
from contracts.progress import TemplateFreed, TemplateStopped
from providers.failures import TEMPLATE_PAUSED
from sender import gates
from sender.consumers import Control
from sender.instance.counts import Counts
from sender.instance.warm_up import Policy
from sender.ledger.attempt import WasAccepted, WasRejected
from sender.ledger.delivery import Intend, Refuse
from sender.settlement import evidence
from sender.settlement.consequences import carry_out
from sender.settlement.evidence import Report
from sender_ledger import NUMBER, Ledger, number
from sender_parts import ACCOUNT, queued

pytestmark = pytest.mark.postgres
OTHER_NUMBER = UUID(int=43)
REFUSED = WasRejected(TEMPLATE_PAUSED.name, retryable=False, by="answer", code="132015")


def from_template(person: int, name: str = "oferta") -> MessageQueued:
    return queued(person, content=Content(kind="template", template_name=name))


async def lift(ledger: Ledger, version: int) -> None:
    async with ledger.database.transaction() as connection:
        order = gates.Hold("template", f"{ACCOUNT}:oferta", ACCOUNT, False, version)
        await gates.change(await driver(connection), [], [order], [])


async def test_a_refused_template_is_held_for_every_number_until_a_person_lifts_it(ledger: Ledger) -> None:
    epoch, other = await ledger.own(), await ledger.own(instance_id=OTHER_NUMBER)
    await ledger.intend([from_template(1)], epoch)
    assert await ledger.record([from_template(1)], epoch, REFUSED) == ["MessageFailed"]
    elsewhere = number(OTHER_NUMBER)
    (refused,) = await ledger.intend([from_template(2)], other, elsewhere)
    assert isinstance(refused, Refuse)
    assert refused.reason == "held"
    assert refused.not_before is not None, "it asks again: nobody tells when it is lifted"
    assert isinstance((await ledger.intend([from_template(3, "outra")], epoch))[0], Intend)
    assert isinstance((await ledger.intend([queued(4)], epoch))[0], Intend)
    await lift(ledger, version=1)
    assert isinstance((await ledger.intend([from_template(2)], other, elsewhere))[0], Intend)


async def test_a_failure_that_is_reported_later_holds_the_template_as_well(ledger: Ledger) -> None:
    epoch, message = await ledger.own(), from_template(1)
    await ledger.intend([message], epoch)
    await ledger.record([message], epoch, WasAccepted("wamid.1", by="answer"))
    now = datetime.now(UTC)
    report = Report(
        ACCOUNT, NUMBER, "wamid.1", "failed", now, now, key=(ACCOUNT, message.dispatch_id, 1),
        failure=TEMPLATE_PAUSED.name, code="132015",
    )  # fmt: skip
    async with ledger.database.transaction() as connection:
        consequences = await evidence.apply(connection, [report], now, Counts())
    await carry_out(ledger.database, consequences)
    assert [type(d) for d in await ledger.intend([from_template(2)], epoch)] == [Refuse]


async def test_a_stop_that_names_its_end_ends_by_itself(ledger: Ledger) -> None:
    epoch = await ledger.own()
    now = datetime.now(UTC)
    for until, expected in ((now + timedelta(hours=1), Refuse), (now - timedelta(seconds=1), Intend)):
        await ledger.read("DELETE FROM gate WHERE scope = 'template'")
        async with ledger.database.transaction() as connection:
            stop = gates.Stop(f"{ACCOUNT}:oferta", ACCOUNT, "template_paused", until)
            await gates.stop_templates(await driver(connection), [stop])
        assert [type(d) for d in await ledger.intend([from_template(until > now)], epoch)] == [expected]


async def test_the_providers_own_word_holds_and_frees_a_template_and_people_are_told(ledger: Ledger) -> None:
    epoch = await ledger.own()
    now = datetime.now(UTC)

    async def say(status: Any, at: datetime) -> None:
        word = TemplateStatusChanged(name="oferta", status=status, at=at)
        envelope = Envelope(uuid4(), "TemplateStatusChanged", 1, "tests", str(NUMBER), now, ACCOUNT)
        control = Control(closing=lambda _: None, configured=lambda: None, warm_up=Policy())
        async with ledger.database.transaction() as connection:
            await control.handle(connection, [Received("instance-health", 0, 0, None, 0, envelope, word)])

    async def told() -> list[Any]:
        rows = await ledger.read(
            "SELECT key, headers ->> 'ce_type' AS type, value FROM outbox WHERE topic = 'campaign-progress'"
            " ORDER BY position"
        )
        assert {row["key"] for row in rows} <= {str(ACCOUNT)}
        return [decode(row["type"].rpartition(".")[2], 1, bytes(row["value"])) for row in rows]

    await say("paused", now)
    await say("paused", now + timedelta(seconds=1))
    assert [type(d) for d in await ledger.intend([from_template(1)], epoch)] == [Refuse]
    await say("usable", now - timedelta(hours=1))
    assert [type(d) for d in await ledger.intend([from_template(1)], epoch)] == [Refuse], "an older word came late"
    await say("usable", now + timedelta(hours=1))
    assert [type(d) for d in await ledger.intend([from_template(1)], epoch)] == [Intend]
    await say("disabled", now + timedelta(hours=2))
    await lift(ledger, version=1)
    assert [type(d) for d in await ledger.intend([from_template(2)], epoch)] == [Intend]
    assert [type(event) for event in await told()] == [TemplateStopped, TemplateFreed, TemplateStopped]
    assert [event.template for event in await told()] == ["oferta"] * 3
    assert (await told())[2].reason == "template_disabled"
