"""Faults: what goes wrong, chosen by seed. Pure: the same seed, number, person and turn give the same fate."""

import math
from dataclasses import dataclass
from hashlib import blake2b
from statistics import NormalDist
from typing import Literal

Reset = Literal["hang", "reset"]
_SCALE = 1.0 / 2**64
_NORMAL = NormalDist()


class Chance:
    """A stream of numbers in [0, 1) that depends only on its key, so runs with one seed reproduce."""

    __slots__ = ("_block", "_key", "_position")

    def __init__(self, seed: int, number: str, person: str, turn: int) -> None:
        self._key = f"{seed}|{number}|{person}|{turn}".encode()
        self._block = blake2b(self._key).digest()
        self._position = 0

    def draw(self) -> float:
        """The next number in [0, 1)."""
        at = self._position
        if at == 64:
            self._block = blake2b(self._block + self._key).digest()
            at = 0
        self._position = at + 8
        return int.from_bytes(self._block[at : at + 8], "little") * _SCALE

    def happens(self, share: float) -> bool:
        """Whether something with this probability happens; certain things cost no draw."""
        if share <= 0.0:
            return False
        return share >= 1.0 or self.draw() < share

    def between(self, span: tuple[float, float]) -> float:
        """A value drawn evenly from the span."""
        return span[0] + (span[1] - span[0]) * self.draw()


@dataclass(frozen=True, slots=True)
class Faults:
    """What goes wrong, for one number or for all. Shares are probabilities of a request or a webhook."""

    latency_ms: float = 0.0  # of the answer; fixed, or the median when `latency_p95_ms` is set
    latency_p95_ms: float = 0.0  # > 0: lognormal with this 95th percentile
    throttled_share: float = 0.0
    rejected_share: float = 0.0
    rejected_code: int = 131026
    transient_share: float = 0.0  # 503 with the provider's parsed transient error; not accepted
    error_share: float = 0.0  # 500 without a readable error; not accepted
    accepted_error_share: float = 0.0  # 500 without a readable error, although accepted
    hang_share: float = 0.0  # never answered, not accepted
    reset_share: float = 0.0  # connection reset, not accepted
    lost_answer_share: float = 0.0  # accepted, never answered
    lost_answer_how: str = "hang"  # or "reset"
    garbled_share: float = 0.0  # accepted, answered with a body that is not JSON
    webhook_lost_share: float = 0.0
    webhook_duplicate_share: float = 0.0
    webhook_reorder_share: float = 0.0
    webhook_reorder_s: float = 10.0  # a reordered webhook waits up to this long, time-scaled
    webhook_late_share: float = 0.0
    webhook_late_s: float = 60.0  # time-scaled


@dataclass(frozen=True, slots=True)
class Accept:
    """Accepted and answered."""


@dataclass(frozen=True, slots=True)
class Garble:
    """Accepted and answered with something unreadable."""


@dataclass(frozen=True, slots=True)
class Reject:
    """Refused for good with the provider's code."""

    code: int


@dataclass(frozen=True, slots=True)
class Throttle:
    """Refused: too fast (Meta's 130429, or 131056 for a pair)."""

    code: int = 130429


@dataclass(frozen=True, slots=True)
class Break:
    """Answered with a server error; `readable` has the provider's transient error in the body."""

    accepted: bool
    readable: bool
    code: int = 131016


@dataclass(frozen=True, slots=True)
class Silence:
    """No answer: the connection hangs until the client leaves, or is reset."""

    accepted: bool
    how: str  # "hang" or "reset"


Fate = Accept | Garble | Reject | Throttle | Break | Silence
ACCEPT = Accept()
QUIET = Faults()


def choose(faults: Faults, chance: Chance) -> Fate:
    """The fate of a valid request. At most one fault; the shares are cut from one draw, in this order."""
    if faults is QUIET:
        return ACCEPT
    point = chance.draw()
    table: tuple[tuple[float, Fate], ...] = (
        (faults.throttled_share, Throttle()),
        (faults.rejected_share, Reject(faults.rejected_code)),
        (faults.transient_share, Break(accepted=False, readable=True)),
        (faults.error_share, Break(accepted=False, readable=False)),
        (faults.accepted_error_share, Break(accepted=True, readable=False)),
        (faults.hang_share, Silence(accepted=False, how="hang")),
        (faults.reset_share, Silence(accepted=False, how="reset")),
        (faults.lost_answer_share, Silence(accepted=True, how=faults.lost_answer_how)),
        (faults.garbled_share, Garble()),
    )
    for share, fate in table:
        if point < share:
            return fate
        point -= share
    return ACCEPT


def is_accepted(fate: Fate) -> bool:
    """Whether the provider took the message, whatever the client got to see."""
    match fate:
        case Accept() | Garble():
            return True
        case Break(accepted=accepted) | Silence(accepted=accepted):
            return accepted
        case Reject() | Throttle():
            return False


def latency_s(faults: Faults, chance: Chance) -> float:
    """How long the answer takes, in seconds; not time-scaled."""
    if faults.latency_ms <= 0.0:
        return 0.0
    if faults.latency_p95_ms <= faults.latency_ms:
        return faults.latency_ms / 1000.0
    sigma = math.log(faults.latency_p95_ms / faults.latency_ms) / 1.6448536269514722
    drawn = min(max(chance.draw(), 1e-9), 1 - 1e-9)
    return faults.latency_ms * math.exp(sigma * _NORMAL.inv_cdf(drawn)) / 1000.0


def webhook_delays_s(faults: Faults, chance: Chance) -> tuple[float, ...]:
    """How often one webhook is posted and how much later than planned; empty when it is lost."""
    if faults is QUIET:
        return (0.0,)
    if chance.happens(faults.webhook_lost_share):
        return ()
    delay_s = 0.0
    if chance.happens(faults.webhook_reorder_share):
        delay_s += chance.between((0.0, faults.webhook_reorder_s))
    if chance.happens(faults.webhook_late_share):
        delay_s += faults.webhook_late_s
    if chance.happens(faults.webhook_duplicate_share):
        return (delay_s, delay_s + chance.draw())
    return (delay_s,)
