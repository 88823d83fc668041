"""A refusal of the whole number that its gateway also gives by mistake: believed when it stays. No I/O, no clock.

Z-API's "client-token is not configured" comes now and then for numbers whose token is right.
"""

from typing import NamedTuple

TRIES = 4
FOR_S = 60.0


class Doubt(NamedTuple):
    """Such refusals since the last other answer. Seconds are monotonic."""

    since_s: float = 0.0
    refusals: int = 0


NONE = Doubt()


def refuse(doubt: Doubt, now_s: float) -> tuple[Doubt, bool]:
    """One more of them; whether it is to be believed now: the first and three more tries, over a minute at least."""
    after = Doubt(now_s, 1) if doubt == NONE else doubt._replace(refusals=doubt.refusals + 1)
    return after, after.refusals >= TRIES and now_s - after.since_s >= FOR_S
