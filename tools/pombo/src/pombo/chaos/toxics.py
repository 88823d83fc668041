"""What a bad network does to a connection, as values. `proxy` does it."""

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Latency:
    """Every piece of data arrives `delay_ms` to `delay_ms + jitter_ms` later, both ways, in order."""

    delay_ms: float
    jitter_ms: float = 0.0


@dataclass(frozen=True, slots=True)
class Reset:
    """Open connections are reset at once; new ones as soon as they say anything (before it is passed on)."""


@dataclass(frozen=True, slots=True)
class HalfOpen:
    """Connections are accepted and read, nothing is passed on and nothing answered, also on those already open.

    A real one's bytes would be lost, so all that met it are reset when it ends.
    """


@dataclass(frozen=True, slots=True)
class SlowBytes:
    """Each direction of a connection passes `bytes_per_s`, in small pieces."""

    bytes_per_s: int


@dataclass(frozen=True, slots=True)
class CutAfter:
    """A connection is reset once `answer_bytes` more of its answers were passed on: the request was heard, the answer
    is cut short. 0: not a byte of the answer comes back."""

    answer_bytes: int


Toxic = Latency | Reset | HalfOpen | SlowBytes | CutAfter
