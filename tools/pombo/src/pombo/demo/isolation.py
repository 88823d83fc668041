"""A second account tries every call of the API with the first one's ids, and the other way round."""

import json
import re
import secrets
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from pombo.client.api import Api

_PARAMETER = re.compile(r"\{(\w+)\}")
STREAMS = ("/api/events", "/api/live")  # never end; their isolation is campaign-api's own test
METHODS = ("get", "put", "post", "patch", "delete")


@dataclass(slots=True)
class Crossings:
    """`found`: calls that showed or changed what belongs to the other account."""

    calls: int = 0
    found: list[str] = field(default_factory=list)


@dataclass(frozen=True, slots=True)
class Canary:
    """What only the second account has."""

    word: str
    ids: Mapping[str, str]


def plant_canary(api: Api) -> Canary:
    """A contact and a campaign that carry a word which occurs nowhere else."""
    word = f"canary-{secrets.token_hex(6)}"
    contact = api.post("/api/contacts", json={"name": word, "phone_number": "+5511987650000"})
    campaign = api.post("/api/campaigns", json={"name": word})
    return Canary(word, {"contact_id": contact["id"], "campaign_id": campaign["id"]})


def try_crossings(owner: Api, stranger: Api, canary: Canary, ids: Mapping[str, str], marks: Sequence[str]) -> Crossings:
    """`ids`: the owner's things by parameter name; `marks`: texts that only the owner may see."""
    crossings = Crossings()
    for method, path in _operations(owner.get("/api/openapi.json")):
        parameters = _PARAMETER.findall(path)
        if not parameters:
            if method == "get":
                _look(crossings, stranger, path, marks)
                _look(crossings, owner, path, (canary.word, *canary.ids.values()))
        else:
            _try(crossings, stranger, method, _filled(path, parameters, ids), marks)
            if method == "get":
                _try(crossings, owner, method, _filled(path, parameters, canary.ids), (canary.word,))
    return crossings


def _operations(document: Mapping[str, Any]) -> Iterator[tuple[str, str]]:
    for path, operations in document["paths"].items():
        if not path.startswith(("/api/auth", "/api/webhook", *STREAMS)):
            yield from ((method, path) for method in METHODS if method in operations)


def _filled(path: str, parameters: Sequence[str], ids: Mapping[str, str]) -> str | None:
    """None where an id of that kind is not at hand."""
    for parameter in parameters:
        if (known := ids.get(parameter) or ids.get(_kind(path, parameter))) is None:
            return None
        path = path.replace(f"{{{parameter}}}", known)
    return path


def _kind(path: str, parameter: str) -> str:
    """`/api/imports/{import_id}` takes a campaign's id as well; a plain {id} is of the collection before it."""
    if parameter == "import_id":
        return "campaign_id"
    collection = path.split(f"/{{{parameter}}}")[0].rsplit("/", 1)[-1]
    return f"{collection.removesuffix('s')}_id"


def _look(crossings: Crossings, api: Api, path: str, marks: Sequence[str]) -> None:
    crossings.calls += 1
    response = api.ask("GET", path)
    if response.status_code >= 500:
        crossings.found.append(f"GET {path} answered {response.status_code}")
    elif seen := [mark for mark in marks if mark in response.text]:
        crossings.found.append(f"GET {path} shows {json.dumps(seen[0])} of the other account")


def _try(crossings: Crossings, api: Api, method: str, path: str | None, marks: Sequence[str]) -> None:
    """With somebody else's id in it: refused, whatever the method."""
    if path is None:
        return
    crossings.calls += 1
    response = api.ask(method.upper(), path, **({} if method in ("get", "delete") else {"json": {}}))
    if response.status_code < 400 or response.status_code >= 500:
        crossings.found.append(f"{method.upper()} {path} answered {response.status_code} to the other account")
    elif any(mark in response.text and mark not in path for mark in marks):
        crossings.found.append(f"{method.upper()} {path} shows something of the other account")
