"""Which evidence settles which uncertain attempt. No I/O, no clock; times are aware datetimes of one clock."""

import hashlib
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Literal
from uuid import UUID

from providers.failures import FAILURES
from sender.ledger.attempt import OPEN, Finding, State, WasAccepted, WasRejected, refused

ARRIVED = frozenset({"delivered", "read", "played"})
# Clocks of gateways are not ours: an echo may seem a little older than the intent that caused it.
ECHO_EARLY = timedelta(seconds=30)


@dataclass(frozen=True, slots=True)
class OpenAttempt:
    """An attempt at intent, ambiguous or unresolved, as far as evidence needs to know it."""

    account_id: UUID
    dispatch_id: UUID
    attempt: int
    state: State
    recipient: str
    text_hash: int | None
    intent_at: datetime
    times_out_at: datetime


@dataclass(frozen=True, slots=True)
class Echo:
    """A message that the gateway says was sent from our number by the API."""

    provider_message_id: str
    recipient: str
    text_hash: int
    at: datetime


def hash_text(text: str) -> int:
    """Of the text or caption, blanks aside (gateways trim); signed 64 bits, as PostgreSQL's bigint."""
    digest = hashlib.blake2b(" ".join(text.split()).encode(), digest_size=8).digest()
    return int.from_bytes(digest, "big", signed=True)


def match_echo(
    echo: Echo, attempts: Iterable[OpenAttempt], used: frozenset[tuple[UUID, int]] = frozenset()
) -> OpenAttempt | None:
    """The oldest attempt to this chat with this text that was possibly under way when the echo was made.

    An echo binds one attempt only, and an attempt one echo: `used` are those bound already.
    """
    fitting = [
        attempt
        for attempt in attempts
        if attempt.recipient == echo.recipient
        and attempt.text_hash == echo.text_hash
        and attempt.intent_at - ECHO_EARLY <= echo.at <= attempt.times_out_at + ECHO_EARLY
        and (attempt.dispatch_id, attempt.attempt) not in used
    ]
    return min(fitting, key=lambda attempt: (attempt.intent_at, attempt.dispatch_id, attempt.attempt), default=None)


def read_status(
    status: str,
    provider_message_id: str,
    failure: str | None,
    code: str | None,
    detail: str,
    by: Literal["label", "bound_id"],
    at: datetime,
) -> Finding:
    """What a provider's report proves: that it was accepted, or that it failed after all."""
    if status != "failed":
        return WasAccepted(provider_message_id, by=by, delivered=status in ARRIVED)
    known = FAILURES.get(failure or "")
    if known is None:
        return WasRejected(failure or "unknown_code", retryable=False, by=by, code=code, detail=detail)
    return refused(known, by=by, at=at, code=code, detail=detail, retryable=known.retryable)


def weigh(state: State, delivered: bool, reported: bool, status: str) -> Literal["settles", "shows"] | None:
    """What a reported status means for an attempt in this state: it moves it (as `attempt.record` decides), it only
    shows that the message went or arrived, or it is no news. `reported`: a status showed already that it went."""
    if state in OPEN:
        return "settles"
    if status == "failed":
        return "settles" if state == "accepted" and not delivered else None
    if status in ARRIVED:
        return None if delivered else "shows"
    return "shows" if status == "sent" and not (reported or delivered) else None


def is_unresolved(intent_at: datetime, watermark: datetime | None, now: datetime, wait: timedelta) -> bool:
    """Whether silence is an answer: the number's other reports have passed the time, or twice the wait is over."""
    if now < intent_at + wait:
        return False
    return (watermark is not None and watermark >= intent_at + wait) or now >= intent_at + 2 * wait


def pair_echoes(echoes: Sequence[Echo], attempts: Sequence[OpenAttempt]) -> list[tuple[Echo, OpenAttempt]]:
    """Every echo with the attempt it settles, oldest echo first; the rest fits nothing yet."""
    used: set[tuple[UUID, int]] = set()
    pairs: list[tuple[Echo, OpenAttempt]] = []
    for echo in sorted(echoes, key=lambda echo: (echo.at, echo.provider_message_id)):
        found = match_echo(echo, attempts, frozenset(used))
        if found is not None:
            used.add((found.dispatch_id, found.attempt))
            pairs.append((echo, found))
    return pairs
