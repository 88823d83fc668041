"""The intent transaction, gates, outcomes and settlement on a real PostgreSQL."""

import asyncio
from collections import Counter
from collections.abc import AsyncIterator, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from typing import Any
from uuid import UUID, uuid4

import pytest
from aiohttp import web
from aiohttp.test_utils import TestServer
from pydantic import SecretStr

from backing import MakeDatabase
from chassis.database import Database, driver
from chassis.kafka import Outgoing
from chassis.settings import PostgresSettings
from contracts.codec import encode
from contracts.instances import InstanceConfigured
from contracts.messages import MessageQueued
from pombo import backing
from providers.protocol import Account
from providers.registry import PROVIDERS
from sender import gates
from sender.gateway.client import Gateway
from sender.instance.instances import Instances
from sender.instance.owners import Owners
from sender.lane.throttle import Rate
from sender.ledger.attempt import Finding, NeverLeft, NoAnswer, WasAccepted, WasRejected
from sender.ledger.delivery import AlreadyInFlight, AnswerAgain, Decision, Fail, Fenced, Intend, Refuse
from sender.ledger.intents import IntentStore
from sender.ledger.outcomes import Outcome, OutcomeWriter
from sender.settlement import evidence
from sender.settlement.evidence import Report
from sender.settlement.look_ups import LookUps
from sender.settlement.reconcile import hash_text
from sender.settlement.sweeps import Sweeps
from sender.work import Group, Instance, Work
from sender_parts import ACCOUNT, BOX, migrated, queued, rows, settings

pytestmark = pytest.mark.postgres

NUMBER = UUID(int=42)
FAST = Rate(0.0001, 10.0)


def number(instance_id: UUID = NUMBER, quota: int | None = None, *, labelled: bool = True, **more: Any) -> Instance:
    fields: dict[str, Any] = {
        "instance_id": instance_id,
        "account_id": ACCOUNT,
        "config": InstanceConfigured(name="n", provider="meta_cloud", server_url=""),
        "account": Account("meta_cloud"),
        "provider": PROVIDERS["meta_cloud"],
        "rate": FAST,
        "pair_rate": Rate(6.0, 264.0),
        "in_flight_max": 100,
        "quota_scope": "portfolio:p",
        "quota_limit": quota,
        "labelled": labelled,
        "stopped": None,
        "revision": 1,
    }
    return Instance(**{**fields, **more})


def works(messages: Sequence[MessageQueued], instance_id: UUID = NUMBER) -> list[Work]:
    return [
        Work(ACCOUNT, instance_id, message, encode(message), ("message-queued", 0, offset), 0.0)
        for offset, message in enumerate(messages)
    ]


class KeptProducer:
    """Keeps what would be published."""

    def __init__(self) -> None:
        self.published: list[Outgoing] = []

    async def publish(self, records: Sequence[Outgoing]) -> None:
        self.published += records


@dataclass(slots=True)
class Ledger:
    """One database, as several senders would use it."""

    prepared: backing.Database
    database: Database
    store: IntentStore
    producer: KeptProducer = field(default_factory=KeptProducer)
    finished: list[Work] = field(default_factory=list)

    async def own(self, owner: str = "sender-0", instance_id: UUID = NUMBER) -> int:
        acquired = await Owners(self.database, owner, 5.0).acquire(instance_id, ACCOUNT)
        assert acquired is not None
        return acquired.epoch

    async def intend(
        self, messages: Sequence[MessageQueued], epoch: int, instance: Instance | None = None, times_out_s: float = 13
    ) -> tuple[Decision, ...]:
        instance = instance or number()
        group = Group(instance, epoch, works(messages, instance.instance_id), [times_out_s] * len(messages))
        return (await self.store.commit([group]))[0].decisions

    async def record(self, messages: Sequence[MessageQueued], epoch: int, finding: Finding) -> list[str]:
        """Writes the outcomes as a lane's requests would; the types of what was published."""
        before, stopping = len(self.producer.published), asyncio.Event()
        writer = OutcomeWriter(
            self.database,
            self.producer,  # type: ignore[arg-type]
            finish=self.finished.append,
            linger_s=0,
            every_s=0,
            batch_max=100,
            crash_point=lambda _: None,
        )
        for work in works(messages):
            writer.put(Outcome(work, epoch, finding))
        stopping.set()
        await writer.run(stopping)
        return [record.envelope.type for record in self.producer.published[before:]]

    async def read(self, sql: str, *arguments: Any) -> list[Any]:
        return [dict(row) for row in await rows(self.prepared.admin_dsn, sql, *arguments)]

    async def states(self) -> Counter[str]:
        return Counter(row["state"] for row in await self.read("SELECT state FROM attempt"))

    async def outbox(self) -> list[str]:
        return [
            row["type"] for row in await self.read("SELECT headers ->> 'ce_type' AS type FROM outbox ORDER BY position")
        ]

    async def report(self, *reports: Report) -> None:
        async with self.database.transaction() as connection:
            await evidence.apply(connection, reports, datetime.now(UTC))


@pytest.fixture
async def ledger(database_factory: MakeDatabase) -> AsyncIterator[Ledger]:
    prepared = database_factory(migrated)
    dsn = SecretStr(prepared.roles["sender_worker"])
    database = Database.connect(PostgresSettings(dsn=dsn), schema="sender", application_name="tests")
    yield Ledger(prepared, database, IntentStore(database, 1.0, lambda _: None))
    await database.close()


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
        out = gates.Consent(ACCOUNT, key, True, datetime.now(UTC))
        await gates.change(await driver(connection), [], [], [out])
    answer = queued(2, address=message.address, priority="person", campaign_id=None)
    assert [type(d) for d in await ledger.intend([message, answer], epoch)] == [Fail, Intend]


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
        await evidence.open_windows(await driver(connection), {place: datetime.now(UTC) - timedelta(hours=23)})
    decisions = await ledger.intend([one, two], epoch, number(quota=1))
    assert [type(d) for d in decisions] == [Intend, Intend]
    assert await ledger.read("SELECT used FROM quota") == [{"used": 1}]


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
        await evidence.fit_kept(connection, now)
    assert await ledger.states() == {"rejected_final": 1}
    assert await ledger.outbox() == ["MessageFailed"]
    assert await ledger.read("SELECT * FROM evidence") == []


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


async def test_every_tenant_table_forces_row_level_security(ledger: Ledger) -> None:
    open_tables = await ledger.read(
        "SELECT c.relname FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace"
        " JOIN pg_attribute a ON a.attrelid = c.oid AND a.attname = 'account_id'"
        " WHERE n.nspname = 'sender' AND c.relkind = 'r' AND NOT (c.relrowsecurity AND c.relforcerowsecurity)"
    )
    assert open_tables == []


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
