"""Two campaigns of two accounts that kept every promise; tests doctor one thing and look at the verdict."""

import json
from dataclasses import dataclass, field, replace
from typing import Any

from pombo.audit.finding import Finding
from pombo.audit.ledger import Facts, Intent, Recovery
from pombo.audit.promises import read_answers, read_plan
from pombo.audit.several import Audited, Tally, audit_several, tally
from pombo.audit.witness import Witness, read_pauses, read_witness
from witnessed_run import WitnessedRun, kept_promises


def kept_facts(**changes: Any) -> Facts:
    """What a run leaves that lost nothing."""
    facts = Facts(
        compared=({"table": "recipient", "equal": True, "live": {"rows": 2}, "rebuilt": {"rows": 2}},),
        raw_counts={},
        calls=10,
        calls_between_accounts=(),
        stream_gaps=(),
        stored_events=7,
        logged_events=7,
        waiting={"sender.outbox": 0, "webhook_ingest.spool": 0},
        audit_log="the audit log is whole",
        foreign=(),
        leaks=(),
        intents=(Intent("one", 1.0, 1), Intent("one", 2.0, 1), Intent("one", 3.0, 2), Intent("two", 2.5, 1)),
        ambiguous={},
        ambiguity_allowed=0,
        recovery=Recovery(took_s=5, bound_s=30, backlog=2, at_rest=True),
    )
    return replace(facts, **changes)


@dataclass(slots=True)
class ChaoticRun:
    """The first campaign is witnessed_run's; `facts` is replaced to doctor it."""

    run: WitnessedRun = field(default_factory=kept_promises)
    facts: Facts = field(default_factory=kept_facts)

    def audited(self) -> list[Audited]:
        plan = read_plan(self.run.plan)
        return [Audited(plan, read_answers(self.run.answers, plan))]

    def witness(self) -> Witness:
        # In the small log no request is closed: say that each was answered.
        seen = read_witness(_lines(self.run.witness))
        closed = {fact["request"] for fact in self.run.witness if fact["event"] == "request_closed"}
        return replace(seen, answered=frozenset(send.request for send in seen.sends) - closed)

    def findings(self) -> dict[str, Finding]:
        audited = self.audited()
        facts = replace(self.facts, raw_counts=self.facts.raw_counts or self.run.answers["raw_counts"])
        found = audit_several(
            audited, audited[0].plan.numbers, self.witness(), read_pauses(_lines(self.run.clock)), facts
        )
        return {finding.number: finding for finding in found}

    def broken(self) -> set[str]:
        return {number for number, finding in self.findings().items() if not finding.holds}

    def tally(self) -> Tally:
        return tally(self.audited(), self.witness(), self.facts)


def _lines(facts: list[dict[str, Any]]) -> list[str]:
    return [json.dumps(fact) for fact in facts]
