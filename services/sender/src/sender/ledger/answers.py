"""What the sender says about an attempt: its findings as events of message-sent. Ids are derived, so that saying
something again is the same event again."""

from datetime import datetime
from typing import Any, NamedTuple, assert_never, get_args
from uuid import UUID

from chassis.kafka import Outgoing, outgoing
from contracts import ids
from contracts.ids import Address
from contracts.messages import (
    MessageAmbiguous,
    MessageEvent,
    MessageFailed,
    MessageQueued,
    MessageResolved,
    MessageReturned,
    MessageSent,
    ReturnReason,
)
from contracts.topics import MESSAGE_SENT, SENDER
from providers.protocol import Address as ProviderAddress
from sender.ledger.attempt import Finding, NeverLeft, NoAnswer, NoEvidence, State, WasAccepted, WasRejected
from sender.ledger.delivery import LedgerEntry
from sender.work import from_provider

RETURN_REASONS = frozenset(get_args(ReturnReason))


class About(NamedTuple):
    """What every answer repeats: the message, whose it is and where it was queued."""

    account_id: UUID
    instance_id: UUID
    message: MessageQueued
    release: int
    traceparent: str | None = None
    correlation_id: str | None = None


def tell(about: About, before: State, finding: Finding, at: datetime) -> Outgoing:
    """The event for a finding that moved the attempt on from `before`, at the time `at`."""
    match finding:
        case WasAccepted():
            address = from_provider(finding.address)
            if before == "intent":
                return _event(about, f"sent:{about.message.attempt}", at, sent(about, finding, address, at))
            return _event(
                about, f"resolved:{about.message.attempt}:accepted", at, _resolved(about, finding, address, at)
            )
        case WasRejected():
            return _event(about, f"failed:{about.message.attempt}", at, _failed(about, finding))
        case NeverLeft(returned=True, reason=reason) if before == "intent":
            return returned(about, _return_reason(reason), finding.not_before, at)
        case NeverLeft():
            # Also what was called ambiguous before: a later release may have heard that, which no return would undo.
            failed = MessageFailed(
                **_repeated(about), reason=finding.reason, retryable=True, counts=False, not_before=finding.not_before
            )
            return _event(about, f"failed:{about.message.attempt}", at, failed)
        case NoAnswer(reason=reason):
            ambiguous = MessageAmbiguous(**_repeated(about), reason=reason)
            return _event(about, f"ambiguous:{about.message.attempt}", at, ambiguous)
        case NoEvidence():
            unresolved = MessageResolved(**_repeated(about), outcome="unresolved", evidence="none")
            return _event(about, f"resolved:{about.message.attempt}:unresolved", at, unresolved)
        case _:
            assert_never(finding)


def tell_again(about: About, entry: LedgerEntry, now: datetime) -> Outgoing:
    """A settled or ambiguous attempt's outcome, as it was told the first time."""
    at = entry.outcome_at or now
    match entry.state:
        case "accepted":
            address = None if entry.address is None else read_address(entry.address)
            resolved = entry.evidence not in (None, "answer")
            finding = WasAccepted(entry.provider_message_id, by=entry.evidence or "answer", address=address)  # type: ignore[arg-type]
            return tell(about, "ambiguous" if resolved else "intent", finding, at)
        case "rejected_retryable" | "rejected_final":
            rejected = WasRejected(
                entry.reason or "unknown_code", retryable=entry.state == "rejected_retryable", by="answer",
                counts=entry.counts, code=entry.code, detail=entry.detail, not_before=entry.not_before,
            )  # fmt: skip
            return tell(about, "intent", rejected, at)
        case "not_sent":
            return tell(about, "intent", NeverLeft(entry.reason or "", entry.returned, entry.not_before), at)
        case "ambiguous" | "intent":
            return tell(about, "intent", NoAnswer(entry.reason or "no_answer"), at)
        case "unresolved":
            return tell(about, "ambiguous", NoEvidence(), at)
        case _:
            assert_never(entry.state)


def returned(about: About, reason: ReturnReason, not_before: datetime | None, at: datetime) -> Outgoing:
    event = MessageReturned(**_repeated(about), reason=reason, not_before=not_before)
    return _event(about, f"returned:{about.message.attempt}:{about.release}:{reason}", at, event)


def refused_for_good(about: About, reason: str, at: datetime) -> Outgoing:
    """Failed without any attempt at the provider."""
    event = MessageFailed(**_repeated(about), reason=reason, retryable=False, counts=False)
    return _event(about, f"failed:{about.message.attempt}", at, event)


def sent(about: About, finding: WasAccepted, address: Address | None, at: datetime) -> MessageSent:
    message = about.message
    identity = finding.provider_message_id or ""
    return MessageSent(
        **_repeated(about),
        provider_message_id=identity,
        message_id=ids.message_id(about.instance_id, identity),
        contact_id=message.contact_id,
        chat_id=ids.chat_id(about.instance_id, address or message.address),
        address=address or message.address,
        content=message.content,
        sent_at=at,
    )


def _resolved(about: About, finding: WasAccepted, address: Address | None, at: datetime) -> MessageResolved:
    fields = sent(about, finding, address, at)
    return MessageResolved(
        **_repeated(about),
        outcome="accepted",
        # The answer itself came, only late: it carries the id that binds it.
        evidence="bound_id" if finding.by == "answer" else finding.by,
        # A person who says that it was sent knows no id.
        provider_message_id=finding.provider_message_id,
        message_id=fields.message_id if finding.provider_message_id else None,
        contact_id=fields.contact_id,
        chat_id=fields.chat_id,
        address=fields.address,
        content=fields.content,
        sent_at=fields.sent_at,
    )


def _failed(about: About, finding: WasRejected) -> MessageFailed:
    return MessageFailed(
        **_repeated(about),
        reason=finding.reason,
        retryable=finding.retryable,
        counts=finding.counts,
        code=finding.code,
        detail=finding.detail,
        not_before=finding.not_before,
    )


def _repeated(about: About) -> dict[str, Any]:
    message = about.message
    return {
        "instance_id": about.instance_id,
        "attempt": message.attempt,
        "release": about.release,
        "campaign_id": message.campaign_id,
        "run_epoch": message.run_epoch,
        "recipient_id": message.recipient_id,
        "step": message.step,
    }


def _return_reason(reason: str) -> ReturnReason:
    return reason if reason in RETURN_REASONS else "expired"  # type: ignore[return-value]


def _event(about: About, kind: str, at: datetime, event: MessageEvent) -> Outgoing:
    key = str(about.message.dispatch_id)
    return outgoing(
        MESSAGE_SENT,
        key,
        event,
        source=SENDER,
        account_id=about.account_id,
        time=at,
        event_id=ids.event_id(SENDER, key, kind),
        correlation_id=about.correlation_id,
        traceparent=about.traceparent,
    )


def write_address(address: ProviderAddress | None) -> bytes | None:
    """The provider's canonical form, for the ledger."""
    found = from_provider(address)
    return None if found is None else found.model_dump_json(exclude_none=True).encode()


def read_address(stored: bytes) -> ProviderAddress:
    found = Address.model_validate_json(stored)
    return ProviderAddress(phone=found.phone, lid=found.lid, bsuid=found.bsuid, group=found.group)
