"""admit: a row for everything that the intent transaction decides."""

from dataclasses import replace
from datetime import UTC, datetime
from uuid import UUID

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sender.instance.ownership import OwnerRow
from sender.lane.quota import WINDOW_S, Quota
from sender.lane.throttle import Rate
from sender.ledger.attempt import State
from sender.ledger.delivery import (
    AlreadyInFlight,
    AnswerAgain,
    Candidate,
    Decision,
    Fail,
    Fenced,
    Gate,
    Intend,
    LedgerEntry,
    Limiter,
    Loaded,
    Refuse,
    admit,
)

NOW_S = 1_800_000_000.0
ACCOUNT, DISPATCH = UUID(int=1), UUID(int=2)
CAMPAIGN = ("campaign", "c")
GATES = (("everything", ""), ("account", "a"), ("instance", "i"), CAMPAIGN, ("template", "a:promo"))
MESSAGE = Candidate(
    account_id=ACCOUNT,
    dispatch_id=DISPATCH,
    attempt=1,
    release=1,
    run_epoch=3,
    recipient="5511987654321",
    gates=GATES,
    from_person=False,
    may_duplicate=False,
    send_before_s=NOW_S + 60,
)
FAST = Rate(interval_s=0.001, tolerance_s=1.0)
OPEN = Loaded(
    owner=OwnerRow(epoch=5, tat_s=0.0),
    gates={},
    ledger={},
    opted_out=frozenset(),
    quota=Quota(limit=None),
    limiter=Limiter(FAST, FAST, tat_s=0.0),
)


def entry(state: State, attempt: int = 1, **more: object) -> LedgerEntry:
    return LedgerEntry(attempt, state, release=1, epoch=5)._replace(**more)  # type: ignore[arg-type]


def decide(message: Candidate = MESSAGE, loaded: Loaded = OPEN) -> Decision:
    return admit([message], 5, loaded, NOW_S).decisions[0]


def after(*entries: LedgerEntry) -> Loaded:
    return replace(OPEN, ledger={DISPATCH: entries})


def test_an_open_way_is_an_intent() -> None:
    assert decide() == Intend(at_s=NOW_S, charged=False)


@pytest.mark.parametrize("owner", [None, OwnerRow(epoch=6, tat_s=0.0), OwnerRow(epoch=4, tat_s=0.0)])
def test_a_zombie_may_neither_send_nor_say_anything(owner: OwnerRow | None) -> None:
    loaded = replace(after(entry("accepted")), owner=owner)
    assert decide(loaded=loaded) == Fenced()


@pytest.mark.parametrize(
    ("state", "again"),
    [
        ("intent", False),
        *((s, True) for s in ("accepted", "rejected_retryable", "rejected_final", "not_sent", "ambiguous",
                              "unresolved")),
    ],
)  # fmt: skip
def test_the_same_attempt_is_never_made_twice(state: State, again: bool) -> None:
    expected = AnswerAgain(entry(state)) if again else AlreadyInFlight()
    assert decide(loaded=after(entry(state))) == expected


@pytest.mark.parametrize("state", ["accepted", "rejected_final", "ambiguous"])
def test_the_ledger_is_asked_before_the_gates(state: State) -> None:
    closed = {CAMPAIGN: Gate(closed_through=9)}
    assert decide(loaded=replace(after(entry(state)), gates=closed)) == AnswerAgain(entry(state))


@pytest.mark.parametrize("state", ["rejected_retryable", "rejected_final", "not_sent"])
def test_the_next_attempt_is_admitted_after_a_definite_refusal(state: State) -> None:
    assert isinstance(decide(MESSAGE._replace(attempt=2), after(entry(state))), Intend)


@pytest.mark.parametrize("state", ["accepted", "ambiguous", "unresolved"])
def test_the_next_attempt_is_answered_with_the_one_that_forbids_it(state: State) -> None:
    assert decide(MESSAGE._replace(attempt=2), after(entry(state))) == AnswerAgain(entry(state))


def test_the_next_attempt_waits_for_one_in_flight() -> None:
    assert decide(MESSAGE._replace(attempt=2), after(entry("intent"))) == AlreadyInFlight()


def test_an_unresolved_attempt_allows_another_only_if_a_duplicate_is_accepted() -> None:
    bold = MESSAGE._replace(attempt=2, may_duplicate=True)
    assert isinstance(decide(bold, after(entry("unresolved"))), Intend)
    assert decide(bold, after(entry("ambiguous"))) == AnswerAgain(entry("ambiguous"))
    assert decide(bold, after(entry("accepted"))) == AnswerAgain(entry("accepted"))


def test_an_attempt_that_we_returned_may_be_made_by_its_next_release() -> None:
    returned = entry("not_sent", returned=True)
    assert isinstance(decide(MESSAGE._replace(release=2), after(returned)), Intend)
    assert decide(MESSAGE, after(returned)) == AnswerAgain(returned)
    unreached = entry("not_sent")
    assert decide(MESSAGE._replace(release=2), after(unreached)) == AnswerAgain(unreached)


def test_our_own_intent_whose_commit_was_unknown_is_made_again_and_no_other() -> None:
    ours = MESSAGE._replace(retaken=True)
    assert isinstance(decide(ours, after(entry("intent", epoch=5))), Intend)
    assert decide(ours, after(entry("intent", epoch=4))) == AlreadyInFlight()


