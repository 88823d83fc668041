"""Compares what our providers read in a folder of payloads with what is expected of them.

A folder holds `*.json` at any depth and one `expected.json`: file -> its events (a webhook) or one object (an HTTP
answer, recognised by `_http_status`). Only fields that `expected.json` has are compared. The provider is chosen by the
name of the folder that a file stands in. Nothing here knows any single file.
"""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import orjson

from pombo.payload_words import describe_answer, describe_webhook
from providers.protocol import Provider, ProviderName
from providers.registry import PROVIDERS

FOLDERS: Final[Mapping[str, ProviderName]] = {
    "meta": "meta_cloud",
    "evolution-baileys": "evolution_web",
    "evolution-cloud": "evolution_cloud",
    "zapi": "zapi",
}
_MISSING: Final = object()
# Content may say more than is expected; an identity may not: one name too many joins two people.
_OPEN_OBJECTS: Final = frozenset({"media", "location", "new", "check"})


@dataclass(frozen=True, slots=True)
class Difference:
    file: str
    how: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Report:
    """`unlisted`: files that nothing is expected of; they count neither way."""

    passed: int
    differences: tuple[Difference, ...]
    unlisted: tuple[str, ...] = ()

    @property
    def failed(self) -> int:
        return len(self.differences)


def check(directory: Path) -> Report:
    """Reads every file that is expected something of. Raises OSError or ValueError without an expected.json."""
    expected = orjson.loads((directory / "expected.json").read_bytes())
    if not isinstance(expected, dict):
        raise ValueError("expected.json is not an object")
    found = {path.relative_to(directory).as_posix(): path for path in sorted(directory.rglob("*.json"))}
    found.pop("expected.json", None)
    passed = 0
    differences: list[Difference] = []
    for file, wanted in sorted(expected.items()):
        path = found.get(file)
        how = ["the file is missing"] if path is None else list(_differences(wanted, path))
        if how:
            differences.append(Difference(file, tuple(how)))
        else:
            passed += 1
    return Report(passed, tuple(differences), tuple(sorted(set(found) - set(expected))))


def main(directory: Path) -> int:
    """Prints each differing file and, last, the counts; 1 if any differs, 2 if there is nothing to compare."""
    try:
        report = check(directory)
    except (OSError, ValueError) as error:
        print(f"cannot read {directory / 'expected.json'}: {error}")
        return 2
    for difference in report.differences:
        print(difference.file)
        for line in difference.how:
            print(f"  {line}")
    for file in report.unlisted:
        print(f"{file}: not in expected.json, not compared")
    print(f"{report.passed} passed, {report.failed} failed")
    return 1 if report.failed else 0


def choose_provider(path: Path) -> Provider | None:
    """By the innermost folder whose name is one of ours."""
    for part in reversed(path.absolute().parent.parts):
        name = FOLDERS.get(part)
        if name is not None:
            return PROVIDERS[name]
    return None


def _differences(wanted: object, path: Path) -> Iterator[str]:
    provider = choose_provider(path)
    if provider is None:
        yield f"no folder of its path names a provider ({', '.join(FOLDERS)})"
        return
    try:
        content = orjson.loads(path.read_bytes())
    except orjson.JSONDecodeError as error:
        yield f"not JSON: {error}"
        return
    if isinstance(content, dict) and "_http_status" in content:
        yield from compare(wanted, describe_answer(provider, content), "")
    else:
        yield from compare(wanted, describe_webhook(provider, content), "")


def compare(wanted: object, got: object, where: str) -> Iterator[str]:
    """Every difference, with its place. Lists must be of one length and in order."""
    name = where.rpartition(".")[2].partition("[")[0]
    if isinstance(wanted, dict) and isinstance(got, dict):
        if name and name not in _OPEN_OBJECTS:
            for key in sorted(set(got) - set(wanted)):
                yield f"{where}: {key}={got[key]!r} is not expected"
        for key, value in wanted.items():
            yield from compare(value, got.get(key, _MISSING), f"{where}.{key}" if where else key)
    elif isinstance(wanted, list) and isinstance(got, list):
        if len(wanted) != len(got):
            kinds = [item.get("kind") if isinstance(item, dict) else item for item in got]
            yield f"{where or 'events'}: expected {len(wanted)}, got {len(got)} {kinds!r}"
        for index, (one, other) in enumerate(zip(wanted, got, strict=False)):
            yield from compare(one, other, f"{where}[{index}]")
    elif wanted != got or isinstance(wanted, bool) != isinstance(got, bool):
        yield f"{where}: expected {wanted!r}, got {'nothing' if got is _MISSING else repr(got)}"
