"""The attempt automaton, exhaustively, and what each answer of a provider proves."""

from datetime import UTC, datetime, timedelta
from typing import get_args
from uuid import UUID

import pytest
from hypothesis import given
from hypothesis import strategies as st

from contracts.messages import MessageFailed, MessageReturned
from providers import failures
from providers.protocol import Accepted, Ambiguous, NotSent, Rejected, SendOutcome, Throttled
from sender.ledger.answers import About, tell
from sender.ledger.attempt import (
    RETRY_AFTER_MAX_S,
    Finding,
    NeverLeft,
    NoAnswer,
    NoEvidence,
    State,
    WasAccepted,
    WasRejected,
    classify,
    record,
)
from sender_parts import queued

NOON = datetime(2026, 3, 2, 12, tzinfo=UTC)
STATES: tuple[State, ...] = get_args(State)
FINDINGS: dict[str, Finding] = {
    "accepted": WasAccepted("wamid.1", by="answer"),
    "delivered": WasAccepted("wamid.1", by="label", delivered=True),
    "refused for now": WasRejected("provider_busy", retryable=True, by="answer"),
    "refused": WasRejected("not_on_whatsapp", retryable=False, by="answer"),
    "reported failed for now": WasRejected("marketing_cap", retryable=True, by="label"),
    "reported failed": WasRejected("not_on_whatsapp", retryable=False, by="label"),
    "never left": NeverLeft("connect_failed"),
    "no answer": NoAnswer("no_answer"),
    "no evidence": NoEvidence(),
}
# finding -> state -> next, as DESIGN's table of states says; what is not named changes nothing.
OPEN_TO = {
    "accepted": "accepted",
    "delivered": "accepted",
    "refused for now": "rejected_retryable",
    "refused": "rejected_final",
    "reported failed for now": "rejected_retryable",
    "reported failed": "rejected_final",
}
TABLE: dict[str, dict[str, str]] = {
    **{name: dict.fromkeys(("intent", "ambiguous", "unresolved"), to) for name, to in OPEN_TO.items()},
    "never left": {"intent": "not_sent", "ambiguous": "rejected_retryable", "unresolved": "rejected_retryable"},
    "no answer": {"intent": "ambiguous"},
    "no evidence": {"ambiguous": "unresolved"},
}
TABLE["reported failed for now"]["accepted"] = "rejected_retryable"
TABLE["reported failed"]["accepted"] = "rejected_final"


@pytest.mark.parametrize("name", FINDINGS)
@pytest.mark.parametrize("state", STATES)
def test_every_finding_in_every_state(state: State, name: str) -> None:
    assert record(state, False, FINDINGS[name]) == TABLE[name].get(state)


@pytest.mark.parametrize("name", ["reported failed", "reported failed for now"])
def test_a_late_failure_never_erases_a_delivery(name: str) -> None:
    assert record("accepted", True, FINDINGS[name]) is None


@given(st.lists(st.sampled_from(sorted(FINDINGS)), max_size=30))
def test_evidence_in_any_order_and_number_moves_an_attempt_at_most_three_times(names: list[str]) -> None:
    state: State = "intent"
    delivered, moves = False, 0
    for name in names:
        finding = FINDINGS[name]
        after = record(state, delivered, finding)
        if after is not None:
            assert TABLE[name][state] == after
            state, moves = after, moves + 1
            assert record(state, delivered, finding) is None, "the same finding again changes nothing"
        delivered = delivered or (isinstance(finding, WasAccepted) and finding.delivered)
    assert moves <= 4


ORDERLY = ["accepted", "delivered", "no answer", "no evidence"]


@given(st.permutations(ORDERLY + ORDERLY))
def test_an_accepted_attempt_ends_accepted_whatever_the_order_and_repetition(names: list[str]) -> None:
    state: State = "intent"
    for name in names:
        state = record(state, False, FINDINGS[name]) or state
    assert state == "accepted"


