"""Golden files: what each event looked like when it was first published. Only added, never edited or removed.

    python tests/support/golden.py        adds what is missing (a new event, a new field, a new version)

`contracts/golden/<EventType>/v<version>[.<n>]<kind>.json`; <n> counts additions within a version. The newest of a kind
is what today's code writes; every older one is what readers may still meet in a topic.
  kind ""          every field set
  kind "-required" only the required fields set, the others at their defaults
  kind "-choices"  the values that each closed list of values had
"""

import json
import re
import sys
from collections.abc import Iterator, Mapping
from datetime import UTC, datetime, time
from pathlib import Path
from types import UnionType
from typing import Annotated, Any, Literal, Union, get_args, get_origin
from uuid import NAMESPACE_URL, UUID, uuid5

from pydantic import AwareDatetime, BaseModel

from contracts.codec import Undecodable, UnknownType, decode, encode
from contracts.envelope import Event
from contracts.topics import EVENT_TYPES

FOLDER = Path(__file__).resolve().parents[2] / "contracts" / "golden"
KINDS = ("", "-required", "-choices")
NAME = re.compile(r"v(\d+)(?:\.(\d+))?(-required|-choices)?\.json")
SAMPLES = {
    "phone": "5511987654321",
    "phone_number": "551133334444",
    "recipient_key": "551187654321",
    "media_url": "https://media.example/picture.jpg",
    "server_url": "https://gateway.example",
    "time_zone": "America/Manaus",
    "weekdays": 4,
}
SAMPLES_BY_TYPE: dict[Any, Any] = {
    bool: True,
    int: 7,
    float: 2.5,
    AwareDatetime: datetime(2026, 3, 2, 12, 30, 15, 250_000, tzinfo=UTC),
    time: time(8, 30),
}
Json = dict[str, Any]
Types = Mapping[str, type[Event]]


def example(model: type[BaseModel], *, complete: bool) -> BaseModel:
    """Derived from the field's name and type alone, so it is the same each time."""
    values = {
        name: sample(field.annotation, name, complete=complete)
        for name, field in model.model_fields.items()
        if complete or field.is_required()
    }
    return model.model_validate(values)


def sample(annotation: Any, name: str, *, complete: bool) -> Any:
    arguments = get_args(annotation)
    match get_origin(annotation):
        case origin if origin is Literal:
            return arguments[-1]
        case origin if origin is tuple:
            return (sample(arguments[0], name, complete=complete),)
        case origin if origin is dict:
            return {"key": sample(arguments[1], name, complete=complete)}
        case origin if origin in (Union, UnionType):
            some = next(argument for argument in arguments if argument is not type(None))
            return sample(some, name, complete=complete)
        case origin if origin is Annotated:
            return sample(arguments[0], name, complete=complete)
        case _ if isinstance(annotation, type) and issubclass(annotation, BaseModel):
            return example(annotation, complete=complete)
        case _:
            return SAMPLES.get(name) or SAMPLES_BY_TYPE.get(annotation) or _derived(annotation, name)


def _derived(annotation: Any, name: str) -> Any:
    return uuid5(NAMESPACE_URL, name) if annotation is UUID else f"some {name.replace('_', ' ')}"


def choices(annotation: Any, path: str = "") -> Iterator[tuple[str, list[Any]]]:
    """Path and values of every Literal in an annotation; '*' stands for the items of a list or mapping."""
    if get_origin(annotation) is Literal:
        yield path, list(get_args(annotation))
    elif isinstance(annotation, type) and issubclass(annotation, BaseModel):
        for name, field in annotation.model_fields.items():
            yield from choices(field.annotation, f"{path}.{name}".lstrip("."))
    else:
        items = ".*" if get_origin(annotation) in (tuple, dict) else ""
        for inner in get_args(annotation):
            yield from choices(inner, path + items)


def current(event_type: type[Event], kind: str) -> Json:
    """What today's code writes."""
    if kind == "-choices":
        return dict(choices(event_type))
    event = example(event_type, complete=kind == "")
    assert isinstance(event, Event)
    written: Json = json.loads(encode(event))
    return written


def committed(folder: Path, event_type: str, kind: str) -> list[tuple[int, Json]]:
    """Version and content of each golden file of a kind, oldest first."""
    found = []
    for path in (folder / event_type).glob("*.json"):
        name = NAME.fullmatch(path.name)
        assert name, f"{path} is no name of a golden file"
        if (name[3] or "") == kind:
            found.append(((int(name[1]), int(name[2] or 0)), json.loads(path.read_text())))
    return [(version, content) for (version, _), content in sorted(found, key=lambda entry: entry[0])]


def breaks(folder: Path, types: Types) -> list[str]:
    """What these types would break for readers of records that the golden files show. Empty = compatible."""
    problems = []
    for event_type in sorted(path.name for path in folder.iterdir()):
        for kind in ("", "-required"):
            for version, content in committed(folder, event_type, kind):
                problems += _breaks(event_type, version, content, types)
        for version, lists in committed(folder, event_type, "-choices"):
            # The newest of its version: a list may stand in a field that came later.
            complete = [content for of, content in committed(folder, event_type, "") if of == version][-1]
            for path, values in lists.items():
                for value in values:
                    changed = _with_value(complete, path.split("."), value)
                    problems += _breaks(event_type, version, changed, types)
    return problems


def _breaks(event_type: str, version: int, content: Json, types: Types) -> list[str]:
    try:
        event = decode(event_type, version, json.dumps(content).encode(), types)
    except (UnknownType, Undecodable) as error:
        return [f"{event_type} v{version} can no longer be read: {error}"]
    if version < event.VERSION:
        return []  # brought up to date by an upcaster, so it may look different
    lost = _lost(content, json.loads(encode(event)), event_type)
    return [f"{path} v{version} is no longer read" for path in lost]


def _lost(old: Any, new: Any, path: str) -> Iterator[str]:
    """Paths whose value did not come through decoding and encoding; additions are fine."""
    match old, new:
        case dict(), dict():
            for key, value in old.items():
                if key not in new:
                    yield f"{path}.{key}"
                else:
                    yield from _lost(value, new[key], f"{path}.{key}")
        case list(), list() if len(old) == len(new):
            for number, (before, after) in enumerate(zip(old, new, strict=True)):
                yield from _lost(before, after, f"{path}[{number}]")
        case _:
            if old != new:
                yield path


def _with_value(content: Any, path: list[str], value: Any) -> Any:
    if not path:
        return value
    head, *rest = path
    match content:
        case dict():
            keys = content if head == "*" else [head]
            return {**content, **{key: _with_value(content.get(key), rest, value) for key in keys}}
        case list():
            return [_with_value(inner, rest, value) for inner in content]
        case _:
            raise AssertionError(f"no {head} in {content!r}")


def missing(folder: Path) -> Iterator[tuple[Path, Json]]:
    """Golden files that today's types need and that are not there."""
    for name, event_type in EVENT_TYPES.items():
        for kind in KINDS:
            now, before = current(event_type, kind), committed(folder, name, kind)
            if not now and kind == "-choices":
                continue
            if not before or before[-1] != (event_type.VERSION, now):
                nth = sum(version == event_type.VERSION for version, _ in before)
                revision = f"v{event_type.VERSION}" + (f".{nth}" if nth else "")
                yield folder / name / f"{revision}{kind}.json", now


def main() -> None:
    for path, content in missing(FOLDER):
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(json.dumps(content, indent=2, ensure_ascii=False) + "\n")
        sys.stdout.write(f"added {path.relative_to(FOLDER)}\n")


if __name__ == "__main__":
    main()
