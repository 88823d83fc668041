"""A person who asked to be forgotten: no campaign reaches them, and no table tells who they were."""

from datetime import UTC, datetime
from typing import Any, Literal

import pytest

from chassis.database import driver
from contracts.ids import personal_fields, recipient_key
from contracts.messages import Content, MessageQueued
from sender import gates
from sender.ledger.attempt import NoAnswer, WasAccepted
from sender.ledger.delivery import Fail, Intend
from sender.ledger.erasure import without_person
from sender_ledger import NUMBER, Ledger, number
from sender_parts import ACCOUNT, queued

PHONE = "5511987654321"


async def consent(ledger: Ledger, kind: Literal["out", "in", "forgotten"]) -> None:
    async with ledger.database.transaction() as connection:
        order = gates.Consent(ACCOUNT, recipient_key(queued(1, phone=PHONE).address), kind, datetime.now(UTC))
        await gates.change(await driver(connection), [], [], [order])


async def everything_kept(ledger: Ledger) -> str:
    tables = ("attempt", "opt_out", "quota_seen", "service_window", "evidence")
    found = [await ledger.read(f"SELECT * FROM {table}") for table in tables]
    return repr(found)


@pytest.mark.postgres
async def test_what_is_kept_of_a_forgotten_person_names_them_no_more(ledger: Ledger) -> None:
    epoch, instance = await ledger.own(), number(quota=10)
    await ledger.read("INSERT INTO instance (instance_id, account_id, config) VALUES ($1, $2, '{}')", NUMBER, ACCOUNT)
    accepted, uncertain = (queued(n, phone=PHONE, content=Content(kind="text", text="Olá, Ana")) for n in (1, 2))
    under_way, somebody = queued(3, phone=PHONE), queued(4)
    messages = [accepted, uncertain, under_way, somebody]
    await ledger.intend(messages, epoch, instance)
    await ledger.record([accepted], epoch, WasAccepted("wamid.5511987654321", by="answer"))
    await ledger.record([uncertain], epoch, NoAnswer("no_answer"))
    await consent(ledger, "out")
    before = await ledger.states()

    await consent(ledger, "forgotten")

    await ledger.record([under_way], epoch, WasAccepted("wamid.5511987654321.2", by="answer"))
    kept = await everything_kept(ledger)
    for trace in ("87654321", "Ana"):
        assert trace not in kept
    assert somebody.address.phone is not None
    assert somebody.address.phone[-8:] in kept
    assert before == {"accepted": 1, "ambiguous": 1, "intent": 2}
    assert await ledger.states() == {"accepted": 2, "ambiguous": 1, "intent": 1}
    used = await ledger.read("SELECT used, (SELECT count(*) FROM quota_seen) AS seen FROM quota")
    assert used == [{"used": 2, "seen": 2}], "the limit still counts them"


@pytest.mark.postgres
async def test_a_forgotten_person_gets_no_campaign_until_they_opt_in(ledger: Ledger) -> None:
    epoch = await ledger.own()
    await consent(ledger, "forgotten")
    assert await ledger.intend([queued(1, phone=PHONE)], epoch) == (Fail("opted_out"),)
    answer = queued(2, phone=PHONE, priority="person", campaign_id=None)
    assert isinstance((await ledger.intend([answer], epoch))[0], Intend)
    await consent(ledger, "in")
    assert isinstance((await ledger.intend([queued(3, phone=PHONE)], epoch))[0], Intend)


def test_every_field_that_is_marked_personal_is_left_out() -> None:
    content = Content(
        kind="template", text="t", media_url="u", file_name="f", template_name="oferta", template_components=({"a": 1},)
    )
    message = without_person(queued(1, phone=PHONE, content=content))
    for path in personal_fields(MessageQueued):
        value: Any = message
        for name in path.removesuffix(".*").split("."):
            value = getattr(value, name)
        assert not value, path
    assert message.content.template_name == "oferta"
