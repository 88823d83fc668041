"""The audit says yes to a run that kept its promises, and names the promise that a doctored one broke."""

from typing import Any

import pytest

from pombo.audit.windows import busiest, most_people, too_close
from witnessed_run import CAMPAIGN, NOON_MS, SECOND_NS, WitnessedRun, kept_promises, message_id


@pytest.fixture
def run() -> WitnessedRun:
    return kept_promises()


def test_a_run_that_kept_its_promises_passes(run: WitnessedRun) -> None:
    findings = run.findings()
    assert run.broken() == set()
    assert list(findings) == ["1", "1b", "2", "3", "4", "4b", "5", "6", "7"]
    assert "2 people × 2 steps" in findings["1"].counted


def test_a_missing_person_breaks_completeness(run: WitnessedRun) -> None:
    run.answers["recipients"].pop()
    assert "1" in run.broken()


def test_counts_that_do_not_add_up_break_completeness(run: WitnessedRun) -> None:
    run.answers["statistics"]["sent_count"] = 1
    assert "1" in run.broken()


def test_a_dispatch_lost_from_the_counts_breaks_completeness(run: WitnessedRun) -> None:
    run.answers["statistics"]["dispatches"]["sent"] = 3
    assert "1" in run.broken()


def test_something_still_pending_breaks_completeness(run: WitnessedRun) -> None:
    run.answers["statistics"] |= {"sent_count": 1, "pending_count": 1}
    run.answers["recipients"][0]["state"] = "pending"
    assert "1" in run.broken()


def test_the_same_person_twice_breaks_completeness(run: WitnessedRun) -> None:
    run.answers["recipients"][1]["phone_number"] = "551187654321"  # the first one without the ninth digit
    assert "1" in run.broken()


def test_a_send_missing_at_the_provider_is_a_phantom(run: WitnessedRun) -> None:
    run.witness.remove(run.sends(0, 1)[0])
    assert run.broken() == {"1b"}


def test_a_send_that_is_counted_as_failed_is_a_phantom(run: WitnessedRun) -> None:
    run.answers["recipients"][0]["state"] = "failed"
    run.answers["statistics"] |= {"sent_count": 1, "failed_count": 1}
    assert run.broken() == {"1b"}


def test_a_first_step_counted_as_failed_though_it_stands_is_a_phantom(run: WitnessedRun) -> None:
    run.witness.remove(run.sends(0, 1)[0])
    run.answers["recipients"][0]["state"] = "failed"
    run.answers["statistics"] |= {"sent_count": 1, "failed_count": 1}
    run.answers["statistics"]["dispatches"] |= {"sent": 2, "failed": 1, "skipped": 1}
    assert run.broken() == {"1b"}


@pytest.mark.parametrize(
    "strange", [{"person": "559912345678"}, {"text_sha": "0" * 16}, {"label": f"{CAMPAIGN}:1"}], ids=str
)
def test_a_send_that_nobody_planned_is_a_phantom(run: WitnessedRun, strange: dict[str, Any]) -> None:
    run.send_again(0, 0, message_id="wamid.other", mono_ns=40 * SECOND_NS, **strange)
    assert "1b" in run.broken()


def test_a_second_accepted_send_breaks_at_most_once(run: WitnessedRun) -> None:
    run.send_again(0, 0, message_id="wamid.again", mono_ns=40 * SECOND_NS)
    assert run.broken() == {"2"}


def test_without_a_label_person_and_text_tell_the_duplicate(run: WitnessedRun) -> None:
    run.send_again(0, 0, message_id="wamid.again", mono_ns=40 * SECOND_NS, label=None, provider="zapi")
    assert run.broken() == {"2"}


@pytest.mark.parametrize("fate", ["hang", "reset", "lost_answer", "accepted_5xx", "5xx"])
def test_a_try_after_an_answer_that_proves_nothing_breaks_at_most_once(run: WitnessedRun, fate: str) -> None:
    accepted = fate in ("lost_answer", "accepted_5xx")
    run.send_again(0, 0, fate=fate, accepted=accepted, code=None, message_id=None, mono_ns=40 * SECOND_NS)
    assert run.broken() == {"2"}


