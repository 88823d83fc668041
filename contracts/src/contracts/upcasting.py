"""Old versions of events, brought up to the current one at the edge: (type, version) -> pure dict -> dict, chained."""

from collections.abc import Callable
from typing import Any

Upcaster = Callable[[dict[str, Any]], dict[str, Any]]

# (type, from version) -> the next version's shape. Golden files of the old version must still decode.
UPCASTERS: dict[tuple[str, int], Upcaster] = {}


def upcast(event_type: str, version: int, current: int, data: dict[str, Any]) -> dict[str, Any]:
    """Raises KeyError if a step of the chain is missing."""
    while version < current:
        data = UPCASTERS[event_type, version](data)
        version += 1
    return data
