"""One step to one recipient: what its outcomes and people's orders make of it. Pure.

Every rule here must hold under duplicates and stale repetitions: a retryable failure counts for the current attempt
only, a return for the current attempt and release of a released dispatch only, an acceptance from any attempt that has
not failed. An order that does not apply returns the dispatch unchanged.
"""

from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from typing import Literal, assert_never

from contracts.campaigns import Guarantee
from contracts.messages import (
    MessageAmbiguous,
    MessageEvent,
    MessageFailed,
    MessageResolved,
    MessageReturned,
    MessageSent,
)
from contracts.progress import FINAL_STATES, DeadLetterFate, DispatchState

# What a pending dispatch waits for: the step before it, a time (`due_at`), or a higher run epoch. None = its turn.
Waits = Literal["previous_step", "time", "run"]
CampaignStatus = Literal[
    "draft", "scheduled", "running", "pausing", "paused", "cancelling", "cancelled", "completed", "failed", "deleted"
]
PAUSED: frozenset[CampaignStatus] = frozenset({"pausing", "paused"})
CANCELLED: frozenset[CampaignStatus] = frozenset({"cancelling", "cancelled", "deleted"})

# Waits of returned messages whose answer names no time, in seconds.
_RETURN_WAIT_S = {"pair_rate": 6.0, "held": 5.0, "instance_unknown": 2.0}
_LANE_RETURN_WAIT_S = 5.0
_RETURN_WAIT_LEAST_S = 1.0
# A failure that does not count (throttled, not sent) comes sooner: this share of the policy's first retry.
_UNCOUNTED_SHARE = 1 / 8
_RETRY_DOUBLINGS_MAX = 16


@dataclass(frozen=True, slots=True)
class Dispatch:
    """`release` counts the releases of `attempt`; `retries` what used up one of `max_retries`: failures that count,
    and under `at_least_once` an attempt of which nobody knows what became of it.

    `awaiting`: released and not answered yet (an ambiguous one is answered, and still released).
    `revoked`: the highest attempt that failed. That is the last word about it, though the word that it had been
    accepted may come after it.
    """

    state: DispatchState = "pending"
    attempt: int = 1
    release: int = 0
    retries: int = 0
    run_epoch: int = 0
    waits: Waits | None = None
    reason: str | None = None
    due_at: datetime | None = None
    awaiting: bool = False
    may_duplicate: bool = False
    retryable: bool = False
    revoked: int = 0


@dataclass(frozen=True, slots=True)
class Rules:
    """The campaign's run as it bears on one dispatch. Messages without a campaign are always `running`."""

    status: CampaignStatus = "running"
    run_epoch: int = 0
    max_retries: int = 3
    retry_delay_s: float = 120
    guarantee: Guarantee = "at_most_once"
    valid_until: datetime | None = None


def settle(dispatch: Dispatch, outcome: MessageEvent, rules: Rules, *, now: datetime, jitter: float) -> Dispatch:
    """`jitter` in [-0.1, 0.1] spreads retries. The same dispatch if the outcome says nothing new."""
    match outcome:
        case MessageSent():
            return _accept(dispatch, outcome.attempt)
        case MessageResolved(outcome="accepted"):
            return _accept(dispatch, outcome.attempt)
        case MessageResolved():
            return _leave_unresolved(dispatch, outcome, rules)
        case MessageAmbiguous():
            if dispatch.state != "released" or not dispatch.awaiting or outcome.attempt != dispatch.attempt:
                return dispatch
            return replace(dispatch, awaiting=False, reason="ambiguous")
        case MessageFailed():
            return _fail(dispatch, outcome, rules, now, jitter)
        case MessageReturned():
            return _take_back(dispatch, outcome, rules, now)
        case _:
            assert_never(outcome)


