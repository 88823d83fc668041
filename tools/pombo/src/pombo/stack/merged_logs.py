"""Several services' JSON logs as one stream of readable lines, each service in its colour."""

import json
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.text import Text

COLOURS = {
    "campaign-api": "cyan",
    "scheduler": "magenta",
    "sender": "green",
    "webhook-ingest": "yellow",
    "webhook-translator": "yellow",
    "projections": "blue",
    "simulator": "white",
}
LEVELS = {"warning": "yellow", "error": "bold red", "critical": "bold red"}
# Said by the column, the colour or nobody.
LEFT_OUT = frozenset({"event", "level", "logger", "timestamp", "service", "exception", "trace_id"})
# Libraries that tell at length what goes as it should.
CHATTY = ("aiokafka.", "uvicorn", "alembic.")
LINE_MAX = 240


class MergedLogs:
    """`show_new` prints what was appended since the last call, file by file in the order of their times."""

    def __init__(self, folder: Path, console: Console) -> None:
        self._console = console
        self._folder = folder
        # An earlier run's lines are history.
        self._read = {file: file.stat().st_size for file in self._files() if file.exists()}

    def show_new(self) -> None:
        lines = [(service, line) for file, service in self._files().items() for line in self._appended(file)]
        for service, line in sorted(lines, key=lambda entry: _time_of(entry[1])):
            if not is_chatter(line):
                self._console.print(shown(service, line), soft_wrap=True)

    def _files(self) -> dict[Path, str]:
        return {self._folder / f"{service}.log": service for service in COLOURS}

    def _appended(self, file: Path) -> list[str]:
        """Whole lines only; the rest comes with the next call."""
        if not file.exists():
            return []
        with file.open("rb") as handle:
            handle.seek(self._read.get(file, 0))
            data = handle.read()
        whole = data[: data.rfind(b"\n") + 1]
        self._read[file] = self._read.get(file, 0) + len(whole)
        return whole.decode(errors="replace").splitlines()


def shown(service: str, line: str) -> Text:
    """One line: time, service, event, its fields; an exception's last line beside it."""
    text = Text(f"{service:<19}", style=COLOURS.get(service, ""))
    fact = _fact(line)
    if fact is None:
        return text.append(line[:LINE_MAX], style="dim")
    text.append(f"{str(fact.get('timestamp', ''))[11:23]:<13}", style="dim")
    text.append(str(fact.get("event", "")), style=LEVELS.get(str(fact.get("level")), ""))
    rest = " ".join(f"{name}={value}" for name, value in fact.items() if name not in LEFT_OUT and value != "")
    if exception := str(fact.get("exception") or ""):
        rest = f"{rest} {exception.strip().splitlines()[-1]}"
    text.append(f"  {rest}"[:LINE_MAX], style="dim")
    return text


def is_chatter(line: str) -> bool:
    fact = _fact(line)
    return fact is not None and fact.get("level") == "info" and str(fact.get("logger")).startswith(CHATTY)


def _fact(line: str) -> dict[str, Any] | None:
    try:
        fact = json.loads(line)
    except ValueError:
        return None
    return fact if isinstance(fact, dict) else None


def _time_of(line: str) -> str:
    fact = _fact(line)
    return str(fact.get("timestamp", "")) if fact else ""
