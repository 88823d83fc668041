"""Who is signed in on the command line: commands that run side by side share one login."""

import json
import time
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from threading import Thread
from typing import Any

import pytest

from pombo import login
from pombo.client.api import Api, Refused, Unreachable
from pombo.login import NotSignedIn, SavedLogin, save_login, saved_api


class _Door(BaseHTTPRequestHandler):
    """Gives new tokens for the latest refresh token only, as campaign-api does."""

    latest = 0

    def do_POST(self) -> None:
        asked = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
        if asked["refresh_token"] != f"refresh {_Door.latest}":
            self._answer(401, {"detail": "The refresh token is not valid: sign in again"})
            return
        _Door.latest += 1
        self._answer(
            200,
            {
                "access_token": f"access {_Door.latest}",
                "refresh_token": f"refresh {_Door.latest}",
                "expires_in": 900,
            },
        )

    def do_GET(self) -> None:
        good = self.headers["Authorization"] == f"Bearer access {_Door.latest}"
        self._answer(200 if good else 401, {"renewed": _Door.latest, "detail": "Sign in first"})

    def _answer(self, status: int, body: dict[str, Any]) -> None:
        self.send_response(status)
        self.end_headers()
        self.wfile.write(json.dumps(body).encode())

    def log_message(self, *_: Any) -> None:
        """Nothing into the tests' output."""


@pytest.fixture
def address(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[str]:
    monkeypatch.setattr(login, "runs_folder", lambda: tmp_path)
    _Door.latest = 0
    server = ThreadingHTTPServer(("127.0.0.1", 0), _Door)
    Thread(target=server.serve_forever).start()
    yield f"http://127.0.0.1:{server.server_port}"
    server.shutdown()
    server.server_close()


def saved(address: str, expires_in_s: float) -> None:
    save_login(SavedLogin(address, "access 0", "refresh 0", "ana@example.com", time.time() + expires_in_s))


def test_a_good_token_is_not_renewed(address: str) -> None:
    saved(address, 900)
    with saved_api() as api:
        assert api.get("/api/campaigns") == {"renewed": 0, "detail": "Sign in first"}


def test_two_commands_at_once_renew_once_and_both_go_on(address: str) -> None:
    saved(address, 0)
    with saved_api() as watching, saved_api() as pausing:
        assert pausing.get("/api/campaigns")["renewed"] == 1
        assert watching.get("/api/campaigns")["renewed"] == 1


def test_what_was_renewed_is_kept_at_once(address: str) -> None:
    saved(address, 0)
    with saved_api() as killed:
        killed.get("/api/campaigns")
        kept = json.loads(login.login_file().read_text())
        assert (kept["access_token"], kept["refresh_token"]) == ("access 1", "refresh 1")
        assert kept["expires_at"] > time.time() + 800


def test_a_refusal_says_first_what_is_wrong(address: str) -> None:
    save_login(SavedLogin(address, "access 7", "refresh 7", "ana@example.com"))
    with saved_api() as api, pytest.raises(Refused, match=r"^The refresh token is not valid: sign in again"):
        api.get("/api/campaigns")


def test_without_a_login_the_remedy_is_named(address: str) -> None:
    with pytest.raises(NotSignedIn, match="pombo login"), saved_api():
        pass


def test_where_nothing_answers_the_remedy_and_the_address_are_named() -> None:
    with Api("http://127.0.0.1:9") as api, pytest.raises(Unreachable, match=r"pombo up.*127\.0\.0\.1:9"):
        api.get("/api/campaigns")
