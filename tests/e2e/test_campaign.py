"""A company sends its customers a coupon, in two messages, from four numbers of four providers.

On the way the sender is killed while the providers have not answered yet, the campaign is paused and resumed, and a
read model is rebuilt. One run of the whole system, looked at from several sides.
"""

import json
from collections import Counter
from collections.abc import Iterator
from typing import Any

import pytest

from pombo.audit.finding import Finding
from pombo.demo.demo import DemoWishes
from pombo.stack import RunFolder, Service
from stack import play_campaign, run_folder

pytestmark = [pytest.mark.stack, pytest.mark.timeout(600)]
PEOPLE = 150


@pytest.fixture(scope="module")
def folder() -> Iterator[RunFolder]:
    with run_folder("campaign") as made:
        yield made


@pytest.fixture(scope="module")
def findings(folder: RunFolder) -> dict[str, Finding]:
    return play_campaign(folder, DemoWishes(PEOPLE, seed=7, trace_everything=True))


@pytest.fixture(scope="module")
def witnessed(folder: RunFolder, findings: dict[str, Finding]) -> list[dict[str, Any]]:
    return [json.loads(line) for line in folder.witness.read_text().splitlines()]


@pytest.fixture(scope="module")
def told(folder: RunFolder, findings: dict[str, Finding]) -> list[dict[str, Any]]:
    """What the runner did, by its own clock."""
    return [json.loads(line) for line in folder.clock.read_text().splitlines()]


def test_every_invariant_holds_although_the_sender_was_killed(findings: dict[str, Finding]) -> None:
    assert {number: finding.violations for number, finding in findings.items() if not finding.holds} == {}


def test_the_sender_was_killed_with_requests_open(told: list[dict[str, Any]]) -> None:
    (killed,) = [fact for fact in told if fact["event"] == "sender_killed"]
    assert killed["open_requests"] > 0


def test_the_campaign_was_paused_resumed_and_rebuilt_meanwhile(told: list[dict[str, Any]]) -> None:
    events = [fact["event"] for fact in told]
    assert events.index("paused") < events.index("resume_requested") < events.index("rebuild_started")
    assert "rebuild_ended" in events


def test_all_four_providers_carried_messages(witnessed: list[dict[str, Any]]) -> None:
    sends = Counter(fact["provider"] for fact in witnessed if fact["event"] == "request_open" and fact["accepted"])
    assert set(sends) == {"meta", "evolution_cloud", "evolution_web", "zapi"}


def test_nearly_everybody_read_both_messages(folder: RunFolder, findings: dict[str, Finding]) -> None:
    statistics = json.loads(folder.answers.read_text())["statistics"]
    assert statistics["status"] == "completed"
    assert statistics["read"] > PEOPLE * 0.6


def test_bad_rows_and_repetitions_are_reported_and_not_sent_to(folder: RunFolder, findings: dict[str, Finding]) -> None:
    answers = json.loads(folder.answers.read_text())
    assert len({row["phone_number"] for row in answers["recipients"]}) == PEOPLE


def test_no_log_line_names_a_phone_of_the_spreadsheet(folder: RunFolder, findings: dict[str, Finding]) -> None:
    phones = {row["phone_number"] for row in json.loads(folder.answers.read_text())["recipients"]}
    for service in Service:
        text = (folder.logs / f"{service.value}.log").read_text()
        assert not [phone for phone in phones if phone in text], service


def test_one_trace_goes_through_all_five_services(folder: RunFolder, findings: dict[str, Finding]) -> None:
    """From the request that started the campaign to the status that the read model shows, over Kafka and HTTP."""
    services_of: dict[str, set[str]] = {}
    for service in Service:
        for line in (folder.spans / f"{service.value}.jsonl").read_text().splitlines():
            services_of.setdefault(json.loads(line)["trace_id"], set()).add(service.value)
    assert {service.value for service in Service} in services_of.values()
