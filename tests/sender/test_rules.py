"""When a number rests and for how long: decisions only."""

from datetime import UTC, datetime, timedelta

from hypothesis import given
from hypothesis import strategies as st

from providers.failures import CREDENTIALS, FAILURES, NOT_ON_WHATSAPP, POLICY_BLOCK, SHADOW_BAN, SPAM_LIMIT
from sender.instance.rules import Policy, Reports, Rests, is_refused, rest, what_follows, worst

NOON = datetime(2026, 3, 2, 12, tzinfo=UTC)
POLICY = Policy(rests_s=(10.0, 40.0, 100.0), forget_s=1000.0)
# Seconds between two bad signs.
GAPS = st.lists(st.floats(0, 3000), min_size=1, max_size=30)


def after(seconds: float) -> datetime:
    return NOON + timedelta(seconds=seconds)


def test_each_rest_soon_after_another_is_longer_and_the_last_one_repeats() -> None:
    first = rest(Rests(), NOON, POLICY)
    assert first == Rests(1, after(10))
    second = rest(first, after(20), POLICY)
    assert second == Rests(2, after(60))
    third = rest(second, after(70), POLICY)
    assert third == Rests(3, after(170))
    assert rest(third, after(200), POLICY) == Rests(4, after(300))
    assert rest(third, after(1200), POLICY) == Rests(1, after(1210)), "long ago is forgotten"


def test_a_bad_sign_during_a_rest_is_the_same_fact() -> None:
    assert rest(Rests(1, after(10)), after(9), POLICY) is None


def test_what_happened_before_the_last_rest_ended_begins_no_other() -> None:
    rested = Rests(1, after(10))
    assert rest(rested, after(11), POLICY, happened_at=after(9)) is None
    assert rest(rested, after(11), POLICY, happened_at=after(10)) == Rests(2, after(51))
    assert rest(Rests(), after(11), POLICY, happened_at=NOON) == Rests(1, after(21)), "late, but nobody rested for it"


def test_the_providers_own_word_of_the_end_counts_if_it_is_later() -> None:
    assert rest(Rests(), NOON, POLICY, at_least=after(500)) == Rests(1, after(500))
    assert rest(Rests(), NOON, POLICY, at_least=after(1)) == Rests(1, after(10))
    assert rest(Rests(1, after(10)), NOON, POLICY, at_least=after(500)) == Rests(1, after(500))


@given(gaps=GAPS)
def test_rests_never_overlap_and_never_end_before_they_begin(gaps: list[float]) -> None:
    state, now = Rests(), NOON
    for gap in gaps:
        now += timedelta(seconds=gap)
        begun = rest(state, now, POLICY)
        if begun is None:
            assert state.until is not None
            assert now < state.until
            continue
        assert state.until is None or now >= state.until
        assert begun.until is not None
        assert timedelta(seconds=10) <= begun.until - now <= timedelta(seconds=100)
        state = begun


def test_what_a_failure_means_for_the_number() -> None:
    assert what_follows(SPAM_LIMIT) == what_follows(SHADOW_BAN) == "rest"
    assert what_follows(CREDENTIALS) == what_follows(POLICY_BLOCK) == "stop"
    assert what_follows(NOT_ON_WHATSAPP) is None
    assert what_follows(None) is None
    # Nothing that is about one message or one person stops a number.
    assert all(what_follows(one) is None for one in FAILURES.values() if one.stops in ("none", "recipient", "template"))


def test_a_stop_outweighs_a_rest() -> None:
    assert worst(["spam_limit", "not_on_whatsapp", "policy_block"]) is POLICY_BLOCK
    assert worst(["not_on_whatsapp", "spam_limit"]) is SPAM_LIMIT
    assert worst(["not_on_whatsapp", "no such failure"]) is None


def test_the_share_of_errors_counts_from_a_number_of_them_on() -> None:
    policy = Policy(errors_share=0.3, errors_least=10)
    assert not is_refused(Reports(sent=0, errors=9), policy)
    assert is_refused(Reports(sent=0, errors=10), policy)
    assert is_refused(Reports(sent=20, delivered=23, errors=10), policy)
    assert not is_refused(Reports(sent=20, delivered=24, errors=10), policy)


@given(reports=st.builds(Reports, st.integers(0, 500), st.integers(0, 500), st.integers(0, 500)))
def test_more_errors_never_absolve_a_number_nor_do_more_deliveries_accuse_it(reports: Reports) -> None:
    policy = Policy()
    if is_refused(reports, policy):
        assert is_refused(reports._replace(errors=reports.errors + 1), policy)
    else:
        assert not is_refused(reports._replace(delivered=reports.delivered + 1), policy)
