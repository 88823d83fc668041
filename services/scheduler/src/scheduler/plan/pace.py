"""How fast a lane goes while nothing changes: so long for each message, and a rest after so many of them. Pure."""

import math
from collections.abc import Sequence
from dataclasses import dataclass

from contracts.campaigns import SendingPolicy
from scheduler.lane.pacing import combine

# Between release and outcome, where messages go one by one.
ANSWER_S = 0.5


@dataclass(frozen=True, slots=True)
class Pace:
    """Seconds for each message, and after `every` of them a rest of so many more."""

    each_s: float
    delay_s: float
    every: int | None
    rest_s: float

    @classmethod
    def of(cls, policies: Sequence[SendingPolicy], rate: float) -> "Pace":
        bounds = combine(policies)
        delay_s = (bounds.min_delay_s + max(bounds.min_delay_s, bounds.max_delay_s)) / 2
        each_s = 1 / rate if delay_s == 0 else max(1 / rate, delay_s + ANSWER_S)
        # The delay runs while the lane rests.
        return cls(
            each_s, delay_s, bounds.pause_after, max(0.0, bounds.pause_s - delay_s) if bounds.pause_after else 0.0
        )

    @property
    def average_s(self) -> float:
        return self.each_s + (self.rest_s / self.every if self.every else 0.0)

    def takes_s(self, messages: float, since_rest: float, resting_s: float) -> float:
        rests = 0 if self.every is None else max(0, math.ceil((since_rest + messages) / self.every - 1e-9) - 1)
        return resting_s + messages * self.each_s + rests * self.rest_s

    def sends(self, within_s: float, since_rest: float, resting_s: float) -> tuple[float, float, float]:
        """How many go within that time; then how many since the last rest, and what is left of a rest."""
        within_s -= resting_s
        if within_s <= 0:
            return 0.0, since_rest, -within_s
        if self.every is None:
            return within_s / self.each_s, 0.0, 0.0
        until_rest_s = max(0.0, self.every - since_rest) * self.each_s
        if within_s < until_rest_s:
            count = within_s / self.each_s
            return count, since_rest + count, 0.0
        within_s -= until_rest_s
        cycles, within_s = divmod(within_s, self.rest_s + self.every * self.each_s)
        count = max(0.0, self.every - since_rest) + cycles * self.every
        if within_s < self.rest_s:
            return count, 0.0, self.rest_s - within_s
        last = (within_s - self.rest_s) / self.each_s
        return count + last, last, 0.0
