"""A row as the driver gives it."""

from collections.abc import Iterable
from typing import Any, Protocol


class Row(Protocol):
    """Of a statement's result, by column name. A plain dict is one too."""

    def __getitem__(self, key: str, /) -> Any: ...

    def keys(self) -> Iterable[str]: ...
