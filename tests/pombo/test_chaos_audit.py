"""I1 to I14 over several campaigns: a clean run holds, and each doctored log breaks the promise that it should."""

import json
from collections.abc import Callable, Mapping
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any
from uuid import UUID

import pytest

from chaotic_run import ChaoticRun, kept_facts
from contracts import ids
from pombo.audit.ledger import Intent, Recovery
from pombo.audit.witness import read_witness
from pombo.chaos.verdict import audit_run
from pombo.stack import RunFolder
from witnessed_run import CAMPAIGN, NOON_MS, PEOPLE, SECOND_NS, message_id

ALL = [f"I{number}" for number in range(1, 15)]


@pytest.fixture
def chaotic() -> ChaoticRun:
    return ChaoticRun()


def _forget_a_person(chaotic: ChaoticRun) -> None:
    chaotic.run.answers["recipients"].pop()


def _send_twice(chaotic: ChaoticRun) -> None:
    chaotic.run.send_again(0, 0, message_id="wamid.again", mono_ns=40 * SECOND_NS)


def _lose_a_send(chaotic: ChaoticRun) -> None:
    chaotic.run.witness.remove(chaotic.run.sends(0, 1)[0])


def _hurry(chaotic: ChaoticRun) -> None:
    chaotic.run.plan["numbers"][0]["per_second"] = 1
    chaotic.run.sends(0, 1)[0]["mono_ns"] = chaotic.run.sends(1, 1)[0]["mono_ns"]


def _narrow_the_tier(chaotic: ChaoticRun) -> None:
    chaotic.run.plan["numbers"][0]["unique_24h"] = 1


def _send_while_paused(chaotic: ChaoticRun) -> None:
    chaotic.run.sends(0, 1)[0]["mono_ns"] = 10 * SECOND_NS + 1


def _send_after_an_opt_out(chaotic: ChaoticRun) -> None:
    answer = {"event": "inbound", "at_ms": 0, "mono_ns": 0, "number": "1001", "message_id": "in", "text": " sair"}
    chaotic.run.witness.append(answer | {"person": chaotic.run.sends(0, 0)[0]["person"]})


def _lose_a_webhook(chaotic: ChaoticRun) -> None:
    chaotic.run.answers["raw_counts"][message_id(1, 1)] = 2


def _with(**changes: Any) -> Callable[[ChaoticRun], None]:
    def doctor(chaotic: ChaoticRun) -> None:
        chaotic.facts = kept_facts(**changes)

    return doctor


# One doctored place for each invariant: a check that never failed proves nothing.
DOCTORED: Mapping[str, Callable[[ChaoticRun], None]] = {
    "I1": _forget_a_person,
    "I2": _send_twice,
    "I3": _lose_a_send,
    "I4": _hurry,
    "I5": _narrow_the_tier,
    "I6": _send_while_paused,
    "I7": _send_after_an_opt_out,
    "I8": _with(compared=()),
    "I9": _with(logged_events=6),
    "I10": _with(leaks=("sender.log has a word of message texts",)),
    "I11": _lose_a_webhook,
    "I12": _with(intents=(Intent("one", 1.0, 2), Intent("one", 2.0, 1))),
    "I13": _with(recovery=Recovery(31, 30, 2, at_rest=True)),
    "I14": _with(rss_mib={"sender": 1025}),
}


@pytest.mark.parametrize("number", ALL)
def test_every_invariant_can_fail(chaotic: ChaoticRun, number: str) -> None:
    assert chaotic.findings()[number].holds
    DOCTORED[number](chaotic)
    assert number in chaotic.broken()


def test_a_send_outside_allowed_hours_breaks_i7(chaotic: ChaoticRun) -> None:
    chaotic.run.sends(0, 0)[0]["at_ms"] = NOON_MS + 3 * 3_600_000
    assert chaotic.broken() == {"I7"}


def test_what_stands_at_the_provider_and_is_counted_as_failed_breaks_i3(chaotic: ChaoticRun) -> None:
    chaotic.run.answers["recipients"][0]["state"] = "failed"
    chaotic.run.answers["statistics"] |= {"sent_count": 1, "failed_count": 1}
    assert chaotic.broken() == {"I3"}


