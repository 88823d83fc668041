"""Whether a message may be sent: the decisions of the intent transaction. No I/O, no clock.

Times are seconds of the database's clock; the caller locked and loaded everything that is handed in.
"""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Literal, NamedTuple
from uuid import UUID

from sender.instance.ownership import OwnerRow, is_fenced
from sender.lane import throttle
from sender.lane.quota import Charged, Full, Quota, charge
from sender.ledger.attempt import NOT_ACCEPTED, State

# Nobody tells the scheduler when a stopped template is lifted: its messages ask again.
STOPPED_AGAIN_S = 60.0
GateKey = tuple[str, str]
Reason = Literal["paused", "cancelled", "held", "quota", "pair_rate", "throttled", "expired"]


class Candidate(NamedTuple):
    """What the decision needs to know of one message. `gates`: every gate that it must pass.

    `retaken`: our own commit of its intent ended unknown; it has certainly not left.
    """

    account_id: UUID
    dispatch_id: UUID
    attempt: int
    release: int
    run_epoch: int
    recipient: str
    gates: tuple[GateKey, ...]
    from_person: bool
    may_duplicate: bool
    send_before_s: float
    retaken: bool = False


@dataclass(frozen=True, slots=True)
class Gate:
    """`closed_through`: run epochs up to it are refused; `cancelled`: because the campaign was cancelled.
    `stopped_until_s`: the provider refuses the template itself; infinite = until a person lifts it."""

    closed_through: int = -1
    cancelled: bool = False
    held: bool = False
    stopped_until_s: float | None = None


class LedgerEntry(NamedTuple):
    """An attempt as the ledger holds it. `returned`: not_sent was answered as MessageReturned."""

    attempt: int
    state: State
    release: int
    epoch: int
    reason: str | None = None
    returned: bool = False
    counts: bool = True
    code: str | None = None
    detail: str = ""
    not_before: datetime | None = None
    outcome_at: datetime | None = None
    provider_message_id: str | None = None
    address: bytes | None = None
    evidence: str | None = None
    delivered: bool = False


class Intend(NamedTuple):
    """It may leave at `at_s`. `charged`: it used up one of the unique recipients, to be given back if refused."""

    at_s: float
    charged: bool


@dataclass(frozen=True, slots=True)
class AnswerAgain:
    """This attempt, or an earlier one that forbids it, has its outcome already: tell it again."""

    entry: LedgerEntry


@dataclass(frozen=True, slots=True)
class AlreadyInFlight:
    """At intent elsewhere or here: its outcome will come."""


@dataclass(frozen=True, slots=True)
class Refuse:
    reason: Reason
    not_before: datetime | None = None


@dataclass(frozen=True, slots=True)
class Fail:
    reason: Literal["opted_out"]


@dataclass(frozen=True, slots=True)
class Fenced:
    """A later owner has the instance: nothing may be said or sent from here."""


Decision = Intend | AnswerAgain | AlreadyInFlight | Refuse | Fail | Fenced


@dataclass(frozen=True, slots=True)
class Limiter:
    """`pairs`: the state per recipient at hand. `horizon_s`: how far ahead an intent may be given."""

    rate: throttle.Rate
    pair_rate: throttle.Rate
    tat_s: float
    pairs: Mapping[str, float] = field(default_factory=dict)
    horizon_s: float = 0.5


@dataclass(frozen=True, slots=True)
class Loaded:
    """What the transaction locked and read for one lane's group. `ledger`: all attempts of each dispatch."""

    owner: OwnerRow | None
    gates: Mapping[GateKey, Gate]
    ledger: Mapping[UUID, Sequence[LedgerEntry]]
    opted_out: frozenset[tuple[UUID, str]]
    quota: Quota
    limiter: Limiter


@dataclass(frozen=True, slots=True)
class Admission:
    """A decision per candidate, in their order, and the limiters' new states. `at_s`: the database's time of it."""

    decisions: tuple[Decision, ...]
    tat_s: float
    pairs: Mapping[str, float]
    quota: Quota
    at_s: float


