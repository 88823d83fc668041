"""The table of a run: every figure with its goal, verdict and conditions."""

import json
from pathlib import Path

import pytest

from pombo.bench.bench import GROUPS
from pombo.bench.figures import Figure
from pombo.bench.goals import GOALS, Goal
from pombo.bench.report import BEGIN, END, tables, write_report
from pombo.marked import MarksMissing


def test_a_goal_is_met_or_missed_on_its_side() -> None:
    more, less, none = Goal(1000, 2000, "higher"), Goal(2, 0.5, "lower"), Goal(0, 0, "lower")
    assert [more.verdict(value) for value in (2000, 1000, 312)] == [
        "reached, the aim too",
        "reached",
        "**below**: 31% of it",
    ]
    assert [less.verdict(value) for value in (0.4, 1, 5)] == [
        "reached, the aim too",
        "reached",
        "**above**: 2.5 times it",
    ]
    assert none.verdict(0) == "reached, the aim too"
    assert none.verdict(3) == "**above**"
    assert more.text == "≥ 1000 (aim 2000)"
    assert none.text == "≤ 0"


def test_every_goal_is_of_a_figure() -> None:
    assert set(GOALS) <= {figure for group in GROUPS.values() for figure in group.figures}


def figure(name: str, value: float, **conditions: object) -> dict[str, object]:
    line: dict[str, object] = json.loads(Figure(name, value, "u", dict(conditions)).line())
    return line


def test_the_table_shows_value_goal_and_what_it_depended_on() -> None:
    text = tables([figure("windows_over_limit", 3, numbers=2, ladder={"500": {"p99_ms": 4.5}}, none=None)])
    row = next(line for line in text.splitlines() if line.startswith("| `"))
    assert row.startswith("| `windows_over_limit` | **3** u | ≤ 0 | **above** |")
    assert row.endswith("numbers: 2; ladder: 500 p99_ms 4.5 |")
    assert text.count("python") == 1  # the machine is told once


def test_a_figure_without_a_goal_has_none() -> None:
    assert "| `import_rows_per_second` | **16,170** u |  |  |" in tables([figure("import_rows_per_second", 16170)])


def test_the_document_keeps_what_is_outside_of_the_marks(tmp_path: Path) -> None:
    document, results = tmp_path / "performance.md", tmp_path / "results.jsonl"
    document.write_text(f"before\n{BEGIN}\nold\n{END}\nafter\n")
    results.write_text(json.dumps(figure("api_p99_ms", 12)) + "\n")
    write_report(results, document)
    text = document.read_text()
    assert text.startswith("before\n")
    assert text.endswith(f"{END}\nafter\n")
    assert "old" not in text
    assert "api_p99_ms" in text
    document.write_text("nothing here")
    with pytest.raises(MarksMissing):
        write_report(results, document)
