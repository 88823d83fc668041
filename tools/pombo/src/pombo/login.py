"""Who the command line is signed in as: kept in a file that only we can read."""

import json
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path

from pombo.client.api import Api
from pombo.stack.folder import runs_folder
from pombo.stack.secrets import write_private


class NotSignedIn(Exception):
    """Nobody is signed in: run `pombo login`, or `pombo up`, which signs in by itself."""

    def __init__(self) -> None:
        super().__init__(" ".join((self.__doc__ or "").split()))


@dataclass(frozen=True, slots=True)
class SavedLogin:
    address: str
    access_token: str
    refresh_token: str
    email: str


def login_file() -> Path:
    return runs_folder() / "login.json"


def save_login(login: SavedLogin) -> None:
    login_file().parent.mkdir(parents=True, exist_ok=True)
    write_private(login_file(), json.dumps(asdict(login)))


@contextmanager
def saved_api() -> Iterator[Api]:
    """The API as the person signed in; renewed tokens are kept, because a refresh token can be used once."""
    try:
        login = SavedLogin(**json.loads(login_file().read_text()))
    except FileNotFoundError:
        raise NotSignedIn from None
    with Api(login.address, access_token=login.access_token, refresh_token=login.refresh_token) as api:
        try:
            yield api
        finally:
            if api.refresh_token != login.refresh_token:
                save_login(SavedLogin(login.address, api.access_token, api.refresh_token, login.email))
