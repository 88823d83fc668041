"""One invariant's verdict."""

from collections.abc import Sequence
from dataclasses import dataclass

SHOWN_MAX = 5


@dataclass(frozen=True, slots=True)
class Finding:
    """`counted` says what was looked at; `violations` is empty where the invariant holds.

    `notes`: named in the report without breaking a promise.
    """

    number: str
    title: str
    counted: str
    violations: tuple[str, ...] = ()
    notes: tuple[str, ...] = ()

    @property
    def holds(self) -> bool:
        return not self.violations


def found(number: str, title: str, counted: str, violations: Sequence[str], notes: Sequence[str] = ()) -> Finding:
    """With the first few violations and how many there are more."""
    shown = list(violations[:SHOWN_MAX])
    if len(violations) > SHOWN_MAX:
        shown.append(f"and {len(violations) - SHOWN_MAX} more")
    return Finding(number, title, counted, tuple(shown), tuple(notes[:SHOWN_MAX]))
