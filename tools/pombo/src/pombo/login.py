"""Who the command line is signed in as: kept in a file that only we can read."""

import fcntl
import json
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path

from pombo.backing.folders import write_private
from pombo.client.api import Api
from pombo.stack.folder import runs_folder


class NotSignedIn(Exception):
    """Nobody is signed in: run `pombo login`, or `pombo up`, which signs in by itself."""

    def __init__(self) -> None:
        super().__init__(" ".join((self.__doc__ or "").split()))


@dataclass(frozen=True, slots=True)
class SavedLogin:
    """`expires_at`: of the access token, in seconds since 1970; 0 = not known, so that it is renewed first."""

    address: str
    access_token: str
    refresh_token: str
    email: str
    expires_at: float = 0.0


def login_file() -> Path:
    return runs_folder() / "login.json"


def save_login(login: SavedLogin) -> None:
    login_file().parent.mkdir(parents=True, exist_ok=True)
    write_private(login_file(), json.dumps(asdict(login)))


def sign_in(api: Api, email: str, password: str) -> str:
    """The role. The commands that follow are this person's."""
    answer = api.sign_in(email, password)
    save_login(_login_of(api, email))
    return str(answer["user"]["role"])


@contextmanager
def saved_api() -> Iterator[Api]:
    """The API as the person signed in."""
    login = _read()
    with Api(login.address, renewing=lambda api: _renewing(api)) as api:
        _adopt(api, login)
        yield api


@contextmanager
def _renewing(api: Api) -> Iterator[bool]:
    """A refresh token can be used once, and commands run side by side: one renews it, the others take over what it
    got. Kept at once, because a command may be killed."""
    with login_file().with_suffix(".lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        login = _read()
        if login.refresh_token != api.refresh_token:
            _adopt(api, login)
            yield False
            return
        yield True
        save_login(_login_of(api, login.email))


def _adopt(api: Api, login: SavedLogin) -> None:
    api.adopt(login.access_token, login.refresh_token, login.expires_at - time.time())


def _login_of(api: Api, email: str) -> SavedLogin:
    return SavedLogin(api.address, api.access_token, api.refresh_token, email, time.time() + api.expires_in_s)


def _read() -> SavedLogin:
    try:
        return SavedLogin(**json.loads(login_file().read_text()))
    except FileNotFoundError:
        raise NotSignedIn from None
