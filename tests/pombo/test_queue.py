"""`pombo queue` and `pombo hold`: what they ask of the API, what they show, and that they ask before they order."""

import json
import time
from collections.abc import Iterator
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from threading import Thread
from typing import Any
from uuid import uuid4

import pytest
from typer.testing import CliRunner

from pombo import login, queue
from pombo.login import SavedLogin, save_login

CAMPAIGN, INSTANCE = str(uuid4()), str(uuid4())
GROUP = {"campaign_id": CAMPAIGN, "instance_id": INSTANCE}
LETTERS = [
    GROUP | {"reason": "provider_busy", "fate": "campaign_reopened", "count": 6},
    GROUP | {"reason": "not_on_whatsapp", "fate": "final", "count": 2},
]
HOLD = {
    "scope": "instance", "key": INSTANCE, "held": True, "version": 1, "set_by": None, "set_by_name": "Ana",
    "set_at": "2026-03-02T12:00:00Z", "reason": "reclamações", "effective": True,
}  # fmt: skip
FIGURES = {"pending": 7, "processing": 2, "dead_letters": 1, "unresolved": 0, "oldest_age_s": 90.0, "rate": 12}
QUEUE = FIGURES | {
    "instance_id": INSTANCE, "name": "loja [1]", "tier": "1", "breaker": "host_down", "breaker_until": None,
    "window_limit": 2000, "window_used": 3,
}  # fmt: skip


@dataclass(slots=True)
class Door:
    """Answers as campaign-api does and keeps what it was asked: method, path, body."""

    asked: list[tuple[str, str, Any]] = field(default_factory=list)
    groups: list[dict[str, Any]] = field(default_factory=lambda: LETTERS)
    effective: bool = True

    def answer(self, method: str, path: str, body: Any) -> Any:
        self.asked.append((method, path, body))
        match method, path.partition("?")[0]:
            case "POST", "/api/whatsapp/queue/dead-letters/preview":
                again = sum(group["count"] for group in self.groups if group["fate"] != "final")
                return {"groups": self.groups, "again": again}
            case "GET", "/api/whatsapp/queue/possibly-twice":
                row = {"id": CAMPAIGN, "campaign_id": CAMPAIGN, "phone_number": "5511", "name": "Ana", "attempt": 2}
                return [row | {"state": "accepted"}]
            case "GET", "/api/whatsapp/queue/stats":
                return {"campaigns": FIGURES, "webhooks": {"dead_letters": 3}, "instances": [QUEUE]}
            case "GET", "/api/instances":
                return [{"id": INSTANCE, "name": "loja [1]"}]
            case "GET", "/api/holds":
                stopped = {"stopped_reason": "template_paused", "stopped_text": "paused for low quality"}
                template = {"scope": "template", "key": "cupom", "held": False, "stopped_at": "2026-03-03T12:00:00Z"}
                return [HOLD, HOLD | {"key": "", "scope": "account", "held": False}, HOLD | template | stopped]
            case "PUT", "/api/holds":
                return HOLD | body | {"effective": self.effective}
            case _:
                return {"success": True}

    @property
    def orders(self) -> list[Any]:
        return [body for method, path, body in self.asked if method != "GET" and not path.endswith("preview")]


@pytest.fixture
def door(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Door]:
    made = Door()

    class Handler(BaseHTTPRequestHandler):
        def handle_any(self) -> None:
            text = self.rfile.read(int(self.headers.get("Content-Length", "0")))
            answer = made.answer(self.command, self.path, json.loads(text) if text else None)
            self.send_response(200)
            self.end_headers()
            self.wfile.write(json.dumps(answer).encode())

        do_GET = do_POST = do_PUT = handle_any

        def log_message(self, *_: Any) -> None:
            """Nothing into the tests' output."""

    monkeypatch.setattr(login, "runs_folder", lambda: tmp_path)
    monkeypatch.setattr(queue.console, "width", 200)
    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    Thread(target=server.serve_forever).start()
    save_login(SavedLogin(f"http://127.0.0.1:{server.server_port}", "access", "refresh", "ana", time.time() + 900))
    yield made
    server.shutdown()
    server.server_close()


def run(app: Any, *words: str, answer: str = "", code: int = 0) -> str:
    result = CliRunner().invoke(app, words, input=answer)
    assert result.exit_code == code, result.output
    return result.output


