"""Who may send for an instance: a lease on the database's clock, an epoch as fence. No I/O, no clock."""

from dataclasses import dataclass
from typing import Literal


@dataclass(frozen=True, slots=True)
class Lease:
    """`deadline_s`: on the local monotonic clock; nothing leaves after it, whatever the database may say later."""

    epoch: int
    deadline_s: float


@dataclass(frozen=True, slots=True)
class OwnerRow:
    """What the intent transaction locked. `tat_s`: the limiter's state, seconds of the database's clock."""

    epoch: int
    tat_s: float


def lease_from(epoch: int, asked_at_s: float, lease_s: float, margin_s: float) -> Lease:
    """`asked_at_s`: monotonic time taken before the query, so that its delay shortens the lease."""
    return Lease(epoch=epoch, deadline_s=asked_at_s + lease_s - margin_s)


def holds(lease: Lease | None, now_s: float) -> bool:
    return lease is not None and now_s < lease.deadline_s


def is_fenced(owner: OwnerRow | None, epoch: int) -> bool:
    """A later owner exists (or the row is gone): this one may not commit an intent."""
    return owner is None or owner.epoch != epoch


Handover = Literal["wait", "release"]


def hand_over(undeparted_intents: int) -> Handover:
    """The lease goes back when no committed intent can still leave; requests under way need no lease."""
    return "wait" if undeparted_intents else "release"
