"""Services' JSON logs become readable lines: whole ones, once each, without what libraries chat about."""

import io
import json
from pathlib import Path

import pytest
from rich.console import Console

from pombo.stack.merged_logs import MergedLogs, shown


def line(event: str, at: str, **fields: str) -> str:
    return json.dumps({"event": event, "level": "info", "timestamp": f"2026-01-01T00:00:{at}Z", **fields}) + "\n"


@pytest.fixture
def output() -> io.StringIO:
    return io.StringIO()


@pytest.fixture
def console(output: io.StringIO) -> Console:
    return Console(file=output, width=200, no_color=True)


def test_lines_of_several_services_come_in_the_order_of_their_times(
    tmp_path: Path, console: Console, output: io.StringIO
) -> None:
    logs = MergedLogs(tmp_path, console)
    (tmp_path / "sender.log").write_text(line("second", "02") + line("third", "03"))
    (tmp_path / "scheduler.log").write_text(line("first", "01", campaign="c1"))
    logs.show_new()
    assert [text.split()[2] for text in output.getvalue().splitlines()] == ["first", "second", "third"]
    assert "campaign=c1" in output.getvalue()


def test_half_a_line_waits_for_its_end(tmp_path: Path, console: Console, output: io.StringIO) -> None:
    logs = MergedLogs(tmp_path, console)
    whole = line("late", "01")
    (tmp_path / "sender.log").write_text(whole[:20])
    logs.show_new()
    assert output.getvalue() == ""
    (tmp_path / "sender.log").write_text(whole)
    logs.show_new()
    logs.show_new()
    assert output.getvalue().count("late") == 1


def test_an_earlier_runs_lines_and_chatter_are_left_out(tmp_path: Path, console: Console, output: io.StringIO) -> None:
    (tmp_path / "sender.log").write_text(line("yesterday", "01"))
    logs = MergedLogs(tmp_path, console)
    with (tmp_path / "sender.log").open("a") as file:
        file.write(line("joined", "02", logger="aiokafka.consumer") + line("today", "03"))
    logs.show_new()
    assert "today" in output.getvalue()
    assert "yesterday" not in output.getvalue()
    assert "joined" not in output.getvalue()


def test_an_exception_shows_its_last_line_and_what_is_no_json_stays_as_it_is() -> None:
    assert "ValueError: no" in shown("sender", line("died", "01", exception="Traceback\n  here\nValueError: no")).plain
    assert shown("simulator", "plain words").plain.endswith("plain words")
