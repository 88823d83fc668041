"""The chassis knows how a service runs, and no campaign."""

import ast
from pathlib import Path

import pytest

import chassis

MODULES = sorted(Path(chassis.__path__[0]).glob("*.py"))
ALLOWED = {"contracts.envelope", "contracts.topics", "contracts.codec", "contracts.ids"}


@pytest.mark.parametrize("module", MODULES, ids=lambda path: path.stem)
def test_it_imports_no_event_family(module: Path) -> None:
    imported = set()
    for node in ast.walk(ast.parse(module.read_text())):
        match node:
            case ast.ImportFrom(module="contracts", names=names):
                imported |= {f"contracts.{name.name}" for name in names}
            case ast.ImportFrom(module=str(name)) if name.startswith("contracts."):
                imported.add(name)
            case ast.Import(names=names):
                imported |= {name.name for name in names if name.name.startswith("contracts")}
    assert imported <= ALLOWED
