"""The dispatch's automaton: each rule, then a model of the sender whose answers come repeated and stale."""

from dataclasses import replace
from datetime import UTC, datetime, timedelta
from typing import Any
from uuid import UUID

import pytest
from hypothesis import settings as hypothesis_settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule

from contracts.ids import Address
from contracts.messages import (
    Content,
    MessageAmbiguous,
    MessageEvent,
    MessageFailed,
    MessageResolved,
    MessageReturned,
    MessageSent,
)
from scheduler.dispatch import automaton as dispatch
from scheduler.dispatch.automaton import Dispatch, Rules, following, settle

NOW = datetime(2026, 3, 2, 12, tzinfo=UTC)
ID = UUID(int=1)
RELEASED = Dispatch(state="released", release=1, run_epoch=1, awaiting=True)
RUNNING = Rules(run_epoch=1)


def repeated(attempt: int, release: int) -> dict[str, Any]:
    return {
        "instance_id": ID, "attempt": attempt, "release": release, "campaign_id": ID, "run_epoch": 1,
        "recipient_id": ID, "step": 0,
    }  # fmt: skip


def sent(attempt: int = 1, release: int = 1) -> MessageSent:
    return MessageSent(
        **repeated(attempt, release), provider_message_id="x", message_id=ID, contact_id=ID, chat_id=ID,
        address=Address(phone="1"), content=Content(kind="text"), sent_at=NOW,
    )  # fmt: skip


def failed(attempt: int = 1, release: int = 1, **more: Any) -> MessageFailed:
    return MessageFailed(**repeated(attempt, release), **{"reason": "server_error", "retryable": True, **more})


def ambiguous(attempt: int = 1, release: int = 1) -> MessageAmbiguous:
    return MessageAmbiguous(**repeated(attempt, release), reason="timeout")


def resolved(outcome: str, attempt: int = 1) -> MessageResolved:
    return MessageResolved(**repeated(attempt, 1), outcome=outcome, evidence="none")


def returned(reason: str, attempt: int = 1, release: int = 1, **more: Any) -> MessageReturned:
    return MessageReturned(**repeated(attempt, release), reason=reason, **more)


def after(
    start: Dispatch, *outcomes: MessageEvent, rules: Rules = RUNNING, now: datetime = NOW, jitter: float = 0
) -> Dispatch:
    for outcome in outcomes:
        start = settle(start, outcome, rules, now=now, jitter=jitter)
    return start


def test_an_accepted_message_is_final() -> None:
    done = after(RELEASED, sent())
    assert (done.state, done.awaiting) == ("accepted", False)
    assert after(done, sent(), ambiguous(), returned("expired"), resolved("unresolved")) == done


@pytest.mark.parametrize(("failures", "wait_min"), [(1, 2), (2, 4), (3, 8)])
def test_retries_wait_two_four_eight_minutes(failures: int, wait_min: int) -> None:
    one = replace(RELEASED, retries=failures - 1)
    waiting = after(one, failed())
    assert (waiting.state, waiting.attempt, waiting.release, waiting.waits) == ("pending", 2, 0, "time")
    assert waiting.due_at == NOW + timedelta(minutes=wait_min)


def test_the_fourth_counted_failure_is_a_dead_letter() -> None:
    dead = after(replace(RELEASED, retries=3), failed())
    assert (dead.state, dead.reason, dead.retryable) == ("failed", "server_error", True)


def test_failures_that_do_not_count_use_up_no_retry() -> None:
    waiting = after(replace(RELEASED, retries=3), failed(counts=False))
    assert (waiting.state, waiting.retries, waiting.attempt) == ("pending", 3, 2)


def test_the_providers_own_wait_wins() -> None:
    tomorrow = NOW + timedelta(days=1)
    assert after(RELEASED, failed(not_before=tomorrow)).due_at == tomorrow


def test_jitter_spreads_the_retries() -> None:
    assert after(RELEASED, failed(), jitter=0.1).due_at == NOW + timedelta(seconds=132)


def test_a_final_failure_is_not_retryable() -> None:
    dead = after(RELEASED, failed(retryable=False, reason="not_on_whatsapp"))
    assert (dead.state, dead.retryable) == ("failed", False)


@pytest.mark.parametrize("status", ["paused", "pausing", "cancelling", "failed", "completed"])
def test_a_retryable_failure_while_the_campaign_does_not_run_is_a_dead_letter(status: Any) -> None:
    dead = after(RELEASED, failed(), rules=replace(RUNNING, status=status))
    assert (dead.state, dead.retryable) == ("failed", True)


