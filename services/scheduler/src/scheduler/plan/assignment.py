"""The plan: which instance sends to whom, and one dispatch for each recipient and step. Pure."""

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Literal
from uuid import UUID

from contracts import ids

# Positions of one chunk never run into the next one's (a chunk has at most 500 rows).
CHUNK_STRIDE = 1000


@dataclass(frozen=True, slots=True)
class Candidate:
    """An instance of the pool. `room`: how many more people may be bound to it."""

    instance_id: UUID
    room: int
    usable: bool = True
    is_default: bool = False


@dataclass(frozen=True, slots=True)
class Listed:
    """A recipient to be planned. `bound_to`: the instance that the contact is bound to by now."""

    recipient_id: UUID
    contact_id: UUID
    recipient_key: str
    position: int
    bound_to: UUID | None
    opted_out: bool


@dataclass(frozen=True, slots=True)
class Place:
    """`binds`: the contact has no binding yet and gets this one."""

    recipient: Listed
    instance_id: UUID
    binds: bool


PlannedState = Literal["pending", "skipped", "cancelled"]


@dataclass(frozen=True, slots=True)
class PlannedDispatch:
    dispatch_id: UUID
    recipient: Listed
    step: int
    instance_id: UUID
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


def expand(places: Iterable[Place], steps: int, *, cancelled: bool) -> Iterable[PlannedDispatch]:
    """Depth-first: a recipient's later steps come before the next recipient's first one, each after the one before."""
    for place in places:
        recipient = place.recipient
        for step in range(steps):
            state: PlannedState = "cancelled" if cancelled else "skipped" if recipient.opted_out else "pending"
            waits: Literal["previous_step"] | None = "previous_step" if state == "pending" and step else None
            yield PlannedDispatch(
                dispatch_id=ids.dispatch_id(recipient.recipient_id, step),
                recipient=recipient,
                step=step,
                instance_id=place.instance_id,
                place=recipient.position * steps + step,
                state=state,
                waits=waits,
                reason="cancelled" if cancelled else "opted_out" if recipient.opted_out else waits,
            )


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
