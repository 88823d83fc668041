"""A template that its provider refuses: held for all numbers of the account until a person lifts it."""

from datetime import UTC, datetime, timedelta
from uuid import UUID

import pytest

from chassis.database import driver
from contracts.messages import Content, MessageQueued
from providers.failures import TEMPLATE_PAUSED
from sender import gates
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
        consequences = await evidence.apply(connection, [report], now)
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