def test_a_send_after_a_cancellation_breaks_i6(chaotic: ChaoticRun) -> None:
    chaotic.run.clock.append({"event": "cancelled", "campaign_id": str(CAMPAIGN), "mono_ns": 16 * SECOND_NS})
    assert chaotic.broken() == {"I6"}


def dispatch_of(person: int, step: int) -> UUID:
    return ids.dispatch_id(ids.recipient_id(CAMPAIGN, ids.phone_key(PEOPLE[person][0])), step)


def test_a_run_that_kept_its_promises_holds(chaotic: ChaoticRun) -> None:
    assert list(chaotic.findings()) == ALL
    assert chaotic.broken() == set()
    told = chaotic.tally()
    assert (told.messages, told.sends, told.lost, told.duplicates_unnamed) == (4, 5, 0, 0)


def test_a_send_that_fits_no_campaign_breaks_i3(chaotic: ChaoticRun) -> None:
    chaotic.run.send_again(0, 0, message_id="wamid.other", mono_ns=40 * SECOND_NS, person="559912345678")
    assert chaotic.broken() == {"I3", "I5"}  # and one person more than the tier allows


def test_a_second_accepted_send_breaks_i2_and_is_counted(chaotic: ChaoticRun) -> None:
    chaotic.run.send_again(0, 0, message_id="wamid.again", mono_ns=40 * SECOND_NS)
    assert chaotic.broken() == {"I2"}
    assert chaotic.tally().duplicates_unnamed == 1


@pytest.mark.parametrize(("named", "broken"), [(1, set()), (0, {"I2"})])
def test_at_least_once_allows_what_was_told_as_ambiguous(chaotic: ChaoticRun, named: int, broken: set[str]) -> None:
    chaotic.run.plan["policy"]["guarantee"] = "at_least_once"
    chaotic.run.send_again(0, 0, message_id="wamid.again", mono_ns=40 * SECOND_NS)
    told = {dispatch_of(0, 0): 1} if named else {dispatch_of(1, 0): 1}
    chaotic.facts = kept_facts(ambiguous=told, ambiguity_allowed=1)
    assert chaotic.broken() == broken
    assert chaotic.tally().duplicates_named == named
    assert chaotic.tally().duplicates_unnamed == 1 - named


def test_a_message_that_never_arrived_is_lost(chaotic: ChaoticRun) -> None:
    chaotic.run.witness.remove(chaotic.run.sends(0, 1)[0])
    assert chaotic.broken() == {"I3"}
    assert chaotic.tally().lost == 1


def test_a_person_whom_nobody_knows_is_lost(chaotic: ChaoticRun) -> None:
    chaotic.run.answers["recipients"].pop()
    assert "I1" in chaotic.broken()
    assert chaotic.tally().lost == 2


def test_people_are_counted_for_the_portfolio(chaotic: ChaoticRun) -> None:
    number = chaotic.run.plan["numbers"][0]
    number |= {"portfolio": "p", "unique_24h": 2}
    chaotic.run.plan["numbers"].append(number | {"number": "1002"})
    for send in chaotic.run.sends(1, 0) + chaotic.run.sends(1, 1):
        send["number"] = "1002"
    assert chaotic.broken() == set()
    for each in chaotic.run.plan["numbers"]:
        each["unique_24h"] = 1
    assert chaotic.broken() == {"I5"}
    for each in chaotic.run.plan["numbers"]:
        each["portfolio"] = None
    assert chaotic.broken() == set()


@pytest.mark.parametrize(
    ("changes", "broken"),
    [
        ({"compared": ()}, "I8"),
        ({"compared": ({"table": "t", "equal": False, "live": {"rows": 1}, "rebuilt": {"rows": 2}},)}, "I8"),
        ({"stream_gaps": ("stream x: 3 different versions up to 4",)}, "I9"),
        ({"logged_events": 6}, "I9"),
        ({"stored_events": 6}, "I9"),
        ({"waiting": {"sender.outbox": 1}}, "I9"),
        ({"waiting": {"webhook_ingest.spool": 2}}, "I9"),
        ({"audit_log": "account x: broken at entry 3"}, "I9"),
        ({"audit_log": ""}, "I9"),
        ({"foreign": ("a record of changes of account a has a word of b",)}, "I10"),
        ({"leaks": ("sender.log has a word of message texts",)}, "I10"),
        ({"calls": 0}, "I10"),
        ({"calls_between_accounts": ("GET /api/contacts shows something",)}, "I10"),
        ({"recovery": Recovery(31, 30, 2, at_rest=True)}, "I13"),
        ({"recovery": Recovery(3, 30, 2, at_rest=False)}, "I13"),
        ({"ambiguous": {dispatch_of(0, 0): 1}}, "I14"),
        ({"rss_mib": {"sender": 1025}}, "I14"),
    ],
    ids=lambda value: str(value)[:60],
)
def test_each_doctored_fact_breaks_its_promise(chaotic: ChaoticRun, changes: dict[str, Any], broken: str) -> None:
    chaotic.facts = kept_facts(**changes)
    assert chaotic.broken() == {broken}