def _accept(dispatch: Dispatch, attempt: int) -> Dispatch:
    if dispatch.state == "accepted" or _has_failed(dispatch, attempt):
        return dispatch
    # Written out, because it happens for every message: `replace` costs several times as much.
    return Dispatch(
        "accepted",
        attempt,
        dispatch.release,
        dispatch.retries,
        dispatch.run_epoch,
        may_duplicate=dispatch.may_duplicate,
        revoked=dispatch.revoked,
    )


def _has_failed(dispatch: Dispatch, attempt: int) -> bool:
    """Attempts are made one after the other's failure, unless one is left unresolved: that one may yet be accepted."""
    return attempt == dispatch.revoked or (attempt < dispatch.revoked and not dispatch.may_duplicate)


def _leave_unresolved(dispatch: Dispatch, outcome: MessageResolved, rules: Rules) -> Dispatch:
    """Also where another copy of the same release was returned, by a sender that did not know of the one that left."""
    if dispatch.state not in ("released", "pending", "cancelled", "expired") or outcome.attempt != dispatch.attempt:
        return dispatch
    retries = dispatch.retries + 1
    goes_on = rules.status == "running" or rules.status in PAUSED
    if rules.guarantee == "at_least_once" and goes_on and retries <= rules.max_retries:
        waits: Waits | None = "run" if rules.status in PAUSED else None
        return replace(_next_attempt(dispatch), may_duplicate=True, waits=waits, reason="unresolved", retries=retries)
    return _ended(dispatch, "unresolved", "unresolved")


def _fail(dispatch: Dispatch, failed: MessageFailed, rules: Rules, now: datetime, jitter: float) -> Dispatch:
    if failed.attempt > dispatch.revoked:
        dispatch = replace(dispatch, revoked=failed.attempt)
    if failed.attempt != dispatch.attempt or dispatch.state in ("failed", "skipped", "expired", "cancelled"):
        return dispatch
    if failed.reason == "opted_out":
        return _ended(dispatch, "skipped", "opted_out")
    retries = dispatch.retries + failed.counts
    exhausted = failed.counts and retries > rules.max_retries
    if not failed.retryable or exhausted or rules.status != "running":
        return replace(_ended(dispatch, "failed", failed.reason), retries=retries, retryable=failed.retryable)
    wait_s = _retry_wait_s(rules, retries if failed.counts else 0, jitter)
    due_at = failed.not_before or now + timedelta(seconds=wait_s)
    return replace(_next_attempt(dispatch), waits="time", due_at=due_at, reason=failed.reason, retries=retries)


def _retry_wait_s(rules: Rules, counted: int, jitter: float) -> float:
    """2, 4, 8 minutes with the default policy; `counted` 0 = the failure did not count."""
    if counted == 0:
        return rules.retry_delay_s * _UNCOUNTED_SHARE * (1 + jitter)
    return float(rules.retry_delay_s * 2 ** min(counted - 1, _RETRY_DOUBLINGS_MAX) * (1 + jitter))


def _take_back(dispatch: Dispatch, returned: MessageReturned, rules: Rules, now: datetime) -> Dispatch:
    current = (returned.attempt, returned.release) == (dispatch.attempt, dispatch.release)
    if dispatch.state != "released" or not current:
        return dispatch
    if rules.status in CANCELLED:
        return _ended(dispatch, "cancelled", "cancelled")
    waiting = replace(dispatch, state="pending", awaiting=False, waits=None, due_at=None, reason=returned.reason)
    match returned.reason:
        case "paused" | "cancelled":
            runs_again = rules.status == "running" and rules.run_epoch > dispatch.run_epoch
            return waiting if runs_again else replace(waiting, waits="run")
        case "expired" if rules.valid_until is not None and now >= rules.valid_until:
            return _ended(dispatch, "expired", "expired")
        case "expired" | "shutting_down":
            return waiting
        case _:
            wait_s = _RETURN_WAIT_S.get(returned.reason, _LANE_RETURN_WAIT_S)
            return replace(waiting, waits="time", due_at=_not_at_once(returned.not_before, wait_s, now))