def test_a_failure_of_an_earlier_attempt_says_nothing() -> None:
    second = replace(RELEASED, attempt=2, revoked=1)
    assert after(second, failed(attempt=1)) is second


def test_a_person_who_opted_out_is_skipped_not_failed() -> None:
    skipped = after(RELEASED, failed(retryable=False, reason="opted_out"))
    assert (skipped.state, skipped.reason) == ("skipped", "opted_out")


@pytest.mark.parametrize(("attempt", "release"), [(1, 1), (2, 1), (1, 2)])
def test_a_return_counts_for_the_current_attempt_and_release_only(attempt: int, release: int) -> None:
    current = replace(RELEASED, attempt=2, release=2)
    assert after(current, returned("shutting_down", attempt, release)) is current
    assert after(current, returned("shutting_down", 2, 2)).state == "pending"


def test_a_return_of_something_not_released_says_nothing() -> None:
    pending = replace(RELEASED, state="pending", awaiting=False)
    assert after(pending, returned("paused")) is pending


def test_returned_as_paused_it_waits_for_a_higher_run_epoch() -> None:
    assert after(RELEASED, returned("paused")).waits == "run"
    assert after(RELEASED, returned("paused"), rules=Rules(run_epoch=2)).waits is None
    assert after(RELEASED, returned("paused"), rules=Rules(status="pausing", run_epoch=1)).waits == "run"


@pytest.mark.parametrize("reason", ["paused", "cancelled", "expired", "breaker", "held"])
@pytest.mark.parametrize("status", ["cancelling", "cancelled"])
def test_whatever_comes_back_of_a_cancelled_campaign_is_cancelled(reason: str, status: Any) -> None:
    assert after(RELEASED, returned(reason), rules=Rules(status=status)).state == "cancelled"


def test_returned_after_its_validity_it_is_expired() -> None:
    assert after(RELEASED, returned("expired"), rules=replace(RUNNING, valid_until=NOW)).state == "expired"
    assert after(RELEASED, returned("expired")).state == "pending"


@pytest.mark.parametrize("reason", ["quota", "breaker", "throttled", "instance_stopped"])
def test_what_concerns_the_instance_blocks_its_lane(reason: str) -> None:
    later = NOW + timedelta(hours=3)
    assert dispatch.lane_block(returned(reason, not_before=later), NOW) == later
    assert after(RELEASED, returned(reason, not_before=later)).due_at == later
    # A sender whose clock is behind: without a pause the message would go to and fro.
    past = NOW - timedelta(minutes=1)
    assert dispatch.lane_block(returned(reason, not_before=past), NOW) == NOW + timedelta(seconds=1)
    assert after(RELEASED, returned(reason, not_before=past)).due_at == NOW + timedelta(seconds=1)


def test_an_ambiguous_message_is_answered_but_still_out() -> None:
    doubt = after(RELEASED, ambiguous())
    assert (doubt.state, doubt.awaiting, doubt.reason) == ("released", False, "ambiguous")
    assert following(RELEASED, doubt) is None
    assert after(doubt, resolved("accepted")).state == "accepted"
    assert after(doubt, failed()).state == "pending"


def test_unresolved_ends_it_unless_the_campaign_sends_at_least_once() -> None:
    doubt = after(RELEASED, ambiguous())
    assert after(doubt, resolved("unresolved")).state == "unresolved"
    again = after(doubt, resolved("unresolved"), rules=replace(RUNNING, guarantee="at_least_once"))
    assert (again.state, again.attempt, again.may_duplicate, again.waits) == ("pending", 2, True, None)


@pytest.mark.parametrize("status", ["pausing", "paused"])
def test_at_least_once_is_not_forgotten_over_a_pause(status: Any) -> None:
    rules = replace(RUNNING, guarantee="at_least_once", status=status)
    again = after(RELEASED, ambiguous(), resolved("unresolved"), rules=rules)
    assert (again.state, again.waits, again.attempt, again.may_duplicate) == ("pending", "run", 2, True)