BUSY = failures.PROVIDER_BUSY
ROWS: list[tuple[str, SendOutcome, Finding]] = [
    ("2xx with an id", Accepted("wamid.9"), WasAccepted("wamid.9", by="answer")),
    ("no connection", NotSent("connect_failed"), NeverLeft("connect_failed")),
    (
        "429 with Retry-After",
        Throttled("number", 7.0, "130429", failures.NUMBER_RATE, "slow"),
        WasRejected("number_rate", True, "answer", False, "130429", "slow", NOON + timedelta(seconds=7)),
    ),
    (
        "429 without Retry-After",
        Throttled("number", None, "130429", failures.NUMBER_RATE),
        WasRejected("number_rate", True, "answer", False, "130429", "", NOON + timedelta(seconds=5)),
    ),
    (
        "pair rate asks for its own wait",
        Throttled("pair", None, "131056", failures.PAIR_RATE),
        WasRejected("pair_rate", True, "answer", False, "131056", "", NOON + timedelta(seconds=6)),
    ),
    (
        "an absurd Retry-After is clamped",
        Throttled("app", 1e12, "4", failures.APP_RATE),
        WasRejected("app_rate", True, "answer", False, "4", "", NOON + timedelta(seconds=RETRY_AFTER_MAX_S)),
    ),
    (
        "tabled 5xx",
        Rejected(BUSY, "131016", "overload", retryable=True),
        WasRejected("provider_busy", True, "answer", True, "131016", "overload"),
    ),
    (
        "definite refusal",
        Rejected(failures.NOT_ON_WHATSAPP, "131026"),
        WasRejected("not_on_whatsapp", False, "answer", True, "131026"),
    ),
    (
        "credentials refused: the message may go once the instance is well",
        Rejected(failures.CREDENTIALS, "190"),
        WasRejected("credentials", True, "answer", False, "190"),
    ),
    (
        "the provider asks to wait a day",
        Rejected(failures.MARKETING_CAP, "131049", retryable=True),
        WasRejected("marketing_cap", True, "answer", True, "131049", "", NOON + timedelta(days=1)),
    ),
    ("nothing proved", Ambiguous("no_answer"), NoAnswer("no_answer")),
]


@pytest.mark.parametrize(("outcome", "finding"), [row[1:] for row in ROWS], ids=[row[0] for row in ROWS])
def test_what_an_answer_proves(outcome: SendOutcome, finding: Finding) -> None:
    assert classify(outcome, NOON) == finding


def test_what_never_left_is_returned_unless_a_later_release_heard_that_it_is_uncertain() -> None:
    """A return counts for its own release only; the failure of the attempt is heard whatever was released since."""
    about = About(UUID(int=1), UUID(int=2), queued(1), release=1)
    late = NeverLeft("intent_too_old", returned=True)
    assert isinstance(tell(about, "intent", late, NOON).event, MessageReturned)
    for before in ("ambiguous", "unresolved"):
        told = tell(about, before, late, NOON).event
        assert isinstance(told, MessageFailed)
        assert (told.retryable, told.counts) == (True, False)


@pytest.mark.parametrize(("attempt", "wait_s"), [(1, 6), (2, 16), (3, 64), (4, 256), (9, 256)])
def test_a_pair_that_is_refused_again_and_again_rests_four_times_as_long_each_time(attempt: int, wait_s: int) -> None:
    found = classify(Throttled("pair", 6.0, "131056", failures.PAIR_RATE), NOON, attempt=attempt)
    assert isinstance(found, WasRejected)
    assert found.not_before == NOON + timedelta(seconds=wait_s)


def test_an_error_without_a_cause_is_tried_once_more() -> None:
    outcome = Rejected(failures.GENERIC_ERROR, "135000", retryable=True)
    tried = [classify(outcome, NOON, attempt=attempt) for attempt in (1, 2)]
    assert [isinstance(one, WasRejected) and one.retryable for one in tried] == [True, False]
