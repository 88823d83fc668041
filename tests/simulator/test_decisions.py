"""The pure parts by tables: chance and faults, cards, journeys, people, settings."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from provider_simulator.callbacks import should_retry, sign
from provider_simulator.cards import CARDS, card_of
from provider_simulator.faults import (
    ACCEPT,
    Break,
    Chance,
    Faults,
    Garble,
    Reject,
    Silence,
    Throttle,
    choose,
    is_accepted,
    latency_s,
    webhook_delays_s,
)
from provider_simulator.journeys import plan
from provider_simulator.people import canonical_phone, person_key
from provider_simulator.settings import Behaviour, SettingRefused, Settings, overlay


def test_the_same_seed_number_person_and_turn_give_the_same_chance() -> None:
    draws = [[Chance(1, "n", "p", 0).draw() for _ in range(3)] for _ in range(2)]
    assert draws[0] == draws[1]
    assert Chance(2, "n", "p", 0).draw() != Chance(1, "n", "p", 0).draw()
    assert Chance(1, "n", "p", 1).draw() != Chance(1, "n", "p", 0).draw()


def test_chance_is_even_beyond_its_first_block() -> None:
    chance = Chance(1, "n", "p", 0)
    draws = [chance.draw() for _ in range(4000)]
    assert all(0 <= d < 1 for d in draws)
    assert 0.47 < sum(draws) / len(draws) < 0.53
    assert len(set(draws)) == len(draws)


@pytest.mark.parametrize(
    ("faults", "fate", "accepted"),
    [
        (Faults(), ACCEPT, True),
        (Faults(throttled_share=1), Throttle(), False),
        (Faults(rejected_share=1, rejected_code=131047), Reject(131047), False),
        (Faults(transient_share=1), Break(accepted=False, readable=True), False),
        (Faults(error_share=1), Break(accepted=False, readable=False), False),
        (Faults(accepted_error_share=1), Break(accepted=True, readable=False), True),
        (Faults(hang_share=1), Silence(accepted=False, how="hang"), False),
        (Faults(reset_share=1), Silence(accepted=False, how="reset"), False),
        (Faults(lost_answer_share=1), Silence(accepted=True, how="hang"), True),
        (Faults(lost_answer_share=1, lost_answer_how="reset"), Silence(accepted=True, how="reset"), True),
        (Faults(garbled_share=1), Garble(), True),
    ],
)
def test_a_certain_fault_happens(faults: Faults, fate: object, accepted: bool) -> None:
    chosen = choose(faults, Chance(1, "n", "p", 0))
    assert chosen == fate
    assert is_accepted(chosen) is accepted


def test_shares_are_kept() -> None:
    faults = Faults(throttled_share=0.3, lost_answer_share=0.2)
    fates = [choose(faults, Chance(1, "n", str(i), 0)) for i in range(4000)]
    assert 0.27 < sum(f == Throttle() for f in fates) / 4000 < 0.33
    assert 0.17 < sum(isinstance(f, Silence) for f in fates) / 4000 < 0.23


def test_latency_is_fixed_or_lognormal_with_the_given_median_and_p95() -> None:
    assert latency_s(Faults(), Chance(1, "n", "p", 0)) == 0
    assert latency_s(Faults(latency_ms=60), Chance(1, "n", "p", 0)) == 0.06
    drawn = sorted(latency_s(Faults(latency_ms=80, latency_p95_ms=400), Chance(1, "n", str(i), 0)) for i in range(4000))
    assert 0.07 < drawn[2000] < 0.09
    assert 0.33 < drawn[3800] < 0.48


@pytest.mark.parametrize(
    ("faults", "count"),
    [(Faults(), 1), (Faults(webhook_lost_share=1), 0), (Faults(webhook_duplicate_share=1), 2)],
)
def test_webhooks_are_lost_or_doubled(faults: Faults, count: int) -> None:
    assert len(webhook_delays_s(faults, Chance(1, "n", "p", 0))) == count


def test_late_and_reordered_webhooks_wait() -> None:
    assert webhook_delays_s(Faults(webhook_late_share=1, webhook_late_s=9), Chance(1, "n", "p", 0)) == (9,)
    (delay_s,) = webhook_delays_s(Faults(webhook_reorder_share=1, webhook_reorder_s=4), Chance(1, "n", "p", 0))
    assert 0 < delay_s < 4


@pytest.mark.parametrize(
    ("phone", "found"),
    [
        ("5531999660007", "07"),
        ("553199660007", "07"),
        ("5511999660013", "13"),
        ("5531999660099", None),
        ("5531999990001", None),
        ("BR.1", None),
    ],
)
def test_a_card_is_known_with_and_without_the_ninth_digit(phone: str, found: str | None) -> None:
    assert card_of(person_key(phone)) is (CARDS[found] if found else None)


@pytest.mark.parametrize("suffix", sorted(CARDS))
def test_every_card_has_a_journey_in_order(suffix: str) -> None:
    journey = plan(Behaviour(), CARDS[suffix], Chance(1, "n", "p", 0))
    times = [step.after_s for step in journey.steps]
    assert times == sorted(times)
    if CARDS[suffix].failed_code:
        assert journey.outcome == f"failed:{CARDS[suffix].failed_code}"
    if CARDS[suffix].reply:
        assert journey.reply == CARDS[suffix].reply
        assert journey.reply_after_s > times[-1]


def test_the_behaviour_decides_how_far_a_message_comes() -> None:
    def outcome(**shares: float) -> str:
        return plan(overlay(Behaviour(), shares), None, Chance(1, "n", "p", 0)).outcome

    assert outcome() == "read"
    assert outcome(read_share=0) == "delivered"
    assert outcome(delivered_share=0) == "sent"
    assert outcome(failed_share=1).startswith("failed:")


@pytest.mark.parametrize(
    ("phone", "canonical"),
    [
        ("5531999990002", "553199990002"),
        ("553199990002", "553199990002"),
        ("5531999990001", "5531999990001"),
        ("553199990001", "5531999990001"),
        ("5511999990002", "5511999990002"),
        ("551133334444", "551133334444"),
        ("16505551234", "16505551234"),
    ],
)
def test_the_canonical_form_follows_the_documented_rule(phone: str, canonical: str) -> None:
    assert canonical_phone(phone) == canonical


@given(st.from_regex(r"55[1-9][1-9]9[6-9][0-9]{7}", fullmatch=True))
def test_all_spellings_of_a_phone_are_one_person(phone: str) -> None:
    short = phone[:4] + phone[5:]
    assert person_key(phone) == person_key(short) == person_key(canonical_phone(phone))
    assert canonical_phone(phone) == canonical_phone(short)


@pytest.mark.parametrize(
    ("provider", "status", "again"),
    [
        ("meta", 200, False), ("meta", 204, True), ("meta", 400, True), ("meta", 0, True),
        ("evolution", 204, False), ("evolution", 500, True), ("evolution", 503, True), ("evolution", 0, True),
        ("evolution", 400, False), ("evolution", 401, False), ("evolution", 403, False),
        ("evolution", 404, False), ("evolution", 422, False), ("evolution", 429, True), ("zapi", 500, True),
    ],
)  # fmt: skip
def test_each_provider_has_its_retry_rule(provider: str, status: int, again: bool) -> None:
    assert should_retry(provider, status) is again


@given(st.binary(max_size=300), st.text(max_size=100))
def test_the_signature_is_hmac_sha256(body: bytes, secret: str) -> None:
    import hmac

    assert sign(secret, body) == "sha256=" + hmac.digest(secret.encode(), body, "sha256").hex()


@pytest.mark.parametrize("data", [{"nothing": 1}, {"seed": "x"}, {"cards": 1}, {"plain_hosts": "x"}])
def test_unknown_or_ill_typed_settings_are_refused(data: dict[str, object]) -> None:
    with pytest.raises(SettingRefused):
        overlay(Settings(), data)