def test_figures_are_shown_by_number_and_in_all(door: Door) -> None:
    shown = run(queue.app, "stats", "--instance", "loja [1]")
    assert f"?instanceId={INSTANCE}" in door.asked[-1][1]
    for expected in ("loja [1]", "90 s", "3 of 2000", "host_down", "all"):
        assert expected in shown


def test_a_preview_shows_what_would_happen_and_orders_nothing(door: Door) -> None:
    shown = run(queue.app, "preview", "--campaign", CAMPAIGN, "--reason", "provider_busy")
    assert "6 would be tried again" in shown
    assert "runs again" in shown
    assert door.asked[-1][2] == {"campaign_id": CAMPAIGN, "reason": "provider_busy"}
    assert door.orders == []


def test_a_retry_is_shown_asked_for_and_ordered_with_the_same_filter(door: Door) -> None:
    job = str(uuid4())
    words = ("retry", "--job", job, "--instance", INSTANCE)
    run(queue.app, *words, answer="n\n", code=1)
    assert door.orders == []
    run(queue.app, *words, answer="y\n")
    assert door.orders == [{"action": "retry_dlq", "jobIds": [job], "instance_id": INSTANCE}]


def test_where_nothing_can_be_tried_again_nothing_is_asked(door: Door) -> None:
    door.groups = LETTERS[1:]
    assert "0 would be tried again" in run(queue.app, "retry", "--yes", code=1)
    door.groups = []
    assert "No dead letters" in run(queue.app, "retry", "--yes", code=1)
    assert "No dead letters" in run(queue.app, "clear", "--yes", code=1)
    assert door.orders == []
    door.groups = LETTERS[1:]
    run(queue.app, "clear", "--yes")
    assert [order["action"] for order in door.orders] == ["clear"], (
        "what cannot be tried again leaves the queue as well"
    )


def test_webhooks_that_were_not_translated_are_asked_about_with_the_same_words(door: Door) -> None:
    assert "3 webhooks could not be translated" in run(queue.app, "stats")
    run(queue.app, "retry", "--webhooks", "--reason", "UnreadablePayload: not_json", "--yes")
    run(queue.app, "clear", "--webhooks", "--yes")
    assert door.orders == [
        {"action": "retry_dlq", "queue": "webhooks", "reason": "UnreadablePayload: not_json"},
        {"action": "clear", "queue": "webhooks"},
    ]


def test_possible_duplicates_are_listed(door: Door) -> None:
    shown = run(queue.app, "possibly-twice", "--campaign", CAMPAIGN)
    assert f"?campaign_id={CAMPAIGN}" in door.asked[-1][1]
    assert "accepted" in shown
    assert "Ana" in shown


def test_other_orders(door: Door) -> None:
    run(queue.app, "clear", "--campaign", CAMPAIGN, "--yes")
    run(queue.app, "recover-stuck")
    run(queue.app, "decide", CAMPAIGN, "was_sent")
    assert door.orders == [
        {"action": "clear", "campaign_id": CAMPAIGN},
        {"action": "recover_stuck"},
        {"decision": "was_sent"},
    ]


def test_a_hold_names_one_thing_and_says_when_it_is_heeded(door: Door) -> None:
    assert "held: only what was on its way" in run(queue.holds_app, "set", "--instance", "loja [1]", "--reason", "spam")
    assert "released" in run(queue.holds_app, "release", "--account")
    assert door.orders == [
        {"scope": "instance", "key": INSTANCE, "held": True, "reason": "spam"},
        {"scope": "account", "key": "", "held": False, "reason": ""},
    ]
    assert "name one of" in run(queue.holds_app, "set", "--account", "--template", "x", "--reason", "r", code=2)
    assert "no instance is called" in run(queue.holds_app, "release", "--instance", "other", code=2)
    door.effective = False
    assert "not heeded it yet" in run(queue.holds_app, "set", "--template", "cupom", "--reason", "r", code=1)


def test_holds_are_listed_with_who_and_why(door: Door) -> None:
    shown = run(queue.holds_app, "list")
    assert "Ana" in shown
    assert "reclamações" in shown
    assert "account" not in shown, "what was released is not held"
    assert "cupom" in shown
    assert "paused for low quality" in shown
