"""What settles attempts whose answer was lost: statuses, echoes, look-ups, silence; on a real PostgreSQL."""

import asyncio
from datetime import UTC, datetime
from typing import Any

import pytest
from aiohttp import web
from aiohttp.test_utils import TestServer

from contracts.messages import MessageQueued
from providers.protocol import Account
from providers.registry import PROVIDERS
from sender.gateway.client import Gateway
from sender.instance.counts import Counts
from sender.instance.instances import Instances
from sender.ledger.attempt import NoAnswer, WasAccepted
from sender.settlement import evidence
from sender.settlement.evidence import Report
from sender.settlement.look_ups import LookUps
from sender.settlement.reconcile import hash_text
from sender.settlement.sweeps import Sweeps
from sender_ledger import NUMBER, Ledger, number, works
from sender_parts import ACCOUNT, BOX, queued, settings

pytestmark = pytest.mark.postgres


def _status(message: MessageQueued, status: str, **more: Any) -> Report:
    now = datetime.now(UTC)
    key = (ACCOUNT, message.dispatch_id, message.attempt)
    return Report(ACCOUNT, NUMBER, "wamid.1", status, now, now, key=key, **more)


async def test_a_status_with_our_label_settles_an_attempt_in_any_state(ledger: Ledger) -> None:
    epoch = await ledger.own()
    early, uncertain = queued(1), queued(2)
    await ledger.intend([early, uncertain], epoch)
    await ledger.record([uncertain], epoch, NoAnswer("no_answer"))
    await ledger.report(_status(early, "sent"), _status(uncertain, "delivered"), _status(uncertain, "sent"))
    assert await ledger.states() == {"accepted": 2}
    assert sorted(await ledger.outbox()) == ["MessageResolved", "MessageSent"]
    await ledger.report(_status(early, "sent"), _status(uncertain, "read"))
    assert len(await ledger.outbox()) == 2


async def test_a_late_failure_counts_unless_it_was_delivered(ledger: Ledger) -> None:
    epoch = await ledger.own()
    failing, arrived = queued(1), queued(2)
    await ledger.intend([failing, arrived], epoch)
    await ledger.record([failing, arrived], epoch, WasAccepted("wamid.1", by="answer"))
    await ledger.report(
        _status(arrived, "delivered"), _status(arrived, "failed"), _status(failing, "failed", failure="marketing_cap")
    )
    assert await ledger.outbox() == ["MessageFailed"]
    assert await ledger.states() == {"accepted": 1, "rejected_retryable": 1}


REPORTED = """
SELECT coalesce(sum(sent), 0)::int AS sent, coalesce(sum(delivered), 0)::int AS delivered,
       coalesce(sum(errors), 0)::int AS errors FROM instance_report
"""


async def test_what_is_told_twice_counts_once_for_its_number(ledger: Ledger) -> None:
    """In one batch, in the next one, in whatever order, by label and by the provider's id."""
    epoch = await ledger.own()
    answered, uncertain, failing = queued(1), queued(2), queued(3)
    await ledger.intend([answered, uncertain, failing], epoch)
    for message, identity in ((answered, "wamid.1"), (failing, "wamid.3")):
        await ledger.record([message], epoch, WasAccepted(identity, by="answer"))
    await ledger.record([uncertain], epoch, NoAnswer("no_answer"))
    told = [
        _status(answered, "sent"),
        _status(uncertain, "sent"),
        _status(failing, "sent"),
        _status(answered, "delivered"),
        _status(uncertain, "read"),
        _status(failing, "failed", failure="cause_lost"),
        _status(answered, "read"),
    ]
    by_id = _status(answered, "delivered")._replace(key=None)
    await ledger.report(*told[:2], *told[:2])
    assert await ledger.read(REPORTED) == [{"sent": 2, "delivered": 0, "errors": 0}]
    for _ in range(2):
        await ledger.report(*told, *reversed(told), by_id)
        await ledger.report(by_id, *told)
    assert await ledger.read(REPORTED) == [{"sent": 3, "delivered": 2, "errors": 1}]


async def test_what_was_kept_counts_once_when_its_message_is_known(ledger: Ledger) -> None:
    epoch = await ledger.own()
    now = datetime.now(UTC)
    message = queued(1)
    await ledger.intend([message], epoch, number(labelled=False))
    delivered = Report(ACCOUNT, NUMBER, "3EB0D", "delivered", now, now)
    await ledger.report(delivered, delivered._replace(fact="sent"), delivered)
    assert await ledger.read(REPORTED) == [{"sent": 0, "delivered": 0, "errors": 0}]
    await ledger.record([message], epoch, WasAccepted("3EB0D", by="answer"))
    sweeps = Sweeps(ledger.database, settings())
    for _ in range(2):
        await sweeps.sweep_evidence()
        await ledger.report(delivered)
    assert await ledger.read(REPORTED) == [{"sent": 1, "delivered": 1, "errors": 0}]


async def test_an_echo_settles_what_is_uncertain_also_when_it_came_first(ledger: Ledger) -> None:
    epoch = await ledger.own()
    web = number(labelled=False)
    before, after = queued(1), queued(2)
    await ledger.intend([before, after], epoch, web)
    now = datetime.now(UTC)

    def echo(message: MessageQueued, identity: str) -> Report:
        recipient = works([message])[0].recipient
        text = hash_text(message.content.text)
        return Report(ACCOUNT, NUMBER, identity, "echo", now, now, recipient=recipient, text_hash=text)

    await ledger.record([before], epoch, NoAnswer("no_answer"))
    await ledger.report(echo(before, "3EB01"), echo(after, "3EB02")._replace(text_hash=hash_text("other")))
    found = {row["state"]: row["evidence"] for row in await ledger.read("SELECT state, evidence FROM attempt")}
    assert found == {"accepted": "echo", "intent": None}
    await ledger.record([after], epoch, NoAnswer("no_answer"))
    await ledger.report(echo(after, "3EB03"))
    assert await ledger.states() == {"accepted": 2}


