"""How much one account may ask of one process: GCRA, no I/O."""

from dataclasses import dataclass, field

ACCOUNTS_MAX = 10_000


@dataclass(frozen=True, slots=True)
class Taken:
    """`remaining`: requests that may follow at once. `wait_s`: 0 where this one is allowed."""

    allowed: bool
    remaining: int
    wait_s: float


@dataclass(slots=True)
class Limiter:
    """`rate` a second, `burst` at once; times are of a monotonic clock in seconds."""

    rate: float
    burst: int
    _arrivals: dict[object, float] = field(default_factory=dict)

    def take(self, key: object, now_s: float) -> Taken:
        interval = 1 / self.rate
        tolerance = interval * (self.burst - 1)
        arrival = max(self._arrivals.get(key, 0.0), now_s)
        if arrival - now_s > tolerance + 1e-9:
            return Taken(False, 0, arrival - now_s - tolerance)
        if len(self._arrivals) >= ACCOUNTS_MAX:
            self._arrivals = {key: at for key, at in self._arrivals.items() if at > now_s}
        self._arrivals[key] = arrival + interval
        remaining = int((tolerance - (arrival + interval - now_s)) / interval + 1e-9) + 1
        return Taken(True, max(0, remaining), 0.0)
