"""Invariants over what the system itself wrote down: its log in Kafka, its stores, its own intents. Pure.

They come on top of those that believe the simulator alone: a run whose sends were right may still have lost an event.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from itertools import pairwise
from typing import Any
from uuid import UUID

from pombo.audit.finding import Finding, found
from pombo.audit.witness import Send, Witness

STILL_MOVING_S = 5.0
NO_ANSWER = frozenset({"hang", "reset", "lost_answer", "garbled", "accepted_5xx"})


@dataclass(frozen=True, slots=True)
class Intent:
    """A committed permission to send; `at` is the database's clock in its transaction."""

    instance: str
    at: float
    epoch: int


@dataclass(frozen=True, slots=True)
class Recovery:
    """From the end of the last fault until everything was at rest. `backlog`: messages not final when it ended.

    `moved`: seconds after the last fault in which each kind of thing was last seen on its way.
    """

    took_s: float
    bound_s: float
    backlog: int
    at_rest: bool
    moved: Mapping[str, float] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Facts:
    """What was gathered once a run was at rest.

    `stream_gaps`: event streams whose versions are not 1..n in Kafka. `stored_events`/`logged_events`: in the event
    store and, different ones, in Kafka. `waiting`: rows that should have left (outboxes, the spool), by table.
    `foreign`: records of one account that carry a word of the other. `leaks`: log lines with message texts.
    `ambiguous`: attempts told as ambiguous, by dispatch. `ambiguity_allowed`: how many the faults explain.
    """

    compared: tuple[Mapping[str, Any], ...]
    raw_counts: Mapping[str, int]
    calls: int
    calls_between_accounts: tuple[str, ...]
    stream_gaps: tuple[str, ...]
    stored_events: int
    logged_events: int
    waiting: Mapping[str, int]
    audit_log: str
    foreign: tuple[str, ...]
    leaks: tuple[str, ...]
    intents: tuple[Intent, ...]
    ambiguous: Mapping[UUID, int]
    ambiguity_allowed: int
    recovery: Recovery
    rss_mib: Mapping[str, int] = field(default_factory=dict)
    rss_max_mib: int = 1024


def invariants(facts: Facts, witness: Witness) -> list[Finding]:
    """I9, the log's part of I10, I12, I13, I14."""
    return [
        log_whole(facts),
        events_apart(facts),
        fenced(facts.intents),
        live(facts.recovery),
        bounded(facts, witness),
    ]


def log_whole(facts: Facts) -> Finding:
    """I9: streams without a gap, everything stored is in Kafka, nothing waits, the audit log's chain holds."""
    wrong = list(facts.stream_gaps)
    if facts.stored_events != facts.logged_events:
        wrong.append(f"{facts.stored_events} events in the store, {facts.logged_events} different ones in Kafka")
    wrong += [f"{count} rows still wait in {table}" for table, count in facts.waiting.items() if count]
    if facts.audit_log != "the audit log is whole":
        wrong.append(f"audit log: {facts.audit_log or 'not verified'}")
    return found("I9", "the log is whole", f"{facts.logged_events} events of streams", wrong)


def events_apart(facts: Facts) -> Finding:
    """I10: no event of one account carries another's words, no log line anybody's."""
    wrong = [*facts.foreign, *facts.leaks]
    return found("I10", "accounts see nothing of each other", "all records and log lines", wrong)


def fenced(intents: Sequence[Intent]) -> Finding:
    """I12: for each instance, epochs of intents never fall in the order of their transactions."""
    wrong: list[str] = []
    by_instance: dict[str, list[Intent]] = {}
    for intent in intents:
        by_instance.setdefault(intent.instance, []).append(intent)
    owners = 0
    for instance, own in by_instance.items():
        own.sort(key=lambda intent: (intent.at, intent.epoch))
        owners += len({intent.epoch for intent in own})
        wrong += [
            f"instance {instance}: an intent of epoch {later.epoch} after one of epoch {earlier.epoch}"
            for earlier, later in pairwise(own)
            if later.epoch < earlier.epoch
        ]
    return found("I12", "fencing", f"{len(intents)} intents of {owners} owners", wrong)


def live(recovery: Recovery) -> Finding:
    """I13: after the last fault everything comes to rest within its bound."""
    wrong: list[str] = []
    if not recovery.at_rest:
        late = ", ".join(what for what, at_s in recovery.moved.items() if recovery.took_s - at_s < STILL_MOVING_S)
        wrong.append(f"not at rest {recovery.took_s:.0f} s after the last fault (on their way: {late or 'not known'})")
    elif recovery.took_s > recovery.bound_s:
        wrong.append(f"at rest {recovery.took_s:.1f} s after the last fault, the bound is {recovery.bound_s:.1f} s")
    counted = f"{recovery.backlog} messages in {recovery.took_s:.1f} s of {recovery.bound_s:.1f}"
    return found("I13", "liveness after healing", counted, wrong)


def bounded(facts: Facts, witness: Witness) -> Finding:
    """I14: no more ambiguous attempts than unanswered sends and faults explain; memory within its bound."""
    unanswered = sum(1 for send in witness.sends if has_no_answer(send, witness.answered))
    told, allowed = sum(facts.ambiguous.values()), unanswered + facts.ambiguity_allowed
    wrong: list[str] = []
    if told > allowed:
        wrong.append(f"{told} attempts ambiguous; {unanswered} sends had no answer, faults explain {allowed} in all")
    wrong += [f"{name} has {rss} MiB" for name, rss in facts.rss_mib.items() if rss > facts.rss_max_mib]
    return found("I14", "ambiguity and memory bounded", f"{told} ambiguous of {allowed} explained", wrong)


def has_no_answer(send: Send, answered: frozenset[int]) -> bool:
    """Whether the sender cannot have read what became of it."""
    if send.fate in NO_ANSWER or send.request not in answered:
        return True
    # A 500 without the provider's own code, and 131000, prove nothing either way.
    return send.fate == "5xx" and send.code in (None, 131000)
