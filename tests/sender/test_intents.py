"""The intent transaction and what a replay meets in it, on a real PostgreSQL."""

import asyncio
from collections import Counter
from uuid import UUID

import pytest

from sender.lane.throttle import Rate
from sender.ledger.attempt import NeverLeft, NoAnswer, WasAccepted, WasRejected
from sender.ledger.delivery import AlreadyInFlight, AnswerAgain, Intend, Refuse
from sender.work import Group
from sender_ledger import NUMBER, Ledger, number, works
from sender_parts import queued

pytestmark = pytest.mark.postgres


async def test_one_dispatch_on_two_instances_at_once_gets_one_intent(ledger: Ledger) -> None:
    other = UUID(int=43)
    epochs = {NUMBER: await ledger.own(), other: await ledger.own(instance_id=other)}
    for n in range(20):
        both = await asyncio.gather(*(ledger.intend([queued(n)], epoch, number(key)) for key, epoch in epochs.items()))
        assert Counter(type(decisions[0]) for decisions in both) == {Intend: 1, AlreadyInFlight: 1}


async def test_replay_after_a_crash_tells_the_settled_outcome_again(ledger: Ledger) -> None:
    epoch = await ledger.own()
    accepted, refused, silent, returned = (queued(n) for n in range(4))
    await ledger.intend([accepted, refused, silent, returned], epoch)
    assert await ledger.record([accepted], epoch, WasAccepted("wamid.1", by="answer")) == ["MessageSent"]
    assert await ledger.record([refused], epoch, WasRejected("not_on_whatsapp", False, "answer")) == ["MessageFailed"]
    assert await ledger.record([silent], epoch, NoAnswer("no_answer")) == ["MessageAmbiguous"]
    gone = NeverLeft("intent_too_old", returned=True)
    assert await ledger.record([returned], epoch, gone) == ["MessageReturned"]

    again = await ledger.intend([accepted, refused, silent, returned], await ledger.own())

    assert [d.entry.state for d in again if isinstance(d, AnswerAgain)] == [
        "accepted", "rejected_final", "ambiguous", "not_sent",
    ]  # fmt: skip
    assert len(ledger.finished) == 4


async def test_what_was_returned_at_departure_may_be_intended_by_its_next_release(ledger: Ledger) -> None:
    epoch = await ledger.own()
    await ledger.intend([queued(1)], epoch)
    await ledger.record([queued(1)], epoch, NeverLeft("intent_too_old", returned=True))
    assert [type(d) for d in await ledger.intend([queued(1, release=2)], epoch)] == [Intend]
    assert await ledger.states() == {"intent": 1}


async def test_an_intent_whose_commit_was_unknown_is_taken_up_by_the_same_epoch(ledger: Ledger) -> None:
    epoch = await ledger.own()
    await ledger.intend([queued(1)], epoch)
    group = Group(number(), epoch, works([queued(1)]), [13.0])
    group.works[0].retaken = True
    assert isinstance((await ledger.store.commit([group]))[0].decisions[0], Intend)


async def test_an_intent_of_an_unknown_commit_that_is_refused_now_holds_no_pause_back(ledger: Ledger) -> None:
    """One was committed, one never was, one is by now in the hands of a later release."""
    epoch = await ledger.own()
    kept, lost, elsewhere = queued(1), queued(2), queued(3)
    await ledger.intend([kept, queued(3, release=2)], epoch)
    refused = [(work, "paused") for work in works([kept, lost, elsewhere])]
    still_open = await ledger.store.withdraw(NUMBER, epoch, refused)
    assert still_open == {elsewhere.dispatch_id}
    assert await ledger.states() == {"not_sent": 1, "intent": 1}
    [again] = await ledger.intend([kept], epoch)
    assert isinstance(again, AnswerAgain)
    assert (again.entry.returned, again.entry.reason) == (True, "paused")
    assert isinstance((await ledger.intend([queued(1, release=2)], epoch))[0], Intend)


async def test_an_intent_of_another_epoch_is_not_withdrawn(ledger: Ledger) -> None:
    epoch = await ledger.own()
    await ledger.intend([queued(1)], epoch)
    work = works([queued(1)])[0]
    assert await ledger.store.withdraw(NUMBER, epoch + 1, [(work, "paused")]) == {work.message.dispatch_id}
    assert await ledger.states() == {"intent": 1}


async def test_the_pair_limit_survives_a_restart(ledger: Ledger) -> None:
    epoch = await ledger.own()
    strict = number(pair_rate=Rate(6.0, 6.0))
    person = queued(1).address
    messages = [queued(n, address=person) for n in range(4)]
    first = await ledger.intend(messages[:2], epoch, strict)
    assert [type(d) for d in first] == [Intend, Intend]
    group = Group(strict, epoch, works(messages[2:]), [13.0, 13.0], {}, pairs_complete=False)
    after_restart = (await ledger.store.commit([group]))[0].decisions
    assert [d.reason for d in after_restart if isinstance(d, Refuse)] == ["pair_rate", "pair_rate"]


async def test_every_tenant_table_forces_row_level_security(ledger: Ledger) -> None:
    open_tables = await ledger.read(
        "SELECT c.relname FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace"
        " JOIN pg_attribute a ON a.attrelid = c.oid AND a.attname = 'account_id'"
        " WHERE n.nspname = 'sender' AND c.relkind = 'r' AND NOT (c.relrowsecurity AND c.relforcerowsecurity)"
    )
    assert open_tables == []
