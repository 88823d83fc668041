"""The rules of the layout that a machine can check."""

import ast
import re
import subprocess
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
FILE_LINES_MAX = 300  # aim for 250; a migration is one statement list and may be longer
FUNCTION_LINES_MAX = 70  # aim for 40
SAYS_NOTHING = {"utils", "helpers", "common", "base", "misc", "manager", "service"}
CHASSIS_MODULES = {
    "settings",
    "database",
    "outbox",
    "inbox",
    "kafka",
    "secrets",
    "telemetry",
    "health",
    "lifecycle",
}


def tracked(*patterns: str) -> list[Path]:
    listed = subprocess.run(
        ["git", "ls-files", "--cached", "--others", "--exclude-standard", *patterns],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=True,
    ).stdout
    return [ROOT / line for line in listed.splitlines() if (ROOT / line).exists()]


SOURCES = [path for path in tracked("*.py") if "/tests/" not in str(path) and "/migrations/" not in str(path)]


def test_no_file_has_a_name_that_says_nothing() -> None:
    assert [path for path in tracked("*.py") if path.stem in SAYS_NOTHING] == []


def test_a_source_file_fits_in_a_readers_mind() -> None:
    lengths = {str(path.relative_to(ROOT)): len(path.read_text().splitlines()) for path in SOURCES}
    assert {path: lines for path, lines in lengths.items() if lines > FILE_LINES_MAX} == {}


def test_a_function_fits_on_a_screen() -> None:
    long = {}
    for path in SOURCES:
        for node in ast.walk(ast.parse(path.read_text())):
            if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
                lines = (node.end_lineno or node.lineno) - node.lineno + 1
                if lines > FUNCTION_LINES_MAX:
                    long[f"{path.relative_to(ROOT)}:{node.name}"] = lines
    assert long == {}


def test_the_chassis_is_a_closed_list() -> None:
    modules = {path.stem for path in (ROOT / "libs/chassis/src/chassis").glob("*.py")} - {"__init__"}
    assert modules == CHASSIS_MODULES


@pytest.mark.parametrize("path", [p for p in SOURCES if "contracts" not in p.parts], ids=lambda p: p.name)
def test_topic_names_are_written_in_the_contracts_only(path: Path) -> None:
    from contracts.topics import ALL

    hyphenated = {topic.name for topic in ALL if "-" in topic.name}
    strings = {
        node.value
        for node in ast.walk(ast.parse(path.read_text()))
        if isinstance(node, ast.Constant) and isinstance(node.value, str)
    }
    assert strings & hyphenated == set()


def test_no_file_names_a_machine_path_or_a_registry() -> None:
    # Written so that it does not match itself.
    words = re.compile(
        r"/(?:work|root)/|\.\./share[d]|index-ur[l]|extra-inde[x]|registry\.npmj[s]|pypi\.or[g]|files\.pythonhoste[d]"
    )
    guilty = [
        f"{path.relative_to(ROOT)}:{number}"
        for path in tracked()
        if path.suffix in {".py", ".md", ".toml", ".yml", ".yaml", ".json", ".lock", ".xml", ".sh", ".sql", ""}
        and path.is_file()
        for number, line in enumerate(path.read_text(errors="replace").splitlines(), 1)
        if words.search(line)
    ]
    assert guilty == []


def test_package_markers_stay_out_of_the_tests() -> None:
    assert tracked("tests/**/__init__.py") == []
