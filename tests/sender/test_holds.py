"""Kill-switches as the sender hears them: each scope refuses what it covers from its commit on, and says so."""

from collections.abc import Sequence
from datetime import UTC, datetime
from typing import Any
from uuid import UUID, uuid4

import pytest

from chassis.kafka import Received
from contracts.envelope import Envelope
from contracts.operations import HoldScope, HoldSet
from sender.consumers import Control
from sender.instance.warm_up import Policy
from sender.ledger.delivery import Decision, Intend, Refuse
from sender_ledger import NUMBER, Ledger
from sender_parts import ACCOUNT, queued

pytestmark = pytest.mark.postgres
NOBODY, STRANGER = UUID(int=0), UUID(int=77)
TEMPLATE = {"kind": "template", "template_name": "cupom", "template_language": "pt_BR"}


def heard(order: HoldSet, account_id: UUID) -> Received:
    envelope = Envelope(uuid4(), "HoldSet", 1, "tests", str(account_id), datetime.now(UTC), account_id)
    return Received("operations", 0, 0, str(account_id), 0, envelope, order)


async def obey(ledger: Ledger, orders: Sequence[tuple[HoldSet, UUID]]) -> None:
    control = Control(closing=lambda _: None, configured=lambda: None, warm_up=Policy())
    async with ledger.database.transaction() as connection:
        await control.handle(connection, [heard(order, account_id) for order, account_id in orders])


def refused(decisions: Sequence[Decision]) -> list[bool]:
    assert all(isinstance(one, Intend) or one == Refuse("held") for one in decisions)
    return [not isinstance(one, Intend) for one in decisions]


@pytest.mark.parametrize(
    ("scope", "key", "owner"),
    [
        ("everything", "", NOBODY),
        ("account", "", ACCOUNT),
        ("instance", str(NUMBER), ACCOUNT),
        ("template", "cupom", ACCOUNT),
    ],
)
async def test_a_hold_refuses_what_it_covers_until_it_is_lifted(
    ledger: Ledger, scope: HoldScope, key: str, owner: UUID
) -> None:
    epoch, number = await ledger.own(), iter(range(100))

    async def three() -> list[bool]:
        """A campaign's text, a campaign's template, a person's answer."""
        template = queued(next(number), content=TEMPLATE)
        answer = queued(next(number), priority="person", campaign_id=None)
        return refused(await ledger.intend([queued(next(number)), template, answer], epoch))

    assert await three() == [False] * 3
    await obey(ledger, [(HoldSet(scope=scope, key=key, held=True, version=1), owner)])
    assert await three() == ([False, True, False] if scope == "template" else [True] * 3)
    await obey(ledger, [(HoldSet(scope=scope, key=key, held=False, version=2), owner)])
    assert await three() == [False] * 3
    assert await ledger.outbox() == ["HoldTaken", "HoldTaken"]


@pytest.mark.parametrize(("scope", "key"), [("account", ""), ("template", "cupom")])
async def test_another_accounts_hold_covers_nothing_of_ours(ledger: Ledger, scope: HoldScope, key: str) -> None:
    epoch = await ledger.own()
    await obey(ledger, [(HoldSet(scope=scope, key=key, held=True, version=1), STRANGER)])
    assert refused(await ledger.intend([queued(1), queued(2, content=TEMPLATE)], epoch)) == [False, False]


async def test_orders_that_come_late_or_twice_leave_the_newest_in_force(ledger: Ledger) -> None:
    epoch = await ledger.own()
    orders: list[Any] = [
        (HoldSet(scope="account", held=held, version=n), ACCOUNT) for n, held in ((2, True), (1, False))
    ]
    await obey(ledger, [*orders, *orders])
    assert refused(await ledger.intend([queued(1)], epoch)) == [True]
