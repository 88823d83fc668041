"""What the provider saw, from the simulator's append-only log: read on from where the last reading ended."""

from collections import defaultdict
from dataclasses import dataclass
from pathlib import Path

import orjson

# orjson keeps the order of fields, so the event is at the beginning: what is not asked for is not decoded.
_OPEN = b'{"event":"request_open"'
_WEBHOOK = b'{"event":"webhook",'


@dataclass(frozen=True, slots=True)
class Arrival:
    """One send request; `at_ns` on this machine's monotonic clock."""

    at_ns: int
    number: str
    person: str
    text_sha: str
    message_id: str | None


@dataclass(frozen=True, slots=True)
class Report:
    """One status that our webhook door answered with 200, at the time of that answer."""

    at_ns: int
    message_id: str
    status: str


class Arrivals:
    """`skip` forgets what was written so far; ask the simulator for its statistics first, that flushes its log."""

    def __init__(self, log: Path) -> None:
        self._log = log
        self._offset = 0

    def skip(self) -> None:
        self._offset = self._log.stat().st_size

    def read(self) -> tuple[list[Arrival], list[Report]]:
        """Everything since the last reading, each list in the order of its times."""
        sends: list[Arrival] = []
        reports: list[Report] = []
        for line in self._lines():
            if line.startswith(_OPEN):
                sends.append(_arrival(line))
            elif line.startswith(_WEBHOOK):
                reports += _reports(line)
        return sorted(sends, key=lambda send: send.at_ns), sorted(reports, key=lambda report: report.at_ns)

    def _lines(self) -> list[bytes]:
        """Whole lines only; the rest comes with the next call."""
        with self._log.open("rb") as handle:
            handle.seek(self._offset)
            data = handle.read()
        whole = data[: data.rfind(b"\n") + 1]
        self._offset += len(whole)
        return whole.splitlines()


def by_number(sends: list[Arrival]) -> dict[str, list[int]]:
    found: dict[str, list[int]] = defaultdict(list)
    for send in sends:
        found[send.number].append(send.at_ns)
    return found


def by_text(sends: list[Arrival]) -> dict[str, list[int]]:
    found: dict[str, list[int]] = defaultdict(list)
    for send in sends:
        found[send.text_sha].append(send.at_ns)
    return found


def _arrival(line: bytes) -> Arrival:
    fact = orjson.loads(line)
    return Arrival(fact["mono_ns"], fact["number"], fact["person"], fact.get("text_sha") or "", fact.get("message_id"))


def _reports(line: bytes) -> list[Report]:
    fact = orjson.loads(line)
    if fact["http_status"] != 200:
        return []
    return [Report(fact["mono_ns"], str(item[0]), str(item[1])) for item in fact["items"]]
