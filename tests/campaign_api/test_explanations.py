"""Why nothing moves: what the services say becomes one list of sentences, and who says nothing is named."""

import asyncio
import re
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any, get_args
from uuid import UUID, uuid4
from zoneinfo import ZoneInfo

import asyncpg
import pytest

from campaign_api.consumers import Progress
from campaign_api.explanation import sentences
from campaign_api.explanation.facts import share_quotas
from campaign_api.explanation.merging import merge, read
from campaign_api.explanation.models import Reason
from campaign_api.explanation.sentences import Words, sentence, summed_up
from campaign_parts import Bench, Person, heard
from contracts import ids
from contracts.campaigns import CampaignCreated
from contracts.instances import InstanceConfigured, Limits
from contracts.messages import ReturnReason
from contracts.operations import ExplainRequested
from contracts.progress import LaneExplained, SendingExplained
from contracts.topics import CAMPAIGN_PROGRESS
from pombo.backing import Database
from scheduler.lane.pacing import WaitReason

NOON = datetime(2026, 3, 2, 12, tzinfo=UTC)
ONE, TWO = UUID(int=1), UUID(int=2)
WORDS = Words({ONE: "Loja 1", TWO: "Loja 2"}, ZoneInfo("America/Sao_Paulo"), NOON)
SERVICES = Path(__file__).resolve().parents[2] / "services"


def text(reason: str, **fields: Any) -> str:
    return sentence(Reason(scope="x", reason=reason, **fields), WORDS)


def test_a_number_that_is_not_connected_says_why_where_that_is_known() -> None:
    words = Words(WORDS.instances, WORDS.zone, NOON, {ONE: "qr_code_limit"})
    of_one = Reason(scope="instance", reason="instance_stopped", instance_ids=[ONE], detail="disconnected")
    assert sentence(of_one, words).startswith("Loja 1: disconnected. Nobody scanned the QR code in time.")
    assert sentence(of_one, WORDS) == "Loja 1: disconnected. Connect it again."
    of_both = of_one.model_copy(update={"instance_ids": [ONE, TWO]})
    assert sentence(of_both, words).endswith("Connect it again.")


def reasons_of(*files: str) -> set[str]:
    """The names in calls of `_named(scope, name…)` and in `"reason": name`."""
    source = "".join((SERVICES / file).read_text() for file in files)
    found = re.findall(r'_named\(\s*"\w+",\s*"(\w+)"', source) + re.findall(r'"reason": "(\w+)"', source)
    return set(found)


def test_every_reason_that_scheduler_or_sender_give_has_a_sentence() -> None:
    told = reasons_of("scheduler/src/scheduler/lane/explanations.py", "sender/src/sender/ledger/explanations.py") | set(
        get_args(WaitReason)
    )
    assert {"planning", "quota", "gate_closing", "retry_or_return", "outside_hours"} <= told
    special = {"campaign_not_running", "held", "instance_blocked", "retry_or_return", "not_waiting"}
    assert told - special <= set(sentences._TEXTS)
    assert set(get_args(ReturnReason)) <= set(sentences._RETURNS)


@pytest.mark.parametrize(
    ("reason", "fields", "wanted"),
    [
        ("outside_hours", {"until": NOON + timedelta(hours=2)}, "Outside its allowed hours. Goes on at 11:00:00."),
        ("outside_weekdays", {"until": NOON + timedelta(days=5)}, "Goes on at Sat 07 Mar 2026 09:00."),
        ("daily_limit", {"limit": 200, "until": NOON + timedelta(hours=15)}, "Its limit of 200 messages a day"),
        ("campaign_not_running", {"detail": "paused", "by_name": "Ana", "since": NOON}, "Ana paused it since 09:00:00"),
        ("campaign_not_running", {"detail": "failed: plan failed (x)"}, "It stopped: plan failed (x)."),
        ("held", {"detail": "template: natal", "by_name": "Ana"}, "Ana stopped the template natal."),
        ("held", {"detail": "account", "because": "wrong list"}, "stopped all sending of the account (wrong list)."),
        ("held", {"detail": "everything"}, "Everything is stopped in this installation"),
        ("throttled", {"instance_ids": [ONE], "count": 12.5, "limit": 80, "slows": True}, "Loja 1: slowed down"),
        ("instance_blocked", {"instance_ids": [ONE], "detail": "breaker: credentials"}, "Loja 1: "),
        ("instance_blocked", {"instance_ids": [ONE], "detail": "breaker: {x}"}, "The gateway says: {x}."),
        ("instance_stopped", {"instance_ids": [ONE, TWO], "detail": "paused"}, "2 numbers (Loja 1, Loja 2): paused."),
        ("instance_stopped", {"instance_ids": [ONE], "detail": "banned", "moves": True}, "goes to other numbers"),
        ("retry_or_return", {"detail": "pair_rate", "until": NOON}, "Too many messages to this person"),
        ("retry_or_return", {"detail": "provider_error", "count": 3, "until": NOON}, "Attempt 3 failed before it"),
        ("its_turn", {"count": 149}, "149 messages of the campaign go before it."),
        ("of_a_later_version", {"until": NOON}, "Of a later version at 09:00:00."),
    ],
)  # fmt: skip
def test_reasons_are_told_in_words(reason: str, fields: dict[str, Any], wanted: str) -> None:
    assert wanted in text(reason, **fields)


