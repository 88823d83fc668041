"""Which evidence settles what, and when silence is an answer."""

from dataclasses import replace
from datetime import UTC, datetime, timedelta
from typing import get_args
from uuid import UUID

import pytest
from hypothesis import given
from hypothesis import strategies as st

from providers.failures import FAILURES
from providers.protocol import Rejected
from sender.ledger.attempt import State, WasAccepted, WasRejected, classify, record
from sender.settlement.reconcile import (
    Echo,
    OpenAttempt,
    hash_text,
    is_unresolved,
    match_echo,
    pair_echoes,
    read_status,
    weigh,
)

NOON = datetime(2026, 3, 2, 12, tzinfo=UTC)
TEXT = hash_text("Olá, Ana")
ATTEMPT = OpenAttempt(
    UUID(int=1), UUID(int=2), 1, "ambiguous", "551187654321", TEXT, NOON, NOON + timedelta(seconds=13)
)
ECHO = Echo("3EB0AA", "551187654321", TEXT, NOON + timedelta(seconds=2))


def test_an_echo_of_chat_and_text_within_the_time_settles_the_attempt() -> None:
    assert match_echo(ECHO, [ATTEMPT]) == ATTEMPT


@pytest.mark.parametrize(
    "other",
    [
        replace(ECHO, recipient="551187654322"),
        replace(ECHO, text_hash=hash_text("Olá, Bia")),
        replace(ECHO, at=NOON - timedelta(seconds=31)),
        replace(ECHO, at=NOON + timedelta(seconds=44)),
    ],
    ids=["another chat", "another text", "too early", "too late"],
)
def test_an_echo_of_something_else_settles_nothing(other: Echo) -> None:
    assert match_echo(other, [ATTEMPT]) is None


def test_blanks_that_a_gateway_trims_do_not_matter() -> None:
    assert hash_text("  Olá,\n Ana ") == TEXT


def test_one_echo_settles_one_attempt_the_oldest() -> None:
    later = replace(ATTEMPT, dispatch_id=UUID(int=3), intent_at=NOON + timedelta(seconds=1))
    assert pair_echoes([ECHO], [later, ATTEMPT]) == [(ECHO, ATTEMPT)]
    second = replace(ECHO, provider_message_id="3EB0AB", at=ECHO.at + timedelta(seconds=1))
    assert pair_echoes([second, ECHO], [later, ATTEMPT]) == [(ECHO, ATTEMPT), (second, later)]


@given(st.permutations([0, 1, 2, 3, 4]), st.permutations([0, 1, 2, 3, 4]))
def test_the_order_in_which_evidence_is_looked_at_does_not_matter(one: list[int], other: list[int]) -> None:
    echoes = [replace(ECHO, provider_message_id=str(n), at=NOON + timedelta(seconds=n)) for n in range(5)]
    attempts = [replace(ATTEMPT, dispatch_id=UUID(int=n), intent_at=NOON + timedelta(milliseconds=n)) for n in range(5)]
    expected = pair_echoes(echoes, attempts)
    assert pair_echoes([echoes[n] for n in one], [attempts[n] for n in other]) == expected


@pytest.mark.parametrize(("status", "delivered"), [("sent", False), ("delivered", True), ("read", True)])
def test_any_good_status_proves_acceptance(status: str, delivered: bool) -> None:
    found = read_status(status, "wamid.1", None, None, "", "label", NOON)
    assert found == WasAccepted("wamid.1", by="label", delivered=delivered)


def test_a_failed_status_is_a_refusal_with_the_wait_that_its_cause_asks_for() -> None:
    found = read_status("failed", "wamid.1", "marketing_cap", "131049", "cap", "label", NOON)
    assert isinstance(found, WasRejected)
    assert (found.retryable, found.not_before, found.code) == (True, NOON + timedelta(days=1), "131049")
    unknown = read_status("failed", "wamid.1", None, "999", "", "bound_id", NOON)
    assert isinstance(unknown, WasRejected)
    assert (unknown.reason, unknown.retryable) == ("unknown_code", False)


@pytest.mark.parametrize("name", ["payment", "credentials", "policy_block", "spam_limit", "number_rate", "pair_rate"])
def test_a_failure_that_is_none_of_the_message_reads_the_same_reported_or_answered(name: str) -> None:
    reported = read_status("failed", "wamid.1", name, "1", "", "label", NOON)
    answered = classify(Rejected(FAILURES[name], "1", "", FAILURES[name].retryable), NOON)
    assert isinstance(answered, WasRejected)
    assert reported == replace(answered, by="label")
    assert (answered.retryable, answered.counts) == (True, False)


@pytest.mark.parametrize(
    ("age", "watermark", "unresolved"),
    [
        (899, 900, False),  # too early, whatever else came
        (900, None, False),  # nothing of this number came: silence says nothing
        (900, 899, False),
        (900, 900, True),  # others' reports have passed the time
        (1799, None, False),
        (1800, None, True),  # in any case
    ],
)
def test_silence_is_an_answer_once_others_were_heard_or_twice_the_wait_is_over(
    age: int, watermark: int | None, unresolved: bool
) -> None:
    heard = None if watermark is None else NOON + timedelta(seconds=watermark)
    assert is_unresolved(NOON, heard, NOON + timedelta(seconds=age), timedelta(seconds=900)) is unresolved


@pytest.mark.parametrize("state", get_args(State))
@pytest.mark.parametrize("delivered", [False, True])
@pytest.mark.parametrize("reported", [False, True])
@pytest.mark.parametrize("status", ["sent", "delivered", "read", "played", "failed"])
def test_a_status_that_is_no_news_would_not_have_moved_the_attempt(
    state: State, delivered: bool, reported: bool, status: str
) -> None:
    finding = read_status(status, "wamid.1", None, None, "", "label", NOON)
    moves = record(state, delivered, finding) is not None
    weight = weigh(state, delivered, reported, status)
    assert (weight == "settles") == moves
    goes = isinstance(finding, WasAccepted) and not delivered and (finding.delivered or not reported)
    assert (weight == "shows") == (goes and not moves)