def test_an_older_owners_intent_after_a_newer_ones_breaks_i12(chaotic: ChaoticRun) -> None:
    zombie = (Intent("one", 4.0, 1), *chaotic.facts.intents)
    chaotic.facts = replace(chaotic.facts, intents=zombie)
    assert chaotic.broken() == {"I12"}
    chaotic.facts = replace(chaotic.facts, intents=(Intent("two", 4.0, 1), *kept_facts().intents))
    assert chaotic.broken() == set()


@pytest.mark.parametrize("fate", ["hang", "reset", "lost_answer", "garbled", "accepted_5xx"])
def test_an_unanswered_send_explains_an_ambiguous_attempt(chaotic: ChaoticRun, fate: str) -> None:
    chaotic.run.sends(0, 0)[0]["fate"] = fate
    chaotic.facts = kept_facts(ambiguous={dispatch_of(0, 0): 1})
    assert chaotic.broken() == set()


def test_a_client_that_left_explains_an_ambiguous_attempt(chaotic: ChaoticRun) -> None:
    closed = {"event": "request_closed", "request": chaotic.run.sends(0, 0)[0]["request"], "how": "client_gone"}
    chaotic.run.witness.append(closed)
    chaotic.facts = kept_facts(ambiguous={dispatch_of(0, 0): 1})
    assert chaotic.broken() == set()


def test_faults_explain_a_bounded_number_of_ambiguous_attempts(chaotic: ChaoticRun) -> None:
    told = {dispatch_of(0, 0): 1, dispatch_of(1, 0): 1}
    chaotic.facts = kept_facts(ambiguous=told, ambiguity_allowed=2)
    assert chaotic.broken() == set()
    chaotic.facts = kept_facts(ambiguous=told, ambiguity_allowed=1)
    assert chaotic.broken() == {"I14"}


def test_an_answered_request_is_known_from_the_log(chaotic: ChaoticRun) -> None:
    lines = [
        '{"event": "request_closed", "request": 1, "how": "answered"}',
        '{"event": "request_closed", "request": 2, "how": "client_gone"}',
    ]
    assert read_witness(lines).answered == frozenset({1})


def _written(chaotic: ChaoticRun, path: Path) -> RunFolder:
    """The files that a run leaves, as `pombo audit` reads them."""
    folder = RunFolder(path).make()
    facts = asdict(chaotic.facts) | {"raw_counts": chaotic.run.answers["raw_counts"], "ambiguous": {}}
    answers = {name: chaotic.run.answers[name] for name in ("statistics", "recipients")}
    closed = [
        {"event": "request_closed", "request": send["request"], "how": "answered"} for send in chaotic.run.sends()
    ]
    (folder.path / "facts.json").write_text(json.dumps(facts))
    (folder.path / "plans.json").write_text(json.dumps([chaotic.run.plan]))
    folder.answers.write_text(json.dumps([answers]))
    folder.witness.write_text("".join(json.dumps(fact) + "\n" for fact in [*chaotic.run.witness, *closed]))
    folder.clock.write_text("".join(json.dumps(fact) + "\n" for fact in chaotic.run.clock))
    return folder


def test_a_run_is_audited_from_its_files_alone(chaotic: ChaoticRun, tmp_path: Path) -> None:
    findings, told = audit_run(_written(chaotic, tmp_path / "kept"))
    assert {finding.number for finding in findings if not finding.holds} == set()
    assert (told.messages, told.lost) == (4, 0)
    _send_twice(chaotic)
    findings, told = audit_run(_written(chaotic, tmp_path / "doctored"))
    assert {finding.number for finding in findings if not finding.holds} == {"I2"}
    assert told.duplicates_unnamed == 1