async def test_a_report_that_fits_nothing_is_kept_until_its_message_is_known(ledger: Ledger) -> None:
    epoch = await ledger.own()
    now = datetime.now(UTC)
    web, message = number(labelled=False), queued(1)
    await ledger.intend([message], epoch, web)
    failed = Report(ACCOUNT, NUMBER, "3EB0F", "failed", now, now, failure="cause_lost")
    await ledger.report(failed, failed)
    await ledger.record([message], epoch, WasAccepted("3EB0F", by="answer"))
    async with ledger.database.transaction() as connection:
        await evidence.fit_kept(connection, now, Counts())
    assert await ledger.states() == {"rejected_final": 1}
    assert await ledger.outbox() == ["MessageFailed"]
    assert await ledger.read("SELECT * FROM evidence") == []


async def test_what_was_kept_counts_before_a_failure_that_comes_after_it(ledger: Ledger) -> None:
    """Delivered came before anyone knew whose it was, failed as soon as it was known: the message has arrived."""
    epoch = await ledger.own()
    now = datetime.now(UTC)
    web, message = number(labelled=False), queued(1)
    await ledger.intend([message], epoch, web)
    await ledger.report(Report(ACCOUNT, NUMBER, "3EB0D", "delivered", now, now))
    await ledger.record([message], epoch, WasAccepted("3EB0D", by="answer"))
    await ledger.report(Report(ACCOUNT, NUMBER, "3EB0D", "failed", now, now, failure="cause_lost"))
    assert await ledger.states() == {"accepted": 1}
    assert await ledger.outbox() == []


async def test_what_was_kept_counts_also_if_its_message_became_known_this_moment(
    ledger: Ledger, monkeypatch: pytest.MonkeyPatch
) -> None:
    epoch = await ledger.own()
    now = datetime.now(UTC)
    web, message = number(labelled=False), queued(1)
    await ledger.intend([message], epoch, web)
    await ledger.report(Report(ACCOUNT, NUMBER, "3EB0D", "delivered", now, now))
    look_up = evidence._by_provider_id

    async def look_up_after_the_outcome(*given: Any) -> Any:
        await ledger.record([message], epoch, WasAccepted("3EB0D", by="answer"))
        return await look_up(*given)

    monkeypatch.setattr(evidence, "_by_provider_id", look_up_after_the_outcome)
    await ledger.report(Report(ACCOUNT, NUMBER, "3EB0D", "failed", now, now, failure="cause_lost"))
    assert await ledger.states() == {"accepted": 1}


async def test_silence_ends_unresolved_and_evidence_still_counts_after_it(ledger: Ledger) -> None:
    epoch = await ledger.own()
    await ledger.intend([queued(1)], epoch)
    await ledger.record([queued(1)], epoch, NoAnswer("no_answer"))
    sweeps = Sweeps(ledger.database, settings(reconcile_wait_s=0.2))
    assert await sweeps.sweep_silent() == 0
    await asyncio.sleep(0.45)
    assert await sweeps.sweep_silent() == 1
    assert await ledger.states() == {"unresolved": 1}
    await ledger.report(_status(queued(1), "sent"))
    assert await ledger.states() == {"accepted": 1}
    assert await ledger.outbox() == ["MessageResolved", "MessageResolved"]


async def test_a_gateway_is_asked_once_about_an_uncertain_message_and_what_it_shows_settles(ledger: Ledger) -> None:
    """The gateway's answer is played by an HTTP server; the request and its reading are the provider's own."""
    asked: list[Any] = []

    async def find(request: web.Request) -> web.Response:
        asked.append(await request.json())
        record = {
            "key": {"id": "3EB0FOUND", "fromMe": True, "remoteJid": f"{message.address.phone}@s.whatsapp.net"},
            "message": {"conversation": message.content.text},
            "messageTimestamp": int(datetime.now(UTC).timestamp()),
        }
        return web.json_response({"messages": {"total": 1, "pages": 1, "currentPage": 1, "records": [record]}})

    message, epoch = queued(1), await ledger.own()
    app = web.Application()
    app.router.add_post("/chat/findMessages/loja", find)
    async with TestServer(app) as server:
        url = str(server.make_url("")).rstrip("/")
        chosen = settings(look_up_after_s=0, allowed_hosts=(url.removeprefix("http://"),))
        account = Account("evolution_web", server_url=url, instance_name="loja", credentials={"apikey": "k"})
        web_number = number(labelled=False, account=account, provider=PROVIDERS["evolution_web"])
        instances = Instances(ledger.database, BOX, chosen)
        instances._known[NUMBER] = web_number
        gateway = Gateway(chosen)
        await gateway.open()
        await ledger.intend([message], epoch, web_number)
        await ledger.record([message], epoch, NoAnswer("no_answer"))
        look_ups = LookUps(ledger.database, gateway, instances, chosen)
        assert [await look_ups.ask(), await look_ups.ask()] == [1, 0]
        await gateway.close()
    assert len(asked) == 1
    found = await ledger.read("SELECT state, evidence, provider_message_id AS id FROM attempt")
    assert found == [{"state": "accepted", "evidence": "look_up", "id": "3EB0FOUND"}]
    assert await ledger.outbox() == ["MessageResolved"]