def admit(batch: Sequence[Candidate], epoch: int, loaded: Loaded, now_s: float) -> Admission:
    limiter = loaded.limiter
    if is_fenced(loaded.owner, epoch):
        return Admission((Fenced(),) * len(batch), limiter.tat_s, limiter.pairs, loaded.quota, now_s)
    tat_s, pairs, quota = limiter.tat_s, dict(limiter.pairs), loaded.quota
    decisions: list[Decision] = []
    intended: set[UUID] = set()
    for candidate in batch:
        refusal = _look_back(candidate, loaded.ledger.get(candidate.dispatch_id, ()), intended, epoch) or _refuse(
            candidate, loaded, now_s
        )
        if refusal is not None:
            decisions.append(refusal)
            continue
        pair = throttle.take(pairs.get(candidate.recipient, 0.0), now_s, limiter.pair_rate)
        if isinstance(pair, throttle.Refused):
            decisions.append(Refuse("pair_rate", _time(pair.until_s)))
            continue
        turn = throttle.take(tat_s, now_s, limiter.rate, limiter.horizon_s)
        if isinstance(turn, throttle.Refused):
            decisions.append(Refuse("throttled", _time(turn.until_s)))
            continue
        charged = charge(quota, candidate.recipient, now_s)
        if isinstance(charged, Full):
            decisions.append(Refuse("quota", _time(charged.until_s)))
            continue
        tat_s, quota = turn.tat_s, charged.quota
        pairs[candidate.recipient] = pair.tat_s
        intended.add(candidate.dispatch_id)
        decisions.append(_intend(turn, charged))
    return Admission(tuple(decisions), tat_s, pairs, quota, now_s)


def _intend(turn: throttle.Taken, charged: Charged) -> Intend:
    return Intend(at_s=turn.at_s, charged=charged.new)


def _look_back(
    candidate: Candidate, entries: Sequence[LedgerEntry], intended: set[UUID], epoch: int
) -> AnswerAgain | AlreadyInFlight | Refuse | None:
    """What the ledger says; None = this attempt may be made."""
    if candidate.dispatch_id in intended:
        return AlreadyInFlight()
    for entry in sorted(entries, key=lambda entry: entry.attempt):
        if entry.attempt > candidate.attempt:
            return Refuse("expired")  # a leftover of a past that the dispatch has moved on from
        if entry.attempt == candidate.attempt:
            if entry.state == "not_sent" and entry.returned and candidate.release > entry.release:
                continue
            if entry.state == "intent" and entry.epoch == epoch and candidate.retaken:
                continue
            return AlreadyInFlight() if entry.state == "intent" else AnswerAgain(entry)
        if entry.state in NOT_ACCEPTED or (entry.state == "unresolved" and candidate.may_duplicate):
            continue
        return AlreadyInFlight() if entry.state == "intent" else AnswerAgain(entry)
    return None


def shut_gates(
    keys: Sequence[GateKey], run_epoch: int, gates: Mapping[GateKey, Gate], now_s: float
) -> Iterator[tuple[GateKey, Refuse]]:
    """Every gate that refuses a message, in their order: an intent meets the first, people are told of all."""
    for key in keys:
        gate = gates.get(key)
        if gate is None:
            continue
        if run_epoch <= gate.closed_through and key[0] == "campaign":
            yield key, Refuse("cancelled" if gate.cancelled else "paused")
        elif gate.held:
            yield key, Refuse("held")
        elif gate.stopped_until_s is not None and now_s < gate.stopped_until_s:
            yield key, Refuse("held", _time(min(gate.stopped_until_s, now_s + STOPPED_AGAIN_S)))


def _refuse(candidate: Candidate, loaded: Loaded, now_s: float) -> Refuse | Fail | None:
    """What the gates, the person and the time say; None = open."""
    for _, refusal in shut_gates(candidate.gates, candidate.run_epoch, loaded.gates, now_s):
        return refusal
    if not candidate.from_person and (candidate.account_id, candidate.recipient) in loaded.opted_out:
        return Fail("opted_out")
    if candidate.send_before_s <= now_s:
        return Refuse("expired")
    return None


def _time(seconds: float) -> datetime:
    return datetime.fromtimestamp(seconds, UTC)
