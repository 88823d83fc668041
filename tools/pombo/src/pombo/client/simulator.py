"""The simulator's control API."""

from typing import Any

import httpx


class Simulator:
    def __init__(self, address: str) -> None:
        self.address = address
        self._client = httpx.Client(base_url=f"{address}/_control", timeout=30.0, trust_env=False)

    def close(self) -> None:
        self._client.close()

    def open_requests(self) -> int:
        """Send requests that it has received and not answered yet."""
        return len(self._json("GET", "/open")["open"])

    def add_number(self, **fields: Any) -> dict[str, Any]:
        return dict(self._json("POST", "/numbers", json=fields))

    def change_number(self, number: str, **fields: Any) -> None:
        self._json("PATCH", f"/numbers/{number}", json=fields)

    def remove_number(self, number: str) -> None:
        """Without a word to anyone, as a gateway that lost its database."""
        self._json("DELETE", f"/numbers/{number}")

    def change_settings(self, **settings: Any) -> None:
        self._json("PATCH", "/settings", json=settings)

    def messages_of(self, number: str) -> Any:
        """What went through this number, newest last, with statuses."""
        return self._json("GET", "/messages", params={"number": number})["messages"]

    def numbers(self) -> Any:
        return self._json("GET", "/numbers")["numbers"]

    def set_faults(self, *, of: str | None = None, **faults: Any) -> None:
        """From now on these and no others: of one number, or of all."""
        self._json("PUT", f"/faults/{of}" if of else "/faults", json=faults)

    def write_in(self, number: str, phone: str, text: str) -> None:
        """A person writes to the number."""
        self._json("POST", "/inbound", json={"number": number, "phone": phone, "text": text})

    def stats(self) -> Any:
        """Tallies; also flushes the witness log."""
        return self._json("GET", "/stats")

    def _json(self, method: str, path: str, **options: Any) -> Any:
        response = self._client.request(method, path, **options)
        response.raise_for_status()
        return response.json()