def test_what_two_services_say_is_told_once() -> None:
    own = [Reason(scope="account", reason="held", detail="account", by=ONE)]
    scheduler = read(
        [
            {"scope": "instance", "reason": "held", "detail": "account", "instance_id": str(ONE)},
            {"scope": "instance", "reason": "instance_blocked", "detail": "quota", "instance_id": str(ONE)},
            {"scope": "instance", "reason": "throttled", "slows": True, "instance_id": str(ONE), "of": "later"},
        ],
        "scheduler",
    )
    sender = read(
        [
            {"scope": "account", "reason": "held", "detail": "account"},
            {"scope": "instance", "reason": "quota", "instance_id": str(ONE), "count": 250, "limit": 250},
            {"scope": "instance", "reason": "no_owner", "instance_id": str(ONE)},
        ],
        "sender",
    )
    merged = merge(own, scheduler, sender)
    assert [(one.reason, one.by) for one in merged] == [("held", ONE), ("quota", None), ("throttled", None)]


def test_the_same_of_several_numbers_becomes_one() -> None:
    told = [
        {"scope": "instance", "reason": "credit", "instance_id": str(each), "count": 5, "since": NOON.isoformat()}
        for each in (ONE, TWO)
    ]
    (one,) = merge([], read(told, "scheduler"), [])
    assert (one.instance_ids, one.instance_id, one.count, one.since) == ([ONE, TWO], None, 10, NOON)


def test_the_summary_names_what_holds_and_passes_over_what_is_usual() -> None:
    usual = Reason(scope="instance", reason="credit", text="With the sender.")
    assert summed_up([usual], 5, None, WORDS) == "Nothing holds it."
    held = Reason(scope="campaign", reason="held", text="Held.")
    end = NOON + timedelta(hours=1)
    assert summed_up([usual, held], 5, end, WORDS) == "Held. It should end at about 10:00:00."
    assert summed_up([], 0, None, WORDS) == "Nothing waits."


@asynccontextmanager
async def answering(api: Bench, person: Person, *answers: LaneExplained | SendingExplained) -> AsyncIterator[None]:
    """Plays scheduler and sender: answers whatever this account asks next."""

    async def answer() -> None:
        while True:
            asked = [
                event for _, _, event in await api.outbox(person.account_id) if isinstance(event, ExplainRequested)
            ]
            if asked:
                break
            await asyncio.sleep(0.01)
        named = [one.model_copy(update={"request_id": asked[-1].request_id}) for one in answers]
        records = [heard(CAMPAIGN_PROGRESS.name, uuid4(), person.account_id, one) for one in named]
        async with api.application.parts.worker.transaction() as connection:
            await Progress(lambda: NOON).handle(connection, records)

    async with asyncio.TaskGroup() as tasks:
        tasks.create_task(answer())
        yield


@pytest.mark.postgres
async def test_a_paused_campaign_says_by_whom_and_what_else_holds_it(api: Bench, ana: Person) -> None:
    campaign = await ana.campaign(is_draft=False)
    await ana.client.put("/api/holds", json={"scope": "account", "held": True, "reason": "wrong list"})
    assert (await ana.client.put(f"/api/campaigns/{campaign['id']}/pause")).status_code == 200
    nobody, until = uuid4(), NOON + timedelta(days=400)
    closed = {"scope": "campaign", "reason": "outside_hours", "until": until.isoformat(), "campaign_id": campaign["id"]}
    plan = LaneExplained(request_id=nobody, reasons=(closed,), estimated_end=until, waiting=3, behind_s=4.5)
    gate = SendingExplained(request_id=nobody, reasons=({"scope": "account", "reason": "held", "detail": "account"},))
    async with answering(api, ana, plan, gate):
        shown = (await ana.client.get(f"/api/campaigns/{campaign['id']}/explain")).json()
    assert shown["subject"] == "campaign"
    assert [one["reason"] for one in shown["reasons"]] == [
        "campaign_not_running", "held", "outside_hours", "scheduler_behind",
    ]  # fmt: skip
    paused, held, *_ = shown["reasons"]
    assert paused["by_name"] == held["by_name"] == "Ana"
    assert held["because"] == "wrong list"
    assert paused["text"].startswith("Ana asked to pause it since ")
    assert shown["waiting"] == 3
    assert shown["summary"].startswith(paused["text"])
    asked = [event for _, _, event in await api.outbox(ana.account_id) if isinstance(event, ExplainRequested)][-1]
    created = [event for _, _, event in await api.outbox(ana.account_id) if isinstance(event, CampaignCreated)][-1]
    assert asked.instance_ids == created.definition.pool