def lane_block(returned: MessageReturned, now: datetime) -> datetime | None:
    """Until when the whole lane should rest because of this answer; None if it concerns this message only."""
    match returned.reason:
        case "quota" | "breaker" | "throttled" | "instance_stopped":
            return _not_at_once(returned.not_before, _LANE_RETURN_WAIT_S, now)
        case "paused" | "cancelled" | "held" | "pair_rate" | "expired" | "instance_unknown" | "shutting_down":
            return None
        case "retry_budget":  # first attempts go on
            return None
        case _:
            assert_never(returned.reason)


def _not_at_once(not_before: datetime | None, wait_s: float, now: datetime) -> datetime:
    """A sender whose clock is behind names times that are past: its messages would go to and fro without a pause."""
    if not_before is None:
        return now + timedelta(seconds=wait_s)
    return max(not_before, now + timedelta(seconds=_RETURN_WAIT_LEAST_S))


def release(dispatch: Dispatch, run_epoch: int) -> Dispatch:
    if dispatch.state != "pending" or dispatch.waits is not None:
        return dispatch
    return replace(
        dispatch, state="released", release=dispatch.release + 1, run_epoch=run_epoch, awaiting=True, reason=None
    )


def requeue(dispatch: Dispatch) -> Dispatch:
    """A person, or a resume, has what failed tried again with a fresh count of retries."""
    if dispatch.state != "failed" or not dispatch.retryable:
        return dispatch
    return replace(_next_attempt(dispatch), retries=0)


def dead_letter_fate(status: CampaignStatus, *, retryable: bool) -> DeadLetterFate:
    """What requeueing a failed dispatch of a campaign in this state would do."""
    if not retryable:
        return "final"
    match status:
        case "cancelling" | "cancelled" | "deleted":
            return "cancelled"
        case "running":
            return "released"
        case "completed" | "failed":
            return "campaign_reopened"
        case "pausing" | "paused" | "draft" | "scheduled":
            return "after_resume"
        case _:
            assert_never(status)


def erase(dispatch: Dispatch) -> Dispatch:
    """The person was erased while it was out: it is not tried again."""
    match dispatch.state:
        case "pending":
            return _ended(dispatch, "skipped", "erased")
        case "failed":
            return replace(dispatch, retryable=False)
        case _:
            return dispatch


def decide(dispatch: Dispatch, decision: Literal["was_sent", "send_again", "give_up"]) -> Dispatch:
    """A person's word on an unresolved dispatch."""
    if dispatch.state != "unresolved":
        return dispatch
    match decision:
        case "was_sent":
            return _ended(dispatch, "accepted", None)
        case "send_again":
            return replace(_next_attempt(dispatch), may_duplicate=True)
        case "give_up":
            return replace(_ended(dispatch, "failed", "given_up"), retryable=False)
        case _:
            assert_never(decision)


def following(before: Dispatch, after: Dispatch) -> Literal["open", "skip"] | None:
    """What a change means for the recipient's later steps."""
    if before.state == after.state:
        return None
    match after.state:
        case "accepted":
            return "open"
        case "failed" | "expired" | "unresolved" | "skipped":
            return "skip"
        case "pending" | "released" | "cancelled":
            return None
        case _:
            assert_never(after.state)


def is_final(dispatch: Dispatch) -> bool:
    return dispatch.state in FINAL_STATES


def _ended(dispatch: Dispatch, state: DispatchState, reason: str | None) -> Dispatch:
    return replace(dispatch, state=state, reason=reason, awaiting=False, waits=None, due_at=None)


def _next_attempt(dispatch: Dispatch) -> Dispatch:
    return replace(
        dispatch,
        state="pending",
        attempt=dispatch.attempt + 1,
        release=0,
        awaiting=False,
        waits=None,
        due_at=None,
        reason=None,
        retryable=False,
    )
