"""Who may hand in a webhook."""

import hmac
from dataclasses import replace
from hashlib import sha256
from uuid import UUID

import pytest

from providers.protocol import WebhookKeys
from webhook_ingest.admission import (
    Admitted,
    KnownInstance,
    Refused,
    Signer,
    admit_evolution,
    admit_meta,
    admit_zapi,
    answer_handshake,
)
from webhook_ingest.directory import Directory

ACCOUNT = UUID(int=1)


def digest(key: str) -> str:
    return sha256(key.encode()).hexdigest()


def signers(*secrets: str) -> list[Signer]:
    return [Signer(WebhookKeys(signing_secrets=(secret,))) for secret in secrets]


def instance(number: int, *keys: str, token: str | None = None) -> KnownInstance:
    return KnownInstance(
        id=UUID(int=number),
        account_id=ACCOUNT,
        provider="evolution_web",
        gateway_instance="loja",
        phone_number_id=None,
        phone_number=None,
        keys=WebhookKeys(
            key_hashes=frozenset(digest(key) for key in keys),
            token_hashes=frozenset({digest(token)}) if token else frozenset(),
        ),
    )


def test_an_unknown_instance_is_asked_to_come_again_because_it_may_be_just_being_created() -> None:
    assert admit_evolution((), {"apikey": "k"}, b"{}") == Refused(503, "unknown_instance")


def test_a_known_instance_with_a_wrong_key_is_refused_for_good() -> None:
    assert admit_evolution((instance(1, "right"),), {"apikey": "wrong"}, b"{}") == Refused(401, "bad_key")
    assert admit_evolution((instance(1, "right"),), {}, b"{}") == Refused(401, "bad_key")


@pytest.mark.parametrize("key", ["old", "new"])
def test_both_keys_are_accepted_while_one_rotates(key: str) -> None:
    known = instance(1, "old", "new")
    assert admit_evolution((known,), {"apikey": key}, b"{}") == Admitted(known)


def test_two_accounts_may_use_one_name_and_the_key_tells_them_apart() -> None:
    ours, theirs = instance(1, "ours"), instance(2, "theirs")
    assert admit_evolution((ours, theirs), {"apikey": "theirs"}, b"{}") == Admitted(theirs)


def test_the_secret_in_the_path_names_the_zapi_instance() -> None:
    first, second = instance(1, "one"), instance(2, "two")
    assert admit_zapi((first, second), {}, b"{}", "two") == Admitted(second)
    assert admit_zapi((first, second), {}, b"{}", "three") == Refused(401, "bad_key")


def test_a_zapi_token_that_is_sent_must_be_the_instances() -> None:
    known = instance(1, "secret", token="its-token")
    assert admit_zapi((known,), {"z-api-token": "its-token"}, b"{}", "secret") == Admitted(known)
    assert admit_zapi((known,), {"z-api-token": "another"}, b"{}", "secret") == Refused(401, "bad_key")


def signed(secret: str, body: bytes) -> dict[str, str]:
    return {"x-hub-signature-256": "sha256=" + hmac.new(secret.encode(), body, sha256).hexdigest()}


def test_a_meta_webhook_signed_with_any_active_secret_is_admitted() -> None:
    assert admit_meta(signers("a", "b"), signed("b", b'{"x":1}'), b'{"x":1}') == Admitted(None)


def test_a_signature_says_whose_numbers_it_may_speak_of() -> None:
    directory = Directory(object(), object(), app_secrets=("ours",))  # type: ignore[arg-type]
    one = replace(instance(1), provider="meta_cloud", keys=WebhookKeys(signing_secrets=("shared",)))
    two = replace(one, id=UUID(int=2), account_id=UUID(int=2))
    own = replace(two, id=UUID(int=3), keys=WebhookKeys(signing_secrets=("own",)))
    directory.learn([one, two, own])
    allowed = {
        secret: admit_meta(directory.meta_signers(b"{}"), signed(secret, b"{}"), b"{}")
        for secret in ("ours", "shared", "own")
    }
    assert allowed == {
        "ours": Admitted(None),
        "shared": Admitted(None, (UUID(int=1), UUID(int=2))),
        "own": Admitted(None, (UUID(int=2),)),
    }


def test_the_number_that_a_meta_webhook_names_decides_about_the_order_of_signers_alone() -> None:
    directory = Directory(object(), object(), app_secrets=("ours",))  # type: ignore[arg-type]
    numbers = [
        replace(
            instance(number),
            provider="meta_cloud",
            account_id=UUID(int=number),
            phone_number_id=str(number),
            keys=WebhookKeys(signing_secrets=(f"app-{number}",)),
        )
        for number in (1, 2, 3)
    ]
    directory.learn(numbers)
    body = b'{"metadata": {"phone_number_id": "3"}}'
    tried = [signer.keys.signing_secrets for signer in directory.meta_signers(body)]
    assert tried[:2] == [("ours",), ("app-3",)]
    everyone = {"ours": None, "app-1": (UUID(int=1),), "app-2": (UUID(int=2),), "app-3": (UUID(int=3),)}
    for naming in (body, b'{"phone_number_id":"9"}', b'{"text":"\\"phone_number_id\\":\\"3\\""}', b"\xff"):
        for secret, accounts in everyone.items():
            assert admit_meta(directory.meta_signers(naming), signed(secret, naming), naming) == Admitted(
                None, accounts
            )
        refused = admit_meta(directory.meta_signers(naming), signed("app-4", naming), naming)
        assert refused == Refused(401, "bad_signature")


@pytest.mark.parametrize("position", range(8))
def test_a_flipped_bit_anywhere_breaks_the_signature(position: int) -> None:
    body = b'{"x": 1}'
    flipped = body[:position] + bytes([body[position] ^ 1]) + body[position + 1 :]
    assert admit_meta(signers("a"), signed("a", body), flipped) == Refused(401, "bad_signature")


@pytest.mark.parametrize("headers", [{}, {"x-hub-signature-256": ""}, {"x-hub-signature-256": "sha256=é"}])
def test_a_missing_or_broken_signature_is_refused(headers: dict[str, str]) -> None:
    assert admit_meta(signers("a"), headers, b"{}") == Refused(401, "bad_signature")


def test_without_any_secret_nothing_is_admitted() -> None:
    assert admit_meta(signers(), signed("", b"{}"), b"{}") == Refused(401, "bad_signature")


def test_the_handshake_echoes_the_challenge_only_to_whom_knows_the_token() -> None:
    query = {"hub.mode": "subscribe", "hub.verify_token": "t", "hub.challenge": "1158201444"}
    assert answer_handshake(query, ["other", "t"]) == "1158201444"
    assert answer_handshake(query, ["other"]) is None
    assert answer_handshake(query | {"hub.mode": "x"}, ["t"]) is None
    assert answer_handshake({}, [""]) is None
