"""What webhooks say stops a number: on a real PostgreSQL, with reason, end and a rest's own memory."""

from collections.abc import Sequence
from datetime import UTC, datetime, timedelta
from typing import Any
from uuid import UUID, uuid4

import pytest

from contracts.codec import decode
from contracts.envelope import Envelope
from contracts.instances import BreakerClosed, BreakerOpened, InstanceConfigured, InstanceHealthEvent
from contracts.messages import MessageQueued
from providers.failures import FAILURES
from sender.instance import stops
from sender.instance.care import Care
from sender.instance.recoveries import Recoveries
from sender.instance.signals import Signals
from sender.ledger.attempt import WasAccepted
from sender.settlement.evidence import Report
from sender.work import Instance
from sender_ledger import NUMBER, Ledger, number
from sender_parts import ACCOUNT, queued

pytestmark = pytest.mark.postgres
OTHER = UUID(int=43)


class Numbers:
    """Stands for Instances: the copy in memory."""

    def __init__(self, *numbers: Instance) -> None:
        self._numbers = {one.instance_id: one for one in numbers}

    def get(self, instance_id: UUID) -> Instance | None:
        return self._numbers.get(instance_id)

    def all(self) -> list[Instance]:
        return list(self._numbers.values())


async def configure(ledger: Ledger, instance_id: UUID = NUMBER, **changes: Any) -> None:
    fields: dict[str, Any] = {"name": "n", "provider": "meta_cloud", "server_url": ""}
    envelope = Envelope(uuid4(), "t", 1, "tests", str(instance_id), datetime.now(UTC), ACCOUNT)
    async with ledger.database.transaction() as connection:
        await stops.heed(connection, envelope, InstanceConfigured(**fields | changes))


async def report(ledger: Ledger, signals: Signals, *facts: str, instance_id: UUID = NUMBER, late_s: float = 0) -> bool:
    """`facts`: statuses, or the names of failures, that happened `late_s` seconds ago."""
    now = datetime.now(UTC)
    at = now - timedelta(seconds=late_s)
    reports = [
        Report(ACCOUNT, instance_id, f"wamid.{n}", fact, at, now)
        if fact in ("sent", "delivered", "read")
        else Report(ACCOUNT, instance_id, f"wamid.{n}", "failed", at, now, failure=fact)
        for n, fact in enumerate(facts)
    ]
    async with ledger.database.transaction() as connection:
        return await signals.note(connection, reports, now)


async def told(ledger: Ledger) -> list[InstanceHealthEvent]:
    rows = await ledger.read("SELECT headers ->> 'ce_type' AS type, value FROM outbox ORDER BY position")
    return [decode(row["type"].rpartition(".")[2], 1, bytes(row["value"])) for row in rows]  # type: ignore[misc]


async def told_health(ledger: Ledger) -> list[InstanceHealthEvent]:
    return [event for event in await told(ledger) if isinstance(event, BreakerOpened | BreakerClosed)]


async def test_a_spam_limit_in_a_status_sends_the_number_to_rest_once(ledger: Ledger) -> None:
    await configure(ledger)
    signals = Signals(Numbers(number()), Care())  # type: ignore[arg-type]
    assert await report(ledger, signals, "sent", "spam_limit", "spam_limit")
    assert not await report(ledger, signals, "spam_limit")

    (row,) = await ledger.read("SELECT rest_reason, rest_until, resting, strikes FROM instance")
    assert (row["rest_reason"], row["resting"], row["strikes"]) == ("spam_limit", True, 1)
    (opened,) = await told(ledger)
    assert isinstance(opened, BreakerOpened)
    assert (opened.reason, opened.until) == ("spam_limit", row["rest_until"])
    assert timedelta(minutes=59) < row["rest_until"] - datetime.now(UTC) <= timedelta(minutes=60)


async def test_a_rest_ends_by_itself_and_the_next_one_is_longer(ledger: Ledger) -> None:
    await configure(ledger)
    signals = Signals(Numbers(number()), Care())  # type: ignore[arg-type]
    woken: list[None] = []
    recoveries = Recoveries(ledger.database, Care().warm_up, lambda: woken.append(None))
    await report(ledger, signals, "shadow_ban")
    await recoveries.sweep()
    assert not woken
    await ledger.read("UPDATE instance SET rest_until = now() - interval '1 second' RETURNING 1 AS done")
    await recoveries.sweep()
    await recoveries.sweep()

    assert len(woken) == 1
    assert [type(event) for event in await told(ledger)] == [BreakerOpened, BreakerClosed]
    assert not await report(ledger, signals, "shadow_ban", late_s=60), "the same webhook, or one of that time, again"
    await report(ledger, signals, "shadow_ban")
    again = (await told(ledger))[-1]
    assert isinstance(again, BreakerOpened)
    assert again.until is not None
    assert again.until - datetime.now(UTC) > timedelta(hours=3)