@pytest.mark.postgres
async def test_who_does_not_answer_is_the_reason(api: Bench, ana: Person) -> None:
    campaign = await ana.campaign(is_draft=False)
    sender = SendingExplained(request_id=uuid4(), reasons=())
    async with answering(api, ana, sender):
        shown = (await ana.client.get(f"/api/campaigns/{campaign['id']}/explain")).json()
    assert [one["reason"] for one in shown["reasons"]] == ["scheduler_silent"]
    assert "did not answer" in shown["summary"]
    both = (await ana.client.get(f"/api/instances/{campaign['api_config_id']}/explain")).json()
    assert [one["reason"] for one in both["reasons"]] == ["scheduler_silent", "sender_silent"]
    assert both["name"] == "Aura #1"


@pytest.mark.postgres
async def test_a_recipients_message_and_a_message_by_its_id(
    api: Bench, api_database: Database, ana: Person, rival: Person
) -> None:
    campaign = await ana.campaign(is_draft=False)
    (started,) = [event for _, kind, event in await api.outbox(ana.account_id) if kind == "RecipientsAdded"]
    recipient = started.recipients[0].recipient_id  # type: ignore[attr-defined]
    dispatch = await _queued(api_database, ana.account_id, UUID(campaign["id"]), recipient)
    turn = {"scope": "dispatch", "reason": "its_turn", "count": 4}
    plan = LaneExplained(request_id=uuid4(), reasons=(turn,), estimated_end=NOON)
    async with answering(api, ana, plan, SendingExplained(request_id=uuid4(), reasons=())):
        shown = (await ana.client.get(f"/api/campaigns/{campaign['id']}/recipients/{recipient}/explain")).json()
    assert (shown["subject"], shown["id"], shown["status"]) == ("dispatch", str(dispatch), "pending")
    assert shown["reasons"][0]["text"] == "It waits for its turn: 4 messages of the campaign go before it."
    for path in (f"/api/dispatches/{dispatch}/explain", f"/api/whatsapp/queue/explain?dispatch_id={dispatch}"):
        assert (await ana.client.get(path)).json()["id"] == str(dispatch)
        assert (await rival.client.get(path)).status_code == 404
    assert (await ana.client.get("/api/whatsapp/queue/explain")).status_code == 422


async def _queued(database: Database, account_id: UUID, campaign_id: UUID, recipient_id: UUID) -> UUID:
    """As the read model has a dispatch that waits."""
    dispatch_id = ids.dispatch_id(recipient_id, 0)
    connection = await asyncpg.connect(database.admin_dsn)
    try:
        await connection.execute(
            "INSERT INTO projections_g1.campaign (account_id, id, name, status, definition, run_epoch, deleted, keys)"
            " VALUES ($1, $2, 'C', 'running', '{}', 1, false, '{}')",
            account_id, campaign_id,
        )  # fmt: skip
        await connection.execute(
            "INSERT INTO projections_g1.dispatch (account_id, id, subject_id, recipient_id, step, state, version,"
            " attempt, changed_at) VALUES ($1, $2, $3, $4, 0, 'pending', 1, 1, now())",
            account_id, dispatch_id, campaign_id, recipient_id,
        )  # fmt: skip
    finally:
        await connection.close()
    return dispatch_id


def test_numbers_of_one_portfolio_share_the_smallest_limit_of_people() -> None:
    def number(portfolio: str | None, limit: int | None) -> InstanceConfigured:
        limits = Limits(unique_per_24h=limit)
        return InstanceConfigured(name="n", provider="meta_cloud", server_url="", portfolio_id=portfolio, limits=limits)

    numbers = {
        UUID(int=1): (number("p", 1000), 10),
        UUID(int=2): (number("p", 250), 25),
        UUID(int=3): (number(None, 100), 7),
        UUID(int=4): (number(None, None), 9),
    }
    found = {one.instance_id.int: (one.limit, one.used) for one in share_quotas(numbers)}
    assert found == {1: (125, 18), 2: (125, 18), 3: (100, 7)}
