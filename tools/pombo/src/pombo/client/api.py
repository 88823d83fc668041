"""campaign-api over HTTP, as any program would use it."""

import re
import time
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, nullcontext
from pathlib import Path
from typing import Any, TypeAlias

import httpx

TIMEOUT_S = 60.0
RENEW_BEFORE_S = 60.0
TRIES = 5
Renewing: TypeAlias = Callable[["Api"], AbstractContextManager[bool]]
_NEXT = re.compile(r'<([^>]+)>;\s*rel="?next"?')


class Refused(Exception):
    """The API answered with a problem; the text is its own."""

    def __init__(self, method: str, path: str, response: httpx.Response) -> None:
        try:
            problem = response.json()
            said = problem.get("detail") or problem.get("error") or problem.get("title") or response.text
        except ValueError:
            said = response.text[:500]
        super().__init__(f"{said} ({response.status_code} to {method} {path})")
        self.status = response.status_code


class Unreachable(httpx.ConnectError):
    """Nothing answers at the address: start it (`pombo up`), or sign in at another one (`pombo login`)."""

    def __init__(self, address: str) -> None:
        super().__init__(f"{' '.join((self.__doc__ or '').split())} The address is {address}")


class Api:
    """One signed-in person. Tokens are renewed by themselves; 429 is waited out."""

    def __init__(self, address: str, *, renewing: Renewing | None = None) -> None:
        """`renewing`: around each renewal; where it yields False, others have renewed the tokens already."""
        self.address = address.rstrip("/")
        self.access_token = ""
        self.refresh_token = ""
        self._renewing = renewing
        self._expires = float("inf")
        self._client = httpx.Client(base_url=self.address, timeout=TIMEOUT_S, trust_env=False)

    def close(self) -> None:
        self._client.close()

    def __enter__(self) -> "Api":
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def sign_in(self, email: str, password: str) -> dict[str, Any]:
        return self._take(self.post("/api/auth/sign-in", json={"email": email, "password": password}))

    def adopt(self, access_token: str, refresh_token: str, expires_in_s: float) -> None:
        """Tokens that were got before."""
        self.access_token, self.refresh_token = access_token, refresh_token
        self._expires = time.monotonic() + expires_in_s

    @property
    def expires_in_s(self) -> float:
        """How long the access token is still good."""
        return self._expires - time.monotonic()

    def get(self, path: str, **options: Any) -> Any:
        return self.call("GET", path, **options).json()

    def post(self, path: str, **options: Any) -> Any:
        return self.call("POST", path, **options).json()

    def put(self, path: str, **options: Any) -> Any:
        return self.call("PUT", path, **options).json()

    def patch(self, path: str, **options: Any) -> Any:
        return self.call("PATCH", path, **options).json()

    def call(self, method: str, path: str, **options: Any) -> httpx.Response:
        """Raises Refused for any answer of 400 or above, Unreachable."""
        if time.monotonic() > self._expires - RENEW_BEFORE_S and self.refresh_token:
            self._refresh()
        response = self.ask(method, path, **options)
        if response.status_code >= 400:
            raise Refused(method, path, response)
        return response

    def ask(self, method: str, path: str, **options: Any) -> httpx.Response:
        """The answer whatever it is, but for 429, which is waited out."""
        headers = {"Authorization": f"Bearer {self.access_token}"} if self.access_token else {}
        for last in (*[False] * (TRIES - 1), True):
            try:
                response = self._client.request(method, path, headers=headers, **options)
            except httpx.ConnectError as error:
                raise Unreachable(self.address) from error
            if response.status_code != 429 or last:
                break
            time.sleep(min(float(response.headers.get("Retry-After", "1")), 10.0))
        return response

    def pages(self, path: str, **params: Any) -> Iterator[Any]:
        """Every item of a list, following the header Link."""
        where: str | None = path
        query: dict[str, Any] | None = params
        while where is not None:
            response = self.call("GET", where, params=query)
            yield from response.json()
            found = _NEXT.search(response.headers.get("Link", ""))
            where, query = (found.group(1), None) if found else (None, None)

    def upload(self, file: Path) -> dict[str, Any]:
        with file.open("rb") as handle:
            answer: dict[str, Any] = self.post("/api/uploads", files={"file": (file.name, handle)})
        return answer

    def _refresh(self) -> None:
        self._expires = float("inf")  # not again while this one is under way
        with self._renewing(self) if self._renewing else nullcontext(True) as needed:
            if needed:
                self._take(self.post("/api/auth/refresh", json={"refresh_token": self.refresh_token}))

    def _take(self, answer: dict[str, Any]) -> dict[str, Any]:
        self.adopt(answer["access_token"], answer["refresh_token"], float(answer["expires_in"]))
        return answer
