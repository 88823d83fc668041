"""The plan: which instance sends to whom, and one dispatch for each recipient and step. Pure."""

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Literal, NamedTuple
from uuid import UUID

from contracts import ids

# Positions of one chunk never run into the next one's (a chunk has at most 500 rows).
CHUNK_STRIDE = 1000


@dataclass(frozen=True, slots=True)
class Candidate:
    """An instance of the pool. `room`: how many more people may be bound to it, beside the `bound` ones."""

    instance_id: UUID
    room: int
    usable: bool = True
    is_default: bool = False
    bound: int = 0


class Listed(NamedTuple):
    """A recipient to be planned. `bound_to`: the instance that the contact is bound to by now. `refused`: why nothing
    may go there (`opted_out`, `erased`)."""

    recipient_id: UUID
    contact_id: UUID
    recipient_key: str
    position: int
    bound_to: UUID | None
    refused: str | None


class Place(NamedTuple):
    """`binds`: the contact has no binding yet and gets this one."""

    recipient: Listed
    instance_id: UUID
    binds: bool


PlannedState = Literal["pending", "skipped", "cancelled"]


class PlannedDispatch(NamedTuple):
    dispatch_id: UUID
    recipient_id: UUID
    contact_id: UUID
    instance_id: UUID
    step: int
    place: int
    state: PlannedState
    waits: Literal["previous_step"] | None
    reason: str | None


def position(chunk: int, index: int) -> int:
    """The recipient's place in the audience, whatever order the chunks come in."""
    return chunk * CHUNK_STRIDE + index


def allocate(listed: Sequence[Listed], pool: Sequence[Candidate], pick: Callable[[int], int]) -> list[Place]:
    """Sticky inside the pool, else one with room at random (`pick(n)` in [0, n)), else the default or any.

    Unusable instances are chosen only if there is no other. `pool` is not empty.
    """
    usable = [candidate for candidate in pool if candidate.usable] or list(pool)
    sticky = {candidate.instance_id for candidate in usable}
    room = {candidate.instance_id: candidate.room for candidate in usable}
    free = [candidate.instance_id for candidate in usable if candidate.room > 0]
    fallback = [candidate.instance_id for candidate in usable if candidate.is_default] or [
        candidate.instance_id for candidate in usable
    ]
    places: list[Place] = []
    for recipient in listed:
        if recipient.bound_to in sticky:
            places.append(Place(recipient, recipient.bound_to, binds=False))
            continue
        if not free:
            places.append(Place(recipient, fallback[pick(len(fallback))], binds=False))
            continue
        index = pick(len(free))
        chosen = free[index]
        binds = recipient.bound_to is None
        places.append(Place(recipient, chosen, binds))
        if binds:
            room[chosen] -= 1
            if room[chosen] <= 0:
                free[index] = free[-1]
                free.pop()
    return places


def expand(places: Iterable[Place], steps: int, *, cancelled: bool) -> list[PlannedDispatch]:
    """Depth-first: a recipient's later steps come before the next recipient's first one, each after the one before."""
    planned: list[PlannedDispatch] = []
    for (recipient_id, contact_id, _, position, _, refused), instance_id, _ in places:
        ended: PlannedState | None = "cancelled" if cancelled else "skipped" if refused else None
        for step in range(steps):
            waits: Literal["previous_step"] | None = "previous_step" if step and not ended else None
            planned.append(
                PlannedDispatch(
                    ids.dispatch_id(recipient_id, step),
                    recipient_id,
                    contact_id,
                    instance_id,
                    step,
                    position * steps + step,
                    ended or "pending",
                    waits,
                    "cancelled" if cancelled else refused or waits,
                )
            )
    return planned


def correct(places: Sequence[Place], bound: Mapping[str, UUID], pool: Iterable[UUID]) -> list[Place]:
    """After others bound some of the same contacts first: theirs win inside the pool.

    `bound`: what the contacts that should have been bound here are bound to in fact.
    """
    inside = frozenset(pool)
    corrected: list[Place] = []
    for place in places:
        actual = bound.get(place.recipient.recipient_key) if place.binds else None
        if actual is None or actual == place.instance_id:
            corrected.append(place)
        else:
            corrected.append(Place(place.recipient, actual if actual in inside else place.instance_id, binds=False))
    return corrected
