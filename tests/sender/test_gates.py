"""Gates in PostgreSQL: pause, cancel, holds and consent against intents that run at the same time."""

import asyncio
from collections import Counter
from datetime import UTC, datetime
from uuid import UUID, uuid4

import pytest

from chassis.database import driver
from sender import gates
from sender.ledger.attempt import NoAnswer
from sender.ledger.delivery import Decision, Fail, Intend, Refuse
from sender.settlement.sweeps import Sweeps
from sender_ledger import NUMBER, Ledger, works
from sender_parts import ACCOUNT, queued, settings

pytestmark = pytest.mark.postgres


async def _close(ledger: Ledger, campaign: UUID, *, cancelled: bool = False, run_epoch: int = 1) -> None:
    async with ledger.database.transaction() as connection:
        close = gates.Close(str(campaign), ACCOUNT, run_epoch, cancelled, uuid4())
        await gates.change(await driver(connection), [close], [], [])


async def test_once_a_gate_is_closed_no_older_intent_commits(ledger: Ledger) -> None:
    """Intents run against the closing; those committed before it count, those after it are refused."""
    campaign, epoch = uuid4(), await ledger.own()
    closed_at: list[datetime] = []
    under_way = asyncio.Event()

    async def close() -> None:
        await under_way.wait()
        await _close(ledger, campaign)
        closed_at.extend(row["now"] for row in await ledger.read("SELECT clock_timestamp() AS now"))

    async def intend(n: int) -> Decision:
        decision = (await ledger.intend([queued(n, campaign_id=campaign)], epoch))[0]
        under_way.set()
        return decision

    async def keep_on(first: int) -> list[Decision]:
        found = [await intend(first)]
        while not (closed_at and isinstance(found[-1], Refuse)):
            found.append(await intend(first + len(found)))
        return found

    several, _ = await asyncio.gather(asyncio.gather(*(keep_on(1000 * n) for n in range(4))), close())
    decisions = [decision for found in several for decision in found]

    kinds = Counter(type(decision) for decision in decisions)
    assert kinds[Intend] > 0
    assert kinds[Refuse] > 0
    late = await ledger.read("SELECT 1 FROM attempt WHERE intent_at > $1", closed_at[0])
    assert late == []
    assert {d.reason for d in decisions if isinstance(d, Refuse)} == {"paused"}
    resumed = await ledger.intend([queued(9999, campaign_id=campaign, run_epoch=2)], epoch)
    assert isinstance(resumed[0], Intend)


async def test_a_gate_closes_only_when_nothing_is_under_way_and_each_asking_is_answered(ledger: Ledger) -> None:
    campaign, epoch = uuid4(), await ledger.own()
    sweeps = Sweeps(ledger.database, settings())
    message = queued(1, campaign_id=campaign)
    await ledger.intend([message], epoch)
    await _close(ledger, campaign)
    assert await sweeps.sweep_gates() is True
    assert await ledger.outbox() == []
    await ledger.record([message], epoch, NoAnswer("no_answer"))
    assert await sweeps.sweep_gates() is False, "ambiguous counts as settled"
    assert await ledger.outbox() == ["GateClosed"]
    await _close(ledger, campaign, cancelled=True)
    assert await sweeps.sweep_gates() is False
    assert await ledger.outbox() == ["GateClosed", "GateClosed"]
    ids = {row["id"] for row in await ledger.read("SELECT id FROM outbox")}
    assert len(ids) == 2
    refused = await ledger.intend([queued(2, campaign_id=campaign)], epoch)
    assert refused == (Refuse("cancelled"),)


async def test_a_hold_refuses_and_the_highest_version_wins(ledger: Ledger) -> None:
    epoch = await ledger.own()

    async def hold(held: bool, version: int) -> Decision:
        async with ledger.database.transaction() as connection:
            order = gates.Hold("instance", str(NUMBER), ACCOUNT, held, version)
            await gates.change(await driver(connection), [], [order], [])
        return (await ledger.intend([queued(version)], epoch))[0]

    assert await hold(True, 2) == Refuse("held")
    assert await hold(False, 1) == Refuse("held")
    assert isinstance(await hold(False, 3), Intend)


async def test_after_an_opt_out_commits_no_campaign_message_is_intended(ledger: Ledger) -> None:
    epoch = await ledger.own()
    message = queued(1)
    key = works([message])[0].recipient
    async with ledger.database.transaction() as connection:
        out = gates.Consent(ACCOUNT, key, "out", datetime.now(UTC))
        await gates.change(await driver(connection), [], [], [out])
    answer = queued(2, address=message.address, priority="person", campaign_id=None)
    assert [type(d) for d in await ledger.intend([message, answer], epoch)] == [Fail, Intend]