@pytest.mark.parametrize(("fate", "code"), [("rejected", 131026), ("throttled", 130429), ("5xx", 131016)])
def test_a_try_after_a_definite_refusal_is_fine(run: WitnessedRun, fate: str, code: int) -> None:
    run.send_again(0, 0, fate=fate, accepted=False, code=code, message_id=None, mono_ns=30 * SECOND_NS)
    assert run.broken() == set()


def test_a_try_after_a_failure_that_was_reported_later_is_fine(run: WitnessedRun) -> None:
    run.send_again(0, 0, message_id="wamid.failed", mono_ns=30 * SECOND_NS)
    failed = {"event": "webhook", "provider": "meta", "items": [["wamid.failed", "failed"]], "http_status": 200}
    run.witness.append(failed)
    run.answers["raw_counts"]["wamid.failed"] = 1
    assert run.broken() == set()


def test_a_failure_reported_after_delivery_excuses_no_second_send(run: WitnessedRun) -> None:
    run.send_again(0, 0, message_id="wamid.again", mono_ns=40 * SECOND_NS)
    items = [["wamid.again", "delivered"], ["wamid.again", "failed"]]
    run.witness.append({"event": "webhook", "provider": "meta", "items": items, "http_status": 200})
    run.answers["raw_counts"]["wamid.again"] = 1
    assert run.broken() == {"2"}


def told_as_failed(run: WitnessedRun, http_status: int) -> None:
    """Of the second step of the first person nothing was ever told but a failure, in a webhook that ended so."""
    told = {"event": "webhook", "provider": "zapi", "items": [[message_id(0, 1), "failed"]], "http_status": http_status}
    arrived = ([[message_id(0, 1), "delivered"]], [[message_id(0, 1), "read"]])
    silent = [fact for fact in run.witness if fact.get("items") not in arrived]
    run.witness[:] = [*silent, told]


def count_as_failed(run: WitnessedRun) -> None:
    run.answers["recipients"][0]["state"] = "failed"
    run.answers["statistics"] |= {"sent_count": 1, "failed_count": 1}
    run.answers["statistics"]["dispatches"] |= {"sent": 3, "failed": 1}


@pytest.mark.parametrize("http_status", [0, 503])
def test_a_failure_whose_answer_was_lost_may_have_been_heard(run: WitnessedRun, http_status: int) -> None:
    told_as_failed(run, http_status)
    assert run.broken() == set()
    count_as_failed(run)
    assert run.broken() == set()


def test_a_failure_whose_webhook_was_refused_was_not_heard(run: WitnessedRun) -> None:
    told_as_failed(run, 401)
    assert run.broken() == set()
    count_as_failed(run)
    assert run.broken() == {"1b"}


def test_a_failure_that_was_heard_is_not_counted_as_sent(run: WitnessedRun) -> None:
    told_as_failed(run, 200)
    assert run.broken() == {"1b"}


def test_under_at_least_once_a_duplicate_is_named_instead(run: WitnessedRun) -> None:
    run.plan["policy"]["guarantee"] = "at_least_once"
    run.send_again(0, 0, message_id="wamid.again", mono_ns=40 * SECOND_NS)
    assert run.broken() == set()
    assert run.findings()["2"].notes


def test_a_burst_breaks_the_rate(run: WitnessedRun) -> None:
    for step in range(2):
        run.sends(0, step)[0]["mono_ns"] = run.sends(1, step)[0]["mono_ns"]
    extra = run.sends(1, 0)[0] | {"fate": "rejected", "accepted": False, "message_id": None}
    run.witness.append(extra)
    assert run.broken() == {"3"}


def test_one_person_too_often_breaks_the_pair_rate(run: WitnessedRun) -> None:
    for again in range(4):
        late = (30 + again) * SECOND_NS
        run.send_again(0, 0, fate="rejected", accepted=False, code=131026, message_id=None, mono_ns=late)
    assert run.broken() == {"3"}


def test_more_people_than_the_tier_allows_break_the_rate(run: WitnessedRun) -> None:
    run.plan["numbers"][0]["unique_24h"] = 1
    assert run.broken() == {"3"}


def test_a_number_outside_the_pool_breaks_the_rate(run: WitnessedRun) -> None:
    run.sends(0, 0)[0]["number"] = "2002"
    assert run.broken() == {"3"}