def test_a_leftover_of_an_earlier_attempt_is_refused() -> None:
    assert decide(MESSAGE, after(entry("intent", attempt=2))) == Refuse("expired")


@pytest.mark.parametrize(("closed_through", "passes"), [(-1, True), (2, True), (3, False), (4, False)])
def test_a_campaigns_gate_refuses_run_epochs_up_to_the_closed_one(closed_through: int, passes: bool) -> None:
    decision = decide(loaded=replace(OPEN, gates={CAMPAIGN: Gate(closed_through=closed_through)}))
    assert isinstance(decision, Intend) if passes else decision == Refuse("paused")


def test_a_cancelled_campaign_says_so() -> None:
    gate = Gate(closed_through=3, cancelled=True)
    assert decide(loaded=replace(OPEN, gates={CAMPAIGN: gate})) == Refuse("cancelled")


@pytest.mark.parametrize("key", GATES)
def test_any_held_gate_holds(key: tuple[str, str]) -> None:
    assert decide(loaded=replace(OPEN, gates={key: Gate(held=True)})) == Refuse("held")


def test_an_opted_out_person_gets_no_campaign_message_but_a_persons_answer() -> None:
    loaded = replace(OPEN, opted_out=frozenset({(ACCOUNT, MESSAGE.recipient)}))
    assert decide(loaded=loaded) == Fail("opted_out")
    assert isinstance(decide(MESSAGE._replace(from_person=True), loaded), Intend)
    assert isinstance(decide(MESSAGE._replace(account_id=UUID(int=9)), loaded), Intend)


def test_nothing_is_intended_at_or_after_its_time() -> None:
    assert decide(MESSAGE._replace(send_before_s=NOW_S)) == Refuse("expired")


def test_a_full_quota_says_when_it_opens() -> None:
    quota = Quota(limit=1, used=1, oldest_s=NOW_S - 100)
    opens = datetime.fromtimestamp(NOW_S - 100 + WINDOW_S, UTC)
    assert decide(loaded=replace(OPEN, quota=quota)) == Refuse("quota", opens)


def test_a_new_person_is_charged_and_a_known_one_is_not() -> None:
    quota = Quota(limit=2, used=1, oldest_s=NOW_S - 9, seen={"known": NOW_S - 9})
    loaded = replace(OPEN, quota=quota)
    assert decide(loaded=loaded) == Intend(NOW_S, charged=True)
    assert decide(MESSAGE._replace(recipient="known"), loaded) == Intend(NOW_S, charged=False)


def test_the_pair_limit_refuses_this_person_only() -> None:
    slow = Rate(interval_s=6.0, tolerance_s=0.0)
    limiter = Limiter(FAST, slow, 0.0, {MESSAGE.recipient: NOW_S + 4})
    other = MESSAGE._replace(dispatch_id=UUID(int=3), recipient="other")
    admission = admit([MESSAGE, other], 5, replace(OPEN, limiter=limiter), NOW_S)
    assert admission.decisions[0] == Refuse("pair_rate", datetime.fromtimestamp(NOW_S + 4, UTC))
    assert isinstance(admission.decisions[1], Intend)
    assert admission.pairs["other"] == NOW_S + 6.0


def test_one_dispatch_is_intended_once_in_a_group() -> None:
    decisions = admit([MESSAGE, MESSAGE], 5, OPEN, NOW_S).decisions
    assert isinstance(decisions[0], Intend)
    assert decisions[1] == AlreadyInFlight()


def test_what_does_not_fit_the_horizon_is_left_for_later_and_nothing_refused_is_charged() -> None:
    limiter = Limiter(Rate(interval_s=1.0, tolerance_s=0.0), FAST, NOW_S, {}, horizon_s=0.5)
    loaded = replace(OPEN, limiter=limiter, quota=Quota(limit=10))
    second = MESSAGE._replace(dispatch_id=UUID(int=3), recipient="other")
    admission = admit([MESSAGE, second], 5, loaded, NOW_S)
    assert admission.decisions[1] == Refuse("throttled", datetime.fromtimestamp(NOW_S + 1, UTC))
    assert admission.tat_s == NOW_S + 1
    assert admission.quota.used == 1


@given(st.lists(st.integers(0, 9), max_size=30), st.integers(1, 5))
def test_a_group_never_takes_more_than_quota_and_limiter_hold(people: list[int], limit: int) -> None:
    rate = Rate(interval_s=0.1, tolerance_s=0.35)
    loaded = replace(
        OPEN, quota=Quota(limit=limit), limiter=Limiter(rate, FAST, 0.0, {}, horizon_s=0.2)
    )  # fmt: skip
    batch = [MESSAGE._replace(dispatch_id=UUID(int=100 + n), recipient=str(person)) for n, person in enumerate(people)]
    admission = admit(batch, 5, loaded, NOW_S)
    intended = [
        (message, decision)
        for message, decision in zip(batch, admission.decisions, strict=True)
        if isinstance(decision, Intend)
    ]
    assert len({message.recipient for message, _ in intended}) <= limit
    assert len(intended) <= (0.2 + 0.35) / 0.1 + 1
    assert sum(decision.charged for _, decision in intended) == admission.quota.used
