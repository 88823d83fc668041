"""Planted bugs: small patches of a decision, or a step that a driver leaves out. Each must be seen by the checks.

A bug whose patch is a pair of module and function replaces real decision code; `flaws` are read by the thin drivers,
for what is SQL or asyncio in the services.
"""

from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, replace
from typing import Any
from unittest.mock import patch

from projections.conversation import messages
from providers.protocol import Ambiguous, Throttled
from scheduler.dispatch import automaton
from scheduler.lane import pacing
from sender.instance import warm_up
from sender.lane import budget, quota, throttle
from sender.ledger import attempt, delivery
from sender.ledger.attempt import NoAnswer, WasRejected
from sender.offsets import Watermark
from simulation import evidence, ledger, sender_lane
from simulation.town import Town

Patch = tuple[Any, str, Callable[[Any], Any]]  # of what, which name, original -> replacement


@dataclass(frozen=True)
class Bug:
    """`breaks`: the invariants of which at least one must be seen broken. `suits`: the towns worth a search."""

    name: str
    breaks: tuple[str, ...]
    flaws: frozenset[str] = frozenset()
    patches: tuple[Patch, ...] = ()
    suits: Callable[[Town], bool] = lambda _: True


@contextmanager
def planted(bug: Bug) -> Iterator[frozenset[str]]:
    with ExitStack() as stack:
        for owner, name, make in bug.patches:
            stack.enter_context(patch.object(owner, name, make(getattr(owner, name))))
        yield bug.flaws


def _stands_often(town: Town) -> bool:
    return town.faults.stand > 0.006 and town.faults.until_s > 15 and not town.faults.crash


def _slow_and_pauses(town: Town) -> bool:
    return town.faults.slow_rounds > 0.01 and [what for _, what, _ in town.orders].count("pause") > 2


def _throttles(town: Town) -> bool:
    return town.moods.fates["throttled"] > 0.1 and not town.faults.late_departures


def _warms_up(town: Town) -> bool:
    return bool(town.warm_ups.plans)


def _is_flagged(town: Town) -> bool:
    return any(what == "poor" for _, what, _ in town.warm_ups.orders)


def _fails_often(town: Town) -> bool:
    return town.moods.fates["busy"] + town.moods.fates["not_connected"] > 0.2


def _flaw(name: str, *breaks: str, suits: Callable[[Town], bool] = lambda _: True) -> Bug:
    return Bug(name, breaks, flaws=frozenset({name}), suits=suits)


def _gates_one_less(original: Any) -> Any:
    def refuse(candidate: Any, loaded: Any, now_s: float) -> Any:
        gates = {key: replace(gate, closed_through=gate.closed_through - 1) for key, gate in loaded.gates.items()}
        return original(candidate, replace(loaded, gates=gates), now_s)

    return refuse


def _without_opt_outs(original: Any) -> Any:
    return lambda candidate, loaded, now_s: original(candidate, replace(loaded, opted_out=frozenset()), now_s)


def _never_late(original: Any) -> Any:
    return lambda candidate, loaded, now_s: original(candidate._replace(send_before_s=1e12), loaded, now_s)


def _blind_for_ambiguous(original: Any) -> Any:
    def look_back(candidate: Any, entries: Any, *rest: Any) -> Any:
        return original(candidate, [entry for entry in entries if entry.state != "ambiguous"], *rest)

    return look_back


def _blind_for_settled(original: Any) -> Any:
    def look_back(candidate: Any, entries: Any, *rest: Any) -> Any:
        return original(candidate, [entry for entry in entries if entry.state == "intent"], *rest)

    return look_back


def _weigh_undelivered(original: Any) -> Any:
    return lambda state, delivered, *rest: original(state, False, *rest)


def _record_undelivered(original: Any) -> Any:
    return lambda state, delivered, finding: original(state, False, finding)


def _count_throttling(original: Any) -> Any:
    def classify(outcome: Any, *rest: Any) -> Any:
        finding = original(outcome, *rest)
        return replace(finding, counts=True) if isinstance(outcome, Throttled) else finding

    return classify


def _retry_the_uncertain(original: Any) -> Any:
    def classify(outcome: Any, *rest: Any) -> Any:
        if isinstance(outcome, Ambiguous):
            return WasRejected(outcome.reason, retryable=True, by="answer")
        return original(outcome, *rest)

    return classify


def _silence_is_refusal(original: Any) -> Any:
    def record(state: Any, delivered: Any, finding: Any) -> Any:
        after = original(state, delivered, finding)
        return "rejected_final" if isinstance(finding, NoAnswer) and after else after

    return record


def _skip_gaps(original: Any) -> Any:
    def advance(self: Any) -> Any:
        while self._head < len(self._begun) and self._finished:
            self._finished.add(self._begun[self._head])
            offset = original(self)
            if offset is not None:
                return offset
        return original(self)

    return advance


def _same_attempt_again(original: Any) -> Any:
    return lambda dispatch: replace(original(dispatch), attempt=dispatch.attempt)


def _without_leave_to_duplicate(original: Any) -> Any:
    return lambda *given: replace(original(*given), may_duplicate=False)


def _take_the_last(_: Any) -> Any:
    return lambda one, other: other


def _echo_of_anyone(original: Any) -> Any:
    def pair(echoes: Any, attempts: Any) -> Any:
        known = {(one.dispatch_id, one.attempt): one for one in attempts}
        loose = [replace(one, recipient="", text_hash=0) for one in attempts]
        found = original([replace(one, recipient="", text_hash=0) for one in echoes], loose)
        return [(echo, known[one.dispatch_id, one.attempt]) for echo, one in found]

    return pair