def test_at_least_once_is_not_for_ever() -> None:
    """A provider that takes each message and never answers would deliver a copy with every try."""
    rules = replace(RUNNING, guarantee="at_least_once", max_retries=2)
    tried = RELEASED
    for attempt in (1, 2):
        tried = after(tried, ambiguous(attempt), resolved("unresolved", attempt), rules=rules)
        assert (tried.state, tried.retries) == ("pending", attempt)
        tried = dispatch.release(tried, 1)
    assert after(tried, ambiguous(3), resolved("unresolved", 3), rules=rules).state == "unresolved"


@pytest.mark.parametrize("status", ["running", "paused", "cancelled"])
def test_one_that_left_is_unresolved_though_a_copy_of_it_was_returned(status: Any) -> None:
    """The copy waited for the number's next owner, the other one had left with the owner before, which is dead."""
    answers = (returned("shutting_down"), ambiguous(), resolved("unresolved"))
    assert after(RELEASED, *answers, rules=Rules(status=status, run_epoch=1)).state == "unresolved"
    assert after(RELEASED, returned("paused"), resolved("unresolved")).state == "unresolved"


def test_late_evidence_settles_an_unresolved_one() -> None:
    unresolved = after(RELEASED, ambiguous(), resolved("unresolved"))
    assert after(unresolved, resolved("accepted")).state == "accepted"
    assert after(unresolved, failed(retryable=False)).state == "failed"


def test_an_acceptance_counts_from_any_attempt() -> None:
    second = replace(RELEASED, attempt=2, may_duplicate=True)
    done = after(second, resolved("accepted", attempt=1))
    assert (done.state, done.attempt) == ("accepted", 1)
    assert after(done, failed(attempt=2)).state == "accepted"
    assert after(second, failed(attempt=2), resolved("accepted", attempt=1)).state == "accepted"


def test_a_late_failure_takes_an_acceptance_back_for_good() -> None:
    revoked = after(RELEASED, sent(), failed())
    assert (revoked.state, revoked.attempt, revoked.revoked) == ("pending", 2, 1)
    assert after(revoked, sent(attempt=1)) is revoked
    assert after(dispatch.release(replace(revoked, waits=None), 1), sent(attempt=2)).state == "accepted"


def test_a_failure_that_overtakes_its_acceptance_stands() -> None:
    """The first is told by whoever sent, the second by another process: nobody promises their order."""
    refused = after(RELEASED, failed(retryable=False), sent())
    assert (refused.state, refused.reason) == ("failed", "server_error")
    again = after(RELEASED, failed(), sent())
    assert (again.state, again.attempt) == ("pending", 2)


def test_a_dead_letter_is_tried_again_with_fresh_retries() -> None:
    dead = after(replace(RELEASED, retries=3), failed())
    again = dispatch.requeue(dead)
    assert (again.state, again.attempt, again.retries) == ("pending", 2, 0)
    assert dispatch.requeue(after(RELEASED, failed(retryable=False))).state == "failed"


@pytest.mark.parametrize(
    ("decision", "state"), [("was_sent", "accepted"), ("send_again", "pending"), ("give_up", "failed")]
)
def test_a_person_decides_on_an_unresolved_one(decision: Any, state: str) -> None:
    unresolved = after(RELEASED, ambiguous(), resolved("unresolved"))
    decided = dispatch.decide(unresolved, decision)
    assert decided.state == state
    assert decided.may_duplicate == (decision == "send_again")
    assert dispatch.decide(RELEASED, decision) is RELEASED


