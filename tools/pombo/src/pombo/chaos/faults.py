"""What can go wrong, as values: a schedule is made of them, `nemesis` does them, a result names them."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, assert_never

from pombo.audit.windows import busiest
from pombo.chaos.toxics import CutAfter, HalfOpen, Latency, Reset, SlowBytes, Toxic

KAFKA, POSTGRES = "kafka", "postgres"
# How long of its sending one stop of the sender may leave without an answer: what was written down and had not left
# (a batch), and what had left and was not answered (a slow answer).
IN_FLIGHT_S = 0.5


@dataclass(frozen=True, slots=True)
class Kill:
    """SIGKILL, and a new process after `down_s`; `times` in a row. `while_open`: once providers hold open requests."""

    target: str
    down_s: float = 0.0
    times: int = 1
    while_open: bool = False


@dataclass(frozen=True, slots=True)
class Stop:
    """SIGTERM and, once it has ended, a new process: what a deployment does."""

    target: str


@dataclass(frozen=True, slots=True)
class Freeze:
    """SIGSTOP, SIGCONT after `for_s`: longer than a lease, it is a zombie that comes back."""

    target: str
    for_s: float


@dataclass(frozen=True, slots=True)
class Crash:
    """The process starts anew and ends itself, as by SIGKILL, at the nth passing of a named point in its code."""

    service: str
    point: str
    nth: int = 1


@dataclass(frozen=True, slots=True)
class Poison:
    """A toxic on a link."""

    link: str
    toxic: Toxic
    for_s: float


@dataclass(frozen=True, slots=True)
class Provider:
    """The simulator misbehaves: its own faults, in shares of requests or webhooks."""

    what: str
    shares: Mapping[str, Any] = field(hash=False)
    for_s: float


@dataclass(frozen=True, slots=True)
class Pause:
    """A person pauses a campaign of the run and resumes it `for_s` after the acknowledgement."""

    for_s: float


@dataclass(frozen=True, slots=True)
class Cancel:
    """A person cancels a campaign of the run."""


Fault = Kill | Stop | Freeze | Crash | Poison | Provider | Pause | Cancel


def described(fault: Fault) -> str:
    """A few words for a line of results."""
    match fault:
        case Kill(target, down_s, times, while_open):
            often = f" ×{times}" if times > 1 else ""
            return f"kill {target}{often}" + (" in flight" if while_open else "") + (f" {down_s:g}s" if down_s else "")
        case Stop(target):
            return f"stop {target}"
        case Freeze(target, for_s):
            return f"freeze {target} {for_s:g}s"
        case Crash(service, point, nth):
            return f"crash {service} at {point}:{nth}"
        case Poison(link, toxic, for_s):
            return f"{_toxic(toxic)} {link} {for_s:g}s"
        case Provider(what, _, for_s):
            return f"{what} {for_s:g}s"
        case Pause(for_s):
            return f"pause {for_s:g}s"
        case Cancel():
            return "cancel"
        case never:
            assert_never(never)


def ambiguity_s(fault: Fault) -> float:
    """Seconds of sending that the fault may leave without a readable answer at most."""
    match fault:
        case Kill("sender" | "postgres", _, times, _):
            return IN_FLIGHT_S * times
        case Stop("sender") | Crash("sender", _, _):
            return IN_FLIGHT_S
        case Freeze("sender" | "postgres", _):
            return IN_FLIGHT_S
        case Poison("provider" | "postgres/sender", _, for_s):
            return for_s + IN_FLIGHT_S
        case _:
            return 0.0


def ambiguity_allowed(faults: Iterable[Fault], sent_ns: Sequence[int]) -> int:
    """How many attempts the faults may leave without a readable answer: for each as many as the run sent in its busiest
    time of that length (`sent_ns`: sorted times of its sends), not what the numbers' limits would have let through."""
    return sum(busiest(sent_ns, round(ambiguity_s(fault) * 1e9)) for fault in faults if ambiguity_s(fault))


def _toxic(toxic: Toxic) -> str:
    match toxic:
        case Latency(delay_ms, jitter_ms):
            return f"latency {delay_ms:g}+{jitter_ms:g}ms"
        case Reset():
            return "reset"
        case HalfOpen():
            return "half-open"
        case SlowBytes(bytes_per_s):
            return f"{bytes_per_s} B/s"
        case CutAfter(answer_bytes):
            return f"cut after {answer_bytes} B"
        case never:
            assert_never(never)
