"""On a whole system: why nothing moves is told by everybody who knows it, and who does not answer is named."""

from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from io import StringIO
from typing import Any

import pytest
from rich.console import Console

from numbers_in_town import Town, running_town
from pombo.stack import RunFolder, Service
from pombo.stack.stack import EVOLUTION_KEY
from pombo.why import show
from stack import run_folder

pytestmark = [pytest.mark.stack, pytest.mark.timeout(300)]
DELAY_S = 20.0


@pytest.fixture(scope="module")
def folder() -> Iterator[RunFolder]:
    with run_folder("why") as made:
        yield made


@pytest.fixture(scope="module")
def town(folder: RunFolder) -> Iterator[Town]:
    with running_town(folder, 60.0) as running:
        yield running


def names(found: dict[str, Any]) -> set[str]:
    return {one["reason"] for one in found["reasons"]}


def test_a_campaign_says_what_holds_it_from_its_delay_to_a_dead_sender(town: Town) -> None:
    name = "loja-porque"
    instance_id = town.make_instance(name, "evolution_web", instance_name=name, credentials={"apikey": EVOLUTION_KEY})
    with town.nobody_scans_by_chance():
        town.connect(name)
        town.wait_qr_code(name)
    town.scan(name)
    town.wait_status(name, "connected")
    campaign_id = town.start_campaign("Porque", [instance_id], people=6, delay_s=DELAY_S)
    town.wait_figures(campaign_id, sent_count=1)
    path = f"/api/campaigns/{campaign_id}/explain"

    found = town.wait(lambda: town.api.get(path), lambda found: "delay" in names(found), "the delay")
    assert not {"scheduler_silent", "sender_silent"} & names(found)
    (delay,) = (one for one in found["reasons"] if one["reason"] == "delay")
    assert delay["text"].startswith(f"{name}: the pause between two messages.")
    assert datetime.now(UTC) < datetime.fromisoformat(delay["until"]) <= datetime.now(UTC) + timedelta(seconds=DELAY_S)
    assert found["waiting"] == 5
    left_s = (datetime.fromisoformat(found["estimated_end"]) - datetime.now(UTC)).total_seconds()
    assert 4 * DELAY_S < left_s < 5 * DELAY_S + 10

    waiting = town.api.get(f"/api/campaigns/{campaign_id}/recipients", params={"state": "pending"})
    assert waiting
    person = town.api.get(f"/api/campaigns/{campaign_id}/recipients/{waiting[0]['recipient_id']}/explain")
    assert (person["subject"], person["status"]) == ("dispatch", "pending")
    assert "its_turn" in names(person)
    of_number = town.api.get(f"/api/instances/{instance_id}/explain")
    assert (of_number["name"], of_number["waiting"]) == (name, 5)

    town.api.put("/api/holds", json={"scope": "account", "held": True, "reason": "wrong list"})
    town.api.put(f"/api/campaigns/{campaign_id}/pause")
    found = town.wait(
        lambda: town.api.get(path), lambda found: {"held", "campaign_not_running"} <= names(found), "hold and pause"
    )
    texts = " ".join(one["text"] for one in found["reasons"])
    assert "Aura paused it since" in texts
    assert "(wrong list)" in texts
    assert [one["reason"] for one in found["reasons"]].count("held") == 1
    page = StringIO()
    show(Console(file=page, width=160), found, datetime.now(UTC))
    assert "Aura paused it" in page.getvalue()

    town.stack.process(Service.SENDER).stop(20)
    found = town.api.get(path)
    assert "sender_silent" in names(found)
    assert "scheduler_silent" not in names(found)
    town.stack.process(Service.SENDER).start()
