"""People stop what goes wrong and try again what failed: over the API and the command line, seen from the provider."""

import itertools
import json
import os
import secrets
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, field
from functools import partial
from typing import Any

import pytest
from typer.testing import CliRunner

from numbers_in_town import Town, running_town
from pombo import __main__ as command_line
from pombo import login, queue
from pombo.stack import RunFolder, Service
from pombo.stack.services import environment
from pombo.stack.stack import EVOLUTION_KEY
from stack import run_folder

pytestmark = [pytest.mark.stack, pytest.mark.timeout(400)]
PER_S = 20
# Intents are made a quarter of a second ahead at most; what was intended before the order may leave.
ON_ITS_WAY = PER_S // 2
PEOPLE = 200
_numbers = itertools.count(1)


@dataclass(frozen=True, slots=True)
class Number:
    """A number at Meta: its instance, its id and name."""

    instance_id: str
    id: str
    name: str


@dataclass(slots=True)
class Control:
    """A town, its witness and a terminal."""

    town: Town
    folder: RunFolder
    terminal: CliRunner = field(default_factory=CliRunner)

    def number(self) -> Number:
        nth = next(_numbers)
        number, token, app_secret = f"2000000000000{nth:02d}", secrets.token_urlsafe(24), secrets.token_urlsafe(24)
        self.town.simulator.add_number(
            kind="meta", id=number, phone=f"55119888877{nth:02d}", token=token, app_secret=app_secret,
            callback_url=f"{self.town.stack.addresses.webhooks}/api/webhook/meta",
        )  # fmt: skip
        made = self.town.make_instance(
            f"loja-{nth}", "meta_cloud", phone_number_id=number,
            credentials={"access_token": token, "app_secret": app_secret},
        )  # fmt: skip
        return Number(made, number, f"loja-{nth}")

    def start(self, number: Number, people: int) -> str:
        body = {
            "name": f"Aviso de {number.name}",
            "is_draft": False,
            "instance_pool": [number.instance_id],
            "messages": [{"content_type": "text", "content": "olá"}],
            "contacts": [{"phone_number": f"55119{int(number.id[-2:]):02d}{one:06d}"} for one in range(people)],
            "sending_configuration": {"min_delay_seconds": 0, "max_delay_seconds": 0, "max_retries": 0},
        }
        return str(self.town.api.post("/api/campaigns", json=body)["id"])

    def arrivals(self, *numbers: Number) -> list[float]:
        """When the provider began to read each request, by the clock that this process reads as well."""
        self.town.simulator.stats()  # writes its log out
        wanted = {number.id for number in numbers}
        lines = map(json.loads, self.folder.witness.read_text().splitlines())
        return [one["mono_ns"] / 1e9 for one in lines if one["event"] == "request_open" and one["number"] in wanted]

    def under_way(self, number: Number, at_least: int, people: int = PEOPLE) -> str:
        """A campaign that sends, and will for a while."""
        campaign_id = self.start(number, people)
        self.town.wait(lambda: len(self.arrivals(number)), lambda found: found >= at_least, "the first messages")
        return campaign_id

    def hold(self, scope: str, key: str, *, held: bool) -> float:
        """When it was acknowledged: in the answer, on a busy machine a little later."""
        body = {"scope": scope, "key": key, "held": held, "reason": "reclamações"}
        version = self.town.api.put("/api/holds", json=body)["version"]
        self.town.wait(
            lambda: self.town.api.get("/api/holds"),
            lambda found: any(
                (one["scope"], one["key"], one["version"], one["effective"]) == (scope, key, version, True)
                for one in found
            ),
            "the sender to heed it",
        )
        return time.monotonic()

    def at_rest(self, *campaigns: str) -> None:
        """Nothing is released any more: what was queued has come back."""
        for campaign_id in campaigns:
            self.town.wait(
                partial(self.town.statistics, campaign_id), lambda found: found["queued"] == 0, "what was queued"
            )

    def pombo(self, *words: str, answer: str = "", code: int = 0) -> str:
        result = self.terminal.invoke(command_line.app, words, input=answer)
        assert result.exit_code == code, result.output
        return result.output


@pytest.fixture(scope="module")
def folder() -> Iterator[RunFolder]:
    with run_folder("control") as made:
        yield made


@pytest.fixture(scope="module")
def control(folder: RunFolder) -> Iterator[Control]:
    with running_town(folder, grace_s=4.0) as town, pytest.MonkeyPatch.context() as patched:
        patched.setattr(login, "runs_folder", lambda: folder.path)
        patched.setattr(queue.console, "width", 200)
        login.save_login(
            login.SavedLogin(town.api.address, town.api.access_token, town.api.refresh_token, "ana", time.time() + 600)
        )
        yield Control(town, folder)


