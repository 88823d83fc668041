"""Two automata under any order of events: the attempt, and the gate with the intents that share it.

(The dispatch and the campaign have their machines in tests/scheduler/test_dispatch.py and
tests/campaign_api/test_campaign.py.)
"""

from typing import Any
from uuid import UUID

from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule

from sender.instance.ownership import OwnerRow
from sender.lane.quota import Quota
from sender.lane.throttle import Rate
from sender.ledger.attempt import (
    NOT_ACCEPTED,
    OPEN,
    Finding,
    NeverLeft,
    NoAnswer,
    NoEvidence,
    State,
    WasAccepted,
    WasRejected,
    record,
)
from sender.ledger.delivery import Candidate, Fail, Gate, Intend, LedgerEntry, Limiter, Loaded, Refuse, admit

CAMPAIGN = ("campaign", "one")
ACCOUNT = UUID(int=1)


class AnyEvidence(RuleBasedStateMachine):
    """What is found out about one attempt, in any order, any number of times."""

    def __init__(self) -> None:
        super().__init__()
        self.state: State = "intent"
        self.delivered = False
        self.past: list[State] = ["intent"]
        self.found: list[Finding] = []

    def find(self, finding: Finding) -> None:
        after = record(self.state, self.delivered, finding)
        self.found.append(finding)
        if isinstance(finding, WasAccepted) and finding.delivered and (after or self.state) == "accepted":
            self.delivered = True
        if after is not None:
            assert after != self.state, "what changes nothing is None"
            self.state = after
            self.past.append(after)
        assert record(self.state, self.delivered, finding) is None, "the same again changes nothing"

    @rule(by=st.sampled_from(["answer", "label", "echo", "bound_id", "look_up"]), delivered=st.booleans())
    def accepted(self, by: Any, delivered: bool) -> None:
        self.find(WasAccepted("id", by=by, delivered=delivered and by != "answer"))

    @rule(by=st.sampled_from(["answer", "label", "bound_id"]), retryable=st.booleans())
    def rejected(self, by: Any, retryable: bool) -> None:
        before = self.state, self.delivered
        self.find(WasRejected("refused", retryable=retryable, by=by))
        if before == ("accepted", True):
            assert self.state == "accepted", "what arrived did not fail"

    @rule(returned=st.booleans())
    def never_left(self, returned: bool) -> None:
        self.find(NeverLeft("late", returned=returned))

    @rule()
    def no_answer(self) -> None:
        self.find(NoAnswer("time-out"))

    @rule()
    def silence(self) -> None:
        before = self.state
        self.find(NoEvidence())
        assert (self.state == "unresolved") == (before in ("ambiguous", "unresolved"))

    @invariant()
    def what_was_settled_is_not_open_again(self) -> None:
        settled = [nth for nth, state in enumerate(self.past) if state not in OPEN]
        if settled:
            assert not OPEN.intersection(self.past[settled[0] :])

    @invariant()
    def what_may_be_sent_again_was_never_accepted_without_a_later_failure(self) -> None:
        if self.state in NOT_ACCEPTED and "accepted" in self.past:
            assert not self.delivered
            assert any(isinstance(finding, WasRejected) and finding.by != "answer" for finding in self.found)

    @invariant()
    def any_proof_ends_uncertainty(self) -> None:
        if any(isinstance(finding, WasAccepted | WasRejected) for finding in self.found):
            assert self.state not in OPEN


class GateAndIntents(RuleBasedStateMachine):
    """One campaign's gate: closed by run epoch, shared by intents, told to be closed when none is in flight."""

    def __init__(self) -> None:
        super().__init__()
        self.gate = Gate()
        self.run_epoch = 1
        self.ledger: dict[UUID, list[LedgerEntry]] = {}
        self.epochs: dict[UUID, int] = {}
        self.told_through = -1
        self.opted_out: set[str] = set()

    def ask(self, number: int, run_epoch: int, person: bool) -> Any:
        candidate = Candidate(
            account_id=ACCOUNT, dispatch_id=UUID(int=number), attempt=1, release=run_epoch, run_epoch=run_epoch,
            recipient=str(number % 5), gates=(CAMPAIGN,), from_person=person, may_duplicate=False, send_before_s=100.0,
        )  # fmt: skip
        rate = Rate(1e-6, 1.0)
        loaded = Loaded(
            OwnerRow(1, 0.0), {CAMPAIGN: self.gate}, self.ledger,
            frozenset((ACCOUNT, key) for key in self.opted_out), Quota(None), Limiter(rate, rate, 0.0),
        )  # fmt: skip
        return admit([candidate], 1, loaded, 10.0).decisions[0]

    @initialize()
    def begin(self) -> None:
        assert isinstance(self.ask(1, 1, False), Intend)

    @rule(number=st.integers(1, 30), back=st.integers(0, 3), person=st.booleans())
    def intend(self, number: int, back: int, person: bool) -> None:
        """Also what was queued in an earlier run and comes late."""
        run_epoch = max(1, self.run_epoch - back)
        if UUID(int=number) in self.ledger:
            return
        decision = self.ask(number, run_epoch, person)
        if run_epoch <= self.gate.closed_through or self.gate.held:
            assert isinstance(decision, Refuse)
        elif not person and str(number % 5) in self.opted_out:
            assert isinstance(decision, Fail)
        else:
            assert isinstance(decision, Intend)
            assert run_epoch > self.told_through, "after the word that it is closed nothing passes"
            self.ledger[UUID(int=number)] = [LedgerEntry(1, "intent", run_epoch, 1)]
            self.epochs[UUID(int=number)] = run_epoch

    @rule(number=st.integers(1, 30))
    def settle(self, number: int) -> None:
        key = UUID(int=number)
        if key in self.ledger:
            self.ledger[key] = [LedgerEntry(1, "accepted", self.epochs[key], 1)]
            assert not isinstance(self.ask(number, self.epochs[key], False), Intend)

    @rule(cancelled=st.booleans())
    def close(self, cancelled: bool) -> None:
        self.gate = Gate(
            max(self.gate.closed_through, self.run_epoch), self.gate.cancelled or cancelled, self.gate.held
        )

    @rule(held=st.booleans())
    def hold(self, held: bool) -> None:
        self.gate = Gate(self.gate.closed_through, self.gate.cancelled, held)

    @rule(key=st.integers(0, 4))
    def opt_out(self, key: int) -> None:
        self.opted_out.add(str(key))

    @precondition(lambda self: self.gate.closed_through >= 1)
    @rule()
    def tell(self) -> None:
        under_way = [
            key for key, entries in self.ledger.items()
            if entries[0].state == "intent" and self.epochs[key] <= self.gate.closed_through
        ]  # fmt: skip
        if not under_way:
            self.told_through = self.gate.closed_through

    @precondition(lambda self: self.told_through >= self.run_epoch)
    @rule()
    def resume(self) -> None:
        self.run_epoch += 1

    @invariant()
    def nothing_told_to_be_closed_is_under_way(self) -> None:
        for key, entries in self.ledger.items():
            assert entries[0].state != "intent" or self.epochs[key] > self.told_through


TestAttempt = AnyEvidence.TestCase
TestAttempt.settings = settings(max_examples=150, stateful_step_count=25, deadline=None)
TestGate = GateAndIntents.TestCase
TestGate.settings = settings(max_examples=100, stateful_step_count=40, deadline=None)
