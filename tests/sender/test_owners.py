"""Who may commit intents for a number: leases, epochs and the fence, on a real PostgreSQL."""

import asyncio
from collections import Counter

import pytest

from sender.instance.owners import Owners
from sender.ledger.attempt import WasAccepted
from sender.ledger.delivery import Fenced, Intend
from sender.settlement.sweeps import Sweeps
from sender_ledger import NUMBER, Ledger
from sender_parts import ACCOUNT, queued, settings

pytestmark = pytest.mark.postgres


async def test_a_zombie_is_refused_once_a_later_owner_exists(ledger: Ledger) -> None:
    old = await ledger.own("sender-0")
    assert [type(d) for d in await ledger.intend([queued(1)], old)] == [Intend]
    new = await ledger.own("sender-0")
    assert new == old + 1
    assert [type(d) for d in await ledger.intend([queued(2)], old)] == [Fenced]
    assert [type(d) for d in await ledger.intend([queued(2)], new)] == [Intend]


async def test_a_lease_is_taken_only_when_it_lapsed_or_was_given_back(ledger: Ledger) -> None:
    mine, others = Owners(ledger.database, "sender-0", 0.3), Owners(ledger.database, "sender-1", 5.0)
    acquired = await mine.acquire(NUMBER, ACCOUNT)
    assert acquired is not None
    assert acquired.released, "nobody had it before"
    assert await others.acquire(NUMBER, ACCOUNT) is None
    assert await mine.renew({NUMBER: acquired.epoch}) == {NUMBER}
    assert await others.renew({NUMBER: acquired.epoch}) == frozenset()
    await mine.release(NUMBER, acquired.epoch, limiter_wait_s=2.0)
    taken = await others.acquire(NUMBER, ACCOUNT)
    assert taken is not None
    assert (taken.epoch, taken.released) == (acquired.epoch + 1, True)
    assert 1.5 < taken.wait_s <= 2.0
    assert await mine.renew({NUMBER: acquired.epoch}) == frozenset()


async def test_two_owners_at_once_never_both_intend_one_message(ledger: Ledger) -> None:
    epochs = [await ledger.own("sender-0"), await ledger.own("sender-0")]
    messages = [queued(n) for n in range(40)]
    both = await asyncio.gather(*(ledger.intend([m], epoch) for m in messages for epoch in epochs))
    kinds = Counter(type(decisions[0]) for decisions in both)
    assert kinds == {Fenced: 40, Intend: 40}


async def test_intents_of_a_gone_owner_become_ambiguous_and_a_late_answer_settles_them(ledger: Ledger) -> None:
    sweeps = Sweeps(ledger.database, settings())
    epoch = await ledger.own()
    messages = [queued(n) for n in range(3)]
    await ledger.intend(messages[:2], epoch, times_out_s=0)
    assert await sweeps.sweep_orphans() == 0, "its owner lives: the answer is still to come"
    epoch_2 = await ledger.own()
    await ledger.intend(messages[2:], epoch_2, times_out_s=0)
    assert await sweeps.sweep_orphans() == 2
    assert await ledger.states() == {"ambiguous": 2, "intent": 1}
    assert await ledger.outbox() == ["MessageAmbiguous", "MessageAmbiguous"]
    late = await ledger.record(messages[:1], epoch, WasAccepted("wamid.9", by="answer"))
    assert late == [], "the outbox tells it, in order behind what was told before"
    assert await ledger.outbox() == ["MessageAmbiguous", "MessageAmbiguous", "MessageResolved"]
    assert await ledger.states() == {"ambiguous": 1, "accepted": 1, "intent": 1}