async def weigh(ledger: Ledger, signals: Signals, facts: Sequence[tuple[MessageQueued, str]]) -> bool:
    """Whether what is told of these messages sends the number to rest, as the consumer of statuses does."""
    now = datetime.now(UTC)
    reports = [
        Report(ACCOUNT, NUMBER, f"wamid.{message.dispatch_id}", "failed" if fact in FAILURES else fact, now, now,
               key=(ACCOUNT, message.dispatch_id, message.attempt), failure=fact if fact in FAILURES else None)
        for message, fact in facts
    ]  # fmt: skip
    refused = (await ledger.report(*reports)).refused
    async with ledger.database.transaction() as connection:
        return await signals.weigh(connection, refused, now)


async def test_a_share_of_errors_sends_the_number_to_rest_and_is_not_held_against_it_twice(ledger: Ledger) -> None:
    await configure(ledger)
    signals = Signals(Numbers(number()), Care())  # type: ignore[arg-type]
    epoch, sent = await ledger.own(), [queued(n) for n in range(62)]
    await ledger.intend(sent, epoch)
    for message in sent:
        await ledger.record([message], epoch, WasAccepted(f"wamid.{message.dispatch_id}", by="answer"))
    delivered = [(message, "delivered") for message in sent[:20]]
    errors = [(message, "cause_lost") for message in sent[20:28]]
    assert not await weigh(ledger, signals, delivered + errors)
    assert not await weigh(ledger, signals, [(message, "not_on_whatsapp") for message in sent[28:58]])
    assert not await weigh(ledger, signals, errors * 3), "told again, these are no further errors"
    assert await told_health(ledger) == []
    assert await weigh(ledger, signals, [(message, "cause_lost") for message in sent[58:60]])
    (opened,) = await told_health(ledger)
    assert isinstance(opened, BreakerOpened)
    assert opened.reason == "error_share"

    await ledger.read("UPDATE instance SET rest_until = now(), resting = false RETURNING 1 AS done")
    assert not await weigh(ledger, signals, [(sent[60], "cause_lost")])


async def test_a_refusal_of_the_portfolio_stops_its_other_numbers_too(ledger: Ledger) -> None:
    config = InstanceConfigured(name="n", provider="meta_cloud", server_url="", portfolio_id="p")
    await configure(ledger)
    await configure(ledger, OTHER)
    signals = Signals(Numbers(number(config=config), number(OTHER, config=config)), Care())  # type: ignore[arg-type]
    assert await report(ledger, signals, "payment")
    assert not await report(ledger, signals, "payment")
    rows = await ledger.read("SELECT stopped_reason FROM instance")
    assert rows == [{"stopped_reason": "payment"}] * 2
    assert [(event.reason, event.until) for event in await told(ledger) if isinstance(event, BreakerOpened)] == [
        ("payment", None)
    ] * 2


async def test_what_the_provider_tells_of_limits_lifts_neither_stop_nor_rest_and_a_person_does(ledger: Ledger) -> None:
    await configure(ledger)
    signals = Signals(Numbers(number()), Care())  # type: ignore[arg-type]
    await report(ledger, signals, "spam_limit")
    await report(ledger, signals, "credentials")
    await configure(ledger, tier="2", limits={"unique_per_24h": 10_000})
    seen = "SELECT stopped_reason, resting, rest_until > now() AS rests FROM instance"
    assert await ledger.read(seen) == [{"stopped_reason": "credentials", "resting": True, "rests": True}]

    await configure(ledger, tier="2", credentials={"access_token": "another"})
    assert await ledger.read(seen) == [{"stopped_reason": None, "resting": True, "rests": True}]
    assert not await report(ledger, signals, "credentials", late_s=30), "told again, it was cleared meanwhile"

    await configure(ledger, tier="2", credentials={"access_token": "another"}, wanted="connected", wanted_version=1)
    await Recoveries(ledger.database, Care().warm_up, lambda: None).sweep()
    assert await ledger.read(seen) == [{"stopped_reason": None, "resting": False, "rests": False}]
    assert isinstance((await told(ledger))[-1], BreakerClosed)