def _pairs_unlimited(original: Any) -> Any:
    def take(tat_s: float, now_s: float, rate: Any, horizon_s: float = 0.0) -> Any:
        if rate.interval_s == 6.0:
            return throttle.Taken(tat_s, now_s)
        return original(tat_s, now_s, rate, horizon_s)

    return take


def _forget_returns_of_cancelled(_: Any) -> Any:
    return frozenset[str]()


def _constant(value: Any) -> Callable[[Any], Any]:
    return lambda _: lambda *given, **named: value


def _any_lease(_: Any) -> Any:
    return lambda lease, now_s: lease is not None


def _endless(_: Any) -> Any:
    return property(lambda lane: 1_000_000)


def _todays(_: Any) -> Any:
    return lambda plan, today, *rest: today


def _spend_anyway(original: Any) -> Any:
    return lambda traffic, *given: original(traffic, *given) or traffic


def _half_a_day(_: Any) -> Any:
    return 12 * 3600


BUGS: tuple[Bug, ...] = (
    # The sender: what may leave
    Bug("the gate lets the closed run pass", ("I6",), patches=((delivery, "_refuse", _gates_one_less),)),
    Bug("opt-outs are the scheduler's business", ("I7",), patches=((delivery, "_refuse", _without_opt_outs),)),
    Bug("nobody looks at send_before", ("I7",),
        frozenset({"send_before_not_checked"}), ((delivery, "_refuse", _never_late),)),
    Bug("an uncertain attempt is made again", ("I2",),
        frozenset({"attempts_overwritten"}), ((delivery, "_look_back", _blind_for_ambiguous),)),
    Bug("what is settled is sent again", ("I2",),
        frozenset({"attempts_overwritten"}), ((delivery, "_look_back", _blind_for_settled),)),
    Bug("neither fence nor deadline", ("I12",), frozenset({"old_intents_leave"}),
        ((delivery, "is_fenced", _constant(False)), (sender_lane, "holds", _any_lease)), _stands_often),
    Bug("pairs have no limit", ("I4",), patches=((throttle, "take", _pairs_unlimited),)),
    Bug("half a day is enough", ("I5",),
        patches=((quota, "WINDOW_S", _half_a_day), (ledger, "WINDOW_S", _half_a_day))),
    _flaw("departure_without_limiter", "I4"),
    _flaw("limiter_reset", "I4"),
    _flaw("gate_not_shared", "I6", suits=_slow_and_pauses),
    _flaw("old_intents_leave", "I6", "I2", "I3", "I4"),
    _flaw("quota_not_locked", "I5"),
    _flaw("pace_not_heeded", "I4", suits=_throttles),
    Bug("retries have no budget", ("I14",), patches=((budget, "try_again", _spend_anyway),), suits=_fails_often),
    Bug("a warm-up grows whatever happens", ("I5",),
        patches=((warm_up, "judge", _constant((None, False))),), suits=_warms_up),
    Bug("a poor quality slows no warm-up", ("I5",), patches=((warm_up, "slow", _todays),), suits=_is_flagged),
    # The sender: what became of it
    Bug("throttling uses up retries", ("I1",), patches=((attempt, "classify", _count_throttling),)),
    Bug("no answer means try again", ("I2",), patches=((attempt, "classify", _retry_the_uncertain),)),
    Bug("silence is a refusal", ("I2", "I3"), patches=((attempt, "record", _silence_is_refusal),)),
    Bug("a failure after delivery counts", ("I2", "I3"),
        patches=((attempt, "record", _record_undelivered), (evidence, "weigh", _weigh_undelivered))),
    Bug("no status is heard", ("I3",),
        patches=((evidence, "weigh", _constant(None)),)),
    Bug("an echo fits whatever is open", ("I3",), patches=((evidence, "pair_echoes", _echo_of_anyone),)),
    Bug("committed past a gap", ("offsets",), patches=((Watermark, "advance", _skip_gaps),)),
    _flaw("ambiguous_refunded", "I5"),
    _flaw("evidence_not_kept", "I3"),
    _flaw("told_twice_counts_twice", "I5", suits=_warms_up),
    _flaw("finished_before_told", "offsets"),
    # The scheduler
    Bug("a retry is the same attempt", ("I1", "I13"), patches=((automaton, "_next_attempt", _same_attempt_again),)),
    Bug("no leave to duplicate", ("I1", "I13"),
        patches=((automaton, "_leave_unresolved", _without_leave_to_duplicate),)),
    Bug("returned to a cancelled campaign", ("I1",),
        patches=((automaton, "CANCELLED", _forget_returns_of_cancelled),)),
    Bug("the delay begins with the release", ("I4",), patches=((pacing, "_delay_ends", _constant(None)),)),
    Bug("credit without end", ("I14",), patches=((pacing, "_credit_left", _constant(1000)),)),
    Bug("a day of a warm-up has no end", ("I5",), patches=((pacing.Lane, "warm_left", _endless),), suits=_warms_up),
    _flaw("days_begin_unused", "I5", suits=_warms_up),
    _flaw("first_day_from_the_sender", "I5", suits=_warms_up),
    _flaw("forgotten_not_published", "I1", "I13"),
    _flaw("drained_while_ambiguous", "I1"),
    # webhook-ingest
    _flaw("door_answers_at_once", "I11"),
    _flaw("committed_before_translated", "I11"),
    # projections
    Bug("the last status wins", ("I8",), patches=((messages, "join_statuses", _take_the_last),)),
    _flaw("counted_without_transition", "I8"),
    # chassis
    _flaw("relay_by_position", "I9"),
    _flaw("offsets_without_compare", "effect once"),
)  # fmt: skip
BY_NAME = {bug.name: bug for bug in BUGS}