class SenderModel(RuleBasedStateMachine):
    """The sender's ledger admits an attempt once; its answers reach us late, repeated and in any order.

    A release may be published several times. Nothing may ever be sent twice, and nothing may get stuck.
    """

    @initialize(guarantee=st.sampled_from(["at_most_once", "at_least_once"]))
    def begin(self, guarantee: Any) -> None:
        self.run_rules = Rules(run_epoch=1, max_retries=3, retry_delay_s=0, guarantee=guarantee)
        self.dispatch = Dispatch()
        self.ledger: dict[int, str] = {}
        self.queue: list[tuple[int, int, bool]] = []
        self.answers: list[MessageEvent] = []
        self.possible_sends = 0

    @precondition(lambda self: self.dispatch.state == "pending")
    @rule()
    def release(self) -> None:
        if self.dispatch.waits == "time":
            self.dispatch = replace(self.dispatch, waits=None, due_at=None)
        before = self.dispatch
        self.dispatch = dispatch.release(self.dispatch, self.run_rules.run_epoch)
        if self.dispatch is not before:
            self.queue.append((self.dispatch.attempt, self.dispatch.release, self.dispatch.may_duplicate))

    @precondition(lambda self: self.queue)
    @rule(
        choice=st.integers(0, 1000),
        fate=st.sampled_from(["sent", "failed", "final", "ambiguous", "returned"]),
        keep=st.booleans(),
    )
    def admit(self, choice: int, fate: str, keep: bool) -> None:
        """`keep`: the record stays in Kafka and will be read again."""
        index = choice % len(self.queue)
        attempt, release, may_duplicate = self.queue[index] if keep else self.queue.pop(index)
        settled = self.ledger.get(attempt)
        if settled is not None:
            self.answers.append(self.answer(settled, attempt, release))
            return
        earlier = [state for number, state in self.ledger.items() if number < attempt]
        open_before = [state for state in earlier if state not in ("failed", "final")]
        if open_before and not (may_duplicate and set(open_before) <= {"unresolved"}):
            return
        if fate == "returned":
            self.answers.append(returned("shutting_down", attempt, release))
            return
        self.ledger[attempt] = fate
        self.possible_sends += fate in ("sent", "ambiguous")
        self.answers.append(self.answer(fate, attempt, release))

    def answer(self, state: str, attempt: int, release: int) -> MessageEvent:
        match state:
            case "sent":
                return sent(attempt, release)
            case "failed":
                return failed(attempt, release)
            case "final":
                return failed(attempt, release, retryable=False)
            case "unresolved":
                return resolved("unresolved", attempt)
            case _:
                return ambiguous(attempt, release)

    @precondition(lambda self: "ambiguous" in self.ledger.values())
    @rule(evidence=st.sampled_from(["sent", "unresolved"]))
    def resolve(self, evidence: str) -> None:
        attempt = next(number for number, state in self.ledger.items() if state == "ambiguous")
        self.ledger[attempt] = evidence
        self.answers.append(resolved("accepted" if evidence == "sent" else "unresolved", attempt))

    @precondition(lambda self: "sent" in self.ledger.values() and self.run_rules.guarantee == "at_most_once")
    @rule(fate=st.sampled_from(["failed", "final"]))
    def report_failed(self, fate: str) -> None:
        """The provider accepted it and says later that it failed."""
        attempt = next(number for number, state in self.ledger.items() if state == "sent")
        self.ledger[attempt] = fate
        self.possible_sends -= 1
        self.answers.append(self.answer(fate, attempt, 1))

    @precondition(lambda self: self.answers)
    @rule(choice=st.integers(0, 1000), again=st.booleans())
    def hear(self, choice: int, again: bool) -> None:
        index = choice % len(self.answers)
        outcome = self.answers[index] if again else self.answers.pop(index)
        self.dispatch = settle(self.dispatch, outcome, self.run_rules, now=NOW, jitter=0)

    @rule()
    def sweep(self) -> None:
        """What is released without an outcome is published again: the same attempt and release."""
        if self.dispatch.awaiting:
            self.queue.append((self.dispatch.attempt, self.dispatch.release, self.dispatch.may_duplicate))

    @invariant()
    def at_most_one_possible_send_without_leave(self) -> None:
        if self.run_rules.guarantee == "at_most_once":
            assert self.possible_sends <= 1
        assert self.possible_sends <= 1 + self.run_rules.max_retries
        open_attempts = [state for state in self.ledger.values() if state in ("sent", "ambiguous", "unresolved")]
        assert len(open_attempts) <= 1 or self.dispatch.may_duplicate or self.dispatch.state == "accepted"

    def teardown(self) -> None:
        """When everything has been heard, the dispatch agrees with the ledger."""
        if not hasattr(self, "dispatch"):
            return
        for _ in range(400):
            if self.dispatch.state not in ("pending", "released") and not self.answers:
                break
            self.release() if self.dispatch.state == "pending" else None
            if self.queue:
                self.admit(0, "sent", False)
            while self.answers:
                self.hear(0, False)
            if "ambiguous" in self.ledger.values():
                self.resolve("sent")
            self.sweep()
        assert dispatch.is_final(self.dispatch)
        if "sent" in self.ledger.values():
            assert self.dispatch.state == "accepted"
        if self.dispatch.state == "accepted":
            assert "sent" in self.ledger.values()


TestSenderModel = SenderModel.TestCase
TestSenderModel.settings = hypothesis_settings(max_examples=150, stateful_step_count=30, deadline=None)
