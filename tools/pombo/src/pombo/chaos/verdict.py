"""A run's folder audited: from the files alone, so that it can be done again, and doctored."""

import json

from pombo.audit.finding import Finding
from pombo.audit.promises import NumberLimits, read_answers, read_plan
from pombo.audit.several import Audited, Tally, audit_several, tally
from pombo.audit.witness import read_pauses, read_witness
from pombo.chaos.evidence import read_facts
from pombo.stack import RunFolder

NOTHING_OF_OTHERS = {"raw_counts": {}, "compared": [], "isolation": {"crossings": [], "calls": 0}}


def is_chaos_run(folder: RunFolder) -> bool:
    return (folder.path / "facts.json").exists()


def audit_run(folder: RunFolder) -> tuple[list[Finding], Tally]:
    """I1 to I14 and the figures of the line."""
    facts = read_facts(json.loads((folder.path / "facts.json").read_text()))
    plans = [read_plan(plan) for plan in json.loads((folder.path / "plans.json").read_text())]
    answers = json.loads(folder.answers.read_text())
    audited = [
        Audited(plan, read_answers(answer | NOTHING_OF_OTHERS, plan))
        for plan, answer in zip(plans, answers, strict=True)
    ]
    with folder.witness.open() as lines:
        witness = read_witness(lines)
    with folder.clock.open() as lines:
        pauses = read_pauses(lines)
    numbers: dict[str, NumberLimits] = {number.number: number for plan in plans for number in plan.numbers}
    findings = audit_several(audited, tuple(numbers.values()), witness, pauses, facts)
    return findings, tally(audited, witness, facts)