def test_a_send_during_a_pause_is_found(run: WitnessedRun) -> None:
    run.sends(0, 1)[0]["mono_ns"] = 10 * SECOND_NS + 1
    assert run.broken() == {"4"}


def test_a_send_after_a_cancellation_is_found(run: WitnessedRun) -> None:
    run.clock.append({"event": "cancelled", "campaign_id": str(CAMPAIGN), "mono_ns": 16 * SECOND_NS})
    assert run.broken() == {"4"}


def test_another_campaigns_pause_is_not_ours(run: WitnessedRun) -> None:
    run.clock.append({"event": "paused", "campaign_id": "another", "mono_ns": 0})
    assert run.broken() == set()


def test_a_send_outside_allowed_hours_is_found(run: WitnessedRun) -> None:
    run.sends(0, 0)[0]["at_ms"] = NOON_MS + 3 * 3_600_000
    assert run.broken() == {"4b"}


def test_a_window_over_midnight_is_understood(run: WitnessedRun) -> None:
    run.plan["policy"] |= {"allowed_hours_start": "22:00:00", "allowed_hours_end": "06:00:00"}
    assert run.broken() == {"4b"}
    for send in run.sends():
        send["at_ms"] = NOON_MS + 12 * 3_600_000
    assert run.broken() == set()


def test_a_send_long_after_an_opt_out_is_found(run: WitnessedRun) -> None:
    person = run.sends(0, 0)[0]["person"]
    answer = {"event": "inbound", "at_ms": 0, "mono_ns": 0, "number": "1001", "message_id": "in", "text": " sair"}
    run.witness.append(answer | {"person": person})
    assert run.broken() == {"4b"}


def test_a_read_model_that_differs_is_found(run: WitnessedRun) -> None:
    run.answers["compared"][0] |= {"equal": False}
    assert run.broken() == {"5"}


def test_no_comparison_is_no_proof(run: WitnessedRun) -> None:
    run.answers["compared"] = []
    assert run.broken() == {"5"}


def test_a_webhook_missing_from_the_topic_is_found(run: WitnessedRun) -> None:
    run.answers["raw_counts"][message_id(1, 1)] = 2
    assert run.broken() == {"6"}


def test_a_webhook_that_was_refused_may_be_missing(run: WitnessedRun) -> None:
    refused = {"event": "webhook", "provider": "meta", "items": [["wamid.x", "sent"]], "http_status": 503}
    run.witness.append(refused)
    assert run.broken() == set()


def test_something_seen_of_another_account_is_found(run: WitnessedRun) -> None:
    run.answers["isolation"]["crossings"] = ["GET /api/contacts shows something"]
    assert run.broken() == {"7"}


def test_nothing_asked_is_no_proof_of_isolation(run: WitnessedRun) -> None:
    run.answers["isolation"]["calls"] = 0
    assert run.broken() == {"7"}


def test_what_was_before_a_reset_is_another_run(run: WitnessedRun) -> None:
    old = run.sends(0, 0)[0] | {"person": "559912345678", "label": None}
    run.witness = [old, {"event": "control", "what": "reset"}, *run.witness]
    assert run.broken() == set()


def test_many_violations_are_cut_and_counted(run: WitnessedRun) -> None:
    for again in range(9):
        run.send_again(0, 0, message_id=f"w{again}", person="559900000000", mono_ns=(40 + again) * SECOND_NS)
    violations = run.findings()["1b"].violations
    assert violations[-1] == "and 4 more"


def test_a_sliding_window_is_half_open() -> None:
    assert busiest([0, SECOND_NS]) == 1
    assert busiest([0, SECOND_NS - 1]) == 2
    assert busiest([]) == 0


def test_pairs_may_burst_and_must_pay_back() -> None:
    six = 6 * SECOND_NS
    assert too_close([0, 1, 2], 10, 3) == 0
    assert too_close([0, 1, 2, 3], 10, 3) == 1
    assert too_close([0, 1, 2, six + 2], 10, 3) == 0


def test_people_leave_the_moving_window() -> None:
    assert most_people([(0, "a"), (1, "a"), (2, "b")], 10) == 2
    assert most_people([(0, "a"), (10, "b"), (20, "c")], 10) == 1
