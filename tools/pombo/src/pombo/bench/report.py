"""A run's JSON lines as the table of a document, each figure against its goal, nothing left out."""

import json
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

from pombo.bench.goals import GOALS
from pombo.marked import replace_between

BEGIN, END = "<!-- bench results: begin -->", "<!-- bench results: end -->"
# The machine's own, the same on every line: said once.
MACHINE = ("cores", "memory_gib", "python", "system", "everything_on_this_machine")


def write_report(results: Path, document: Path) -> None:
    """Replaces what is between the marks. Raises MarksMissing."""
    figures = [json.loads(line) for line in results.read_text().splitlines() if line.strip()]
    replace_between(document, BEGIN, END, tables(figures))


def tables(figures: Sequence[dict[str, Any]]) -> str:
    if not figures:
        return "\nNo figures.\n\n"
    last = figures[-1]["conditions"]
    machine = ", ".join(f"{name} {last[name]}" for name in MACHINE if name in last)
    return "\n".join(["", f"Machine: {machine}.", "", *_rows(figures), ""]) + "\n"


def _rows(figures: Iterable[dict[str, Any]]) -> Iterable[str]:
    yield "| figure | value | goal | | conditions |"
    yield "|---|---|---|---|---|"
    for figure in figures:
        goal = GOALS.get(figure["name"])
        wanted, verdict = (goal.text, goal.verdict(figure["value"])) if goal else ("", "")
        value = f"**{figure['value']:,g}** {figure['unit']}" if figure["value"] < 1e6 else f"**{figure['value']:,.0f}**"
        yield f"| `{figure['name']}` | {value} | {wanted} | {verdict} | {_shown(figure['conditions'])} |"


def _shown(conditions: dict[str, Any]) -> str:
    return "; ".join(f"{name.replace('_', ' ')}: {_value(value)}" for name, value in _own(conditions))


def _own(conditions: dict[str, Any]) -> Iterable[tuple[str, Any]]:
    return ((name, value) for name, value in conditions.items() if name not in MACHINE and value not in ([], None))


def _value(value: Any) -> str:
    match value:
        case dict():
            return ", ".join(f"{name} {_value(one)}" for name, one in value.items())
        case list():
            return ", ".join(map(_value, value))
        case float():
            return f"{value:g}"
        case _:
            return str(value)
