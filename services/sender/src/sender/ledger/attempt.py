"""One call to a provider for a dispatch: its states, and what may still be learnt about it. No I/O, no clock."""

from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Literal, NamedTuple, assert_never

from providers.failures import Failure
from providers.protocol import Accepted, Address, Ambiguous, NotSent, Rejected, SendOutcome, Throttled

State = Literal[
    "intent", "accepted", "rejected_retryable", "rejected_final", "not_sent", "ambiguous", "unresolved"
]  # fmt: skip
By = Literal["answer", "label", "echo", "bound_id", "look_up", "person", "none"]

OPEN: frozenset[State] = frozenset({"intent", "ambiguous", "unresolved"})
NOT_ACCEPTED: frozenset[State] = frozenset({"rejected_retryable", "rejected_final", "not_sent"})

RETRY_AFTER_MIN_S = 1.0
RETRY_AFTER_MAX_S = 7 * 86_400.0
THROTTLED_REST_S = 5.0
# Meta asks for 4^n seconds after its n-th refusal for the pair's sake (131056).
PAIR_REST_MAX_S = 256.0


class WasAccepted(NamedTuple):
    """`delivered`: the evidence shows that it arrived, so that a later failure report no longer counts."""

    provider_message_id: str | None
    by: By
    address: Address | None = None
    delivered: bool = False


@dataclass(frozen=True, slots=True)
class WasRejected:
    """Definitely refused. `counts`: uses up one of the campaign's retries."""

    reason: str
    retryable: bool
    by: By
    counts: bool = True
    code: str | None = None
    detail: str = ""
    not_before: datetime | None = None


@dataclass(frozen=True, slots=True)
class NeverLeft:
    """No byte of the request left. `returned`: we refused it at departure; else the provider was out of reach."""

    reason: str
    returned: bool = False
    not_before: datetime | None = None


@dataclass(frozen=True, slots=True)
class NoAnswer:
    """The bytes may have left and nothing proves anything."""

    reason: str


@dataclass(frozen=True, slots=True)
class NoEvidence:
    """An ambiguous attempt whose time for evidence is over."""


Finding = WasAccepted | WasRejected | NeverLeft | NoAnswer | NoEvidence


def record(state: State, delivered: bool, finding: Finding) -> State | None:
    """The next state, None if the finding changes nothing. Finding the same again never does."""
    match finding:
        case WasAccepted():
            return "accepted" if state in OPEN else None
        case WasRejected(retryable=retryable):
            if state in OPEN or (state == "accepted" and not delivered and finding.by != "answer"):
                return "rejected_retryable" if retryable else "rejected_final"
            return None
        case NeverLeft():
            if state == "intent":
                return "not_sent"
            # The sweep was faster than the sender's own word that nothing had left.
            return "rejected_retryable" if state in OPEN else None
        case NoAnswer():
            return "ambiguous" if state == "intent" else None
        case NoEvidence():
            return "unresolved" if state == "ambiguous" else None
        case _:
            assert_never(finding)


def classify(outcome: SendOutcome, now: datetime, rest_s: float = THROTTLED_REST_S, attempt: int = 1) -> Finding:
    """What a provider's answer to our request proves about the attempt. `rest_s`: for rate errors that name none.
    `attempt`: the how many-th of the message."""
    match outcome:
        case Accepted(provider_message_id=identity, canonical=canonical):
            return WasAccepted(identity, by="answer", address=canonical)
        case NotSent(reason=reason):
            return NeverLeft(reason)
        case Throttled(scope=scope, failure=failure, retry_after_s=after_s, code=code, text=text):
            wait_s = after_s if after_s is not None else failure.retry_after_s or rest_s
            if scope == "pair":
                wait_s = max(wait_s, min(4.0**attempt, PAIR_REST_MAX_S))
            return WasRejected(
                failure.name, retryable=True, counts=False, by="answer", code=code, detail=text,
                not_before=now + timedelta(seconds=clamp_retry_after(wait_s)),
            )  # fmt: skip
        case Rejected(failure=failure, code=code, text=text, retryable=retryable):
            again = retryable and (failure.tries is None or attempt < failure.tries)
            return refused(failure, by="answer", at=now, code=code, detail=text, retryable=again)
        case Ambiguous(reason=reason):
            return NoAnswer(reason)
        case _:
            assert_never(outcome)


def refused(failure: Failure, *, by: By, at: datetime, code: str | None, detail: str, retryable: bool) -> WasRejected:
    """What a known cause means for the message, whether it was the answer or was reported later."""
    # Refused for the instance's sake: the message itself may go once the instance is well again.
    stops = failure.stops in ("instance", "host", "portfolio")
    after_s = None if failure.retry_after_s is None else clamp_retry_after(failure.retry_after_s)
    return WasRejected(
        failure.name,
        retryable=retryable or stops,
        counts=not (stops or failure.counts_against_throttle),
        by=by,
        code=code or None,
        detail=detail,
        not_before=None if after_s is None else at + timedelta(seconds=after_s),
    )


def clamp_retry_after(seconds: float) -> float:
    """A provider's word is heeded within reason: nothing sooner than a second, nothing later than a week."""
    return min(max(seconds, RETRY_AFTER_MIN_S), RETRY_AFTER_MAX_S)
