"""The messaging limit in PostgreSQL: charged with the intent, exact over instances and senders."""

import asyncio
from datetime import UTC, datetime, timedelta
from uuid import UUID

import pytest

from chassis.database import driver
from contracts.instances import InstanceConfigured, Limits
from sender.instance.counts import Counts
from sender.instance.instances import Instances
from sender.ledger.attempt import NoAnswer, WasRejected
from sender.ledger.delivery import Decision, Intend, Refuse
from sender.settlement import evidence
from sender.work import Group
from sender_ledger import NUMBER, Ledger, number, works
from sender_parts import ACCOUNT, BOX, queued, settings

pytestmark = pytest.mark.postgres


async def test_the_quota_is_exact_over_instances_and_senders_at_once(ledger: Ledger) -> None:
    keys = [UUID(int=100 + n) for n in range(4)]
    epochs = {key: await ledger.own(f"sender-{key}", key) for key in keys}
    people = [queued(n) for n in range(30)]  # each of them asked for by every instance, as different dispatches

    async def run(key: UUID) -> list[Decision]:
        found: list[Decision] = []
        for n, person in enumerate(people):
            message = queued(n, campaign_id=key, address=person.address)
            found += await ledger.intend([message], epochs[key], number(key, quota=12))
        return found

    await asyncio.gather(*map(run, keys))

    found = (await ledger.read(
        "SELECT (SELECT used FROM quota) AS used, (SELECT count(*) FROM quota_seen) AS seen,"
        " (SELECT count(DISTINCT recipient_key) FROM attempt) AS people"
    ))[0]  # fmt: skip
    assert found == {"used": 12, "seen": 12, "people": 12}


async def test_a_refused_message_gives_its_charge_back_and_an_uncertain_one_does_not(ledger: Ledger) -> None:
    epoch = await ledger.own()
    one, two, three = (queued(n) for n in range(3))
    limited = number(quota=2)
    assert [type(d) for d in await ledger.intend([one, two, three], epoch, limited)] == [Intend, Intend, Refuse]
    await ledger.record([one], epoch, NoAnswer("no_answer"))
    assert isinstance((await ledger.intend([three], epoch, limited))[0], Refuse)
    await ledger.record([two], epoch, WasRejected("not_on_whatsapp", False, "answer"))
    assert isinstance((await ledger.intend([three], epoch, limited))[0], Intend)


async def test_a_person_within_the_service_window_is_not_counted(ledger: Ledger) -> None:
    epoch = await ledger.own()
    one, two = queued(1), queued(2)
    async with ledger.database.transaction() as connection:
        place = (ACCOUNT, NUMBER, works([two])[0].recipient)
        await evidence.open_windows(
            await driver(connection), {place: datetime.now(UTC) - timedelta(hours=23)}, Counts()
        )
    decisions = await ledger.intend([one, two], epoch, number(quota=1))
    assert [type(d) for d in decisions] == [Intend, Intend]
    assert await ledger.read("SELECT used FROM quota") == [{"used": 1}]


async def test_a_service_window_is_of_one_number_although_the_quota_is_shared(ledger: Ledger) -> None:
    other = UUID(int=43)
    epochs = {key: await ledger.own(f"sender-{key}", key) for key in (NUMBER, other)}
    here, there = queued(1), queued(1, campaign_id=UUID(int=8))
    async with ledger.database.transaction() as connection:
        place = (ACCOUNT, NUMBER, works([here])[0].recipient)
        await evidence.open_windows(await driver(connection), {place: datetime.now(UTC) - timedelta(hours=1)}, Counts())
    groups = [
        Group(number(key, quota=1), epochs[key], works([one], key), [13.0])
        for key, one in ((NUMBER, here), (other, there))
    ]
    admitted = await ledger.store.commit(groups)
    assert [type(one.decisions[0]) for one in admitted] == [Intend, Intend]
    assert await ledger.read("SELECT used FROM quota") == [{"used": 1}]


async def test_numbers_of_one_portfolio_share_the_smallest_limit_that_is_known(ledger: Ledger) -> None:
    told: list[tuple[int, str | None, int | None]] = [
        (1, "p", 250), (2, "p", 1000), (3, "p", None), (4, "q", None), (5, None, 9)
    ]  # fmt: skip
    for nth, portfolio, limit in told:
        config = InstanceConfigured(
            name="n", provider="meta_cloud", server_url="", portfolio_id=portfolio, limits=Limits(unique_per_24h=limit)
        )
        await ledger.read(
            "INSERT INTO instance (instance_id, account_id, config) VALUES ($1, $2, $3::jsonb)",
            UUID(int=nth),
            ACCOUNT,
            config.model_dump_json(),
        )
    instances = Instances(ledger.database, BOX, settings())
    await instances.refresh()
    known = {found.instance_id.int: found.quota_limit for found in instances.all()}
    assert known == {1: 250, 2: 250, 3: 250, 4: None, 5: 9}


async def test_a_limit_that_only_one_number_knows_binds_the_group_of_the_other(ledger: Ledger) -> None:
    """Numbers whose limit was just told to one of two processes."""
    other = UUID(int=43)
    epochs = {key: await ledger.own(f"sender-{key}", key) for key in (NUMBER, other)}
    groups = [
        Group(number(key, quota=quota), epochs[key], works(messages, key), [13.0] * len(messages))
        for key, quota, messages in ((NUMBER, 2, [queued(1), queued(2)]), (other, None, [queued(3)]))
    ]
    admissions = await ledger.store.commit(groups)
    assert [[type(one) for one in admission.decisions] for admission in admissions] == [[Intend, Intend], [Refuse]]
    rows = await ledger.read("SELECT used, (SELECT count(*) FROM quota_seen)::int AS seen FROM quota")
    assert [(row["used"], row["seen"]) for row in rows] == [(2, 2)]