@pytest.mark.parametrize("scope", ["instance", "account"])
def test_after_a_hold_is_acknowledged_only_what_was_on_its_way_arrives(control: Control, scope: str) -> None:
    number, other = control.number(), control.number()
    campaign = control.under_way(number, at_least=10)
    neighbour = control.under_way(other, at_least=1)
    held_at_s = control.hold(scope, number.instance_id if scope == "instance" else "", held=True)
    covered = [number] if scope == "instance" else [number, other]
    control.at_rest(campaign, *([neighbour] if scope == "account" else []))
    if scope == "instance":
        assert [at for at in control.arrivals(other) if at > held_at_s], "nobody else is stopped"
        control.town.wait_figures(neighbour, status="completed", sent_count=PEOPLE)
    late = [at for at in control.arrivals(*covered) if at > held_at_s]
    assert len(late) <= ON_ITS_WAY * len(covered)
    before = len(control.arrivals(*covered))
    assert before < PEOPLE * len(covered)
    assert len(control.arrivals(*covered)) == before
    control.hold(scope, number.instance_id if scope == "instance" else "", held=False)
    for each in (campaign, neighbour):
        control.town.wait_figures(each, status="completed", sent_count=PEOPLE, failed_count=0)
    assert (len(control.arrivals(number)), len(control.arrivals(other))) == (PEOPLE, PEOPLE)


def test_whoever_runs_the_installation_stops_everything_from_a_shell(control: Control) -> None:
    number, people = control.number(), 500  # a shell takes its time
    campaign = control.under_way(number, at_least=10, people=people)
    assert "version" in _campaign_api(control, "hold", "everything", "incident 12")
    town = control.town
    (hold,) = town.wait(
        lambda: [one for one in town.api.get("/api/holds") if one["scope"] == "everything"],
        lambda found: bool(found) and found[0]["effective"],
        "the sender to heed it",
    )
    held_at_s = time.monotonic()
    assert (hold["held"], hold["reason"], hold["set_by"]) == (True, "incident 12", None)
    control.at_rest(campaign)
    assert len([at for at in control.arrivals(number) if at > held_at_s]) <= ON_ITS_WAY
    assert len(control.arrivals(number)) < people
    assert "incident 12" in control.pombo("hold", "list")
    _campaign_api(control, "release", "everything")
    town.wait_figures(campaign, status="completed", sent_count=people)


def test_dead_letters_of_a_campaign_that_has_ended_are_sent_after_a_look(control: Control) -> None:
    number, town = control.number(), control.town
    town.simulator.set_faults(of=number.id, transient_share=1.0)
    campaign = control.start(number, 6)
    town.wait_figures(campaign, status="completed", failed_count=6, sent_count=0)
    town.simulator.set_faults(of=number.id)
    of_campaign = ("--campaign", campaign)
    shown = control.pombo("queue", "preview", *of_campaign)
    assert "provider_busy" in shown
    assert "6 would be tried again" in shown
    assert "runs again" in shown
    assert town.statistics(campaign)["failed_count"] == 6, "a look changes nothing"
    assert "No dead letters" in control.pombo("queue", "preview", *of_campaign, "--reason", "media_refused")
    control.pombo("queue", "retry", *of_campaign, answer="n\n", code=1)

    rows = town.api.get(f"/api/campaigns/{campaign}/recipients")
    assert {row["status"] for row in rows} == {"failed"}
    assert "Ordered" in control.pombo("queue", "retry", *of_campaign, answer="y\n")
    town.wait_figures(campaign, status="completed", sent_count=6, failed_count=0)
    accepted = Counter(one["to"] for one in town.simulator.messages_of(number.id) if one["direction"] == "out")
    assert (len(accepted), set(accepted.values())) == (6, {1})
    assert "No dead letters" in control.pombo("queue", "retry", *of_campaign, code=1)
    assert "loja" in control.pombo("queue", "stats", "--instance", number.name)


def test_what_was_given_up_is_not_tried_again(control: Control) -> None:
    number, town = control.number(), control.town
    town.simulator.set_faults(of=number.id, transient_share=1.0)
    campaign = control.start(number, 2)
    town.wait_figures(campaign, status="completed", failed_count=2)
    town.simulator.set_faults(of=number.id)
    assert "Ordered" in control.pombo("queue", "clear", "--campaign", campaign, "--yes")
    town.wait(
        lambda: control.pombo("queue", "preview", "--campaign", campaign),
        lambda shown: "No dead letters" in shown,
        "the order",
    )
    control.pombo("queue", "retry", "--campaign", campaign, "--yes", code=1)
    assert town.statistics(campaign)["failed_count"] == 2


def _campaign_api(control: Control, *words: str) -> str:
    """As whoever runs the installation does it: a shell where the service's settings are."""
    stack = control.town.stack
    own: dict[str, Any] = environment(Service.CAMPAIGN_API, stack.addresses, stack.secrets, EVOLUTION_KEY)
    command = [sys.executable, "-m", "campaign_api", *words]
    return subprocess.run(command, env={**os.environ, **own}, capture_output=True, text=True, check=True).stdout
