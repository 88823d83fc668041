"""Whether a webhook comes from whom it says, and what is taken out of it before it is stored."""

import hashlib
import hmac

import orjson
import pytest

from providers.meta_cloud.webhook import answer_handshake, matching_secret, verify_signature
from providers.protocol import WebhookKeys
from providers.registry import PROVIDERS

META, WEB, ZAPI = PROVIDERS["meta_cloud"], PROVIDERS["evolution_web"], PROVIDERS["zapi"]
BODY = '{"entry":[],"text":"olá \\u00e1"}'.encode()


def sign(secret: str, body: bytes = BODY) -> str:
    return "sha256=" + hmac.new(secret.encode(), body, hashlib.sha256).hexdigest()


def hashed(*keys: str) -> frozenset[str]:
    return frozenset(hashlib.sha256(key.encode()).hexdigest() for key in keys)


def test_metas_signature_over_the_raw_bytes() -> None:
    keys = WebhookKeys(signing_secrets=("old", "new"))
    for name in ("X-Hub-Signature-256", "x-hub-signature-256"):
        assert META.verify({name: sign("new")}, BODY, keys)
        assert META.verify({name: sign("old")}, BODY, keys)
    assert not META.verify({"x-hub-signature-256": sign("other")}, BODY, keys)
    assert not META.verify({"x-hub-signature-256": sign("new")}, BODY + b" ", keys)
    assert not META.verify({"x-hub-signature-256": sign("new")}, orjson.dumps(orjson.loads(BODY)), keys)


@pytest.mark.parametrize("signature", [None, "", "sha256=", "sha1=aa", "sha256=zz", sign("new")[:-1], "sha256=é\udcff"])
def test_a_signature_that_is_none(signature: str | None) -> None:
    assert not verify_signature(["new"], signature, BODY)


def test_no_secret_verifies_nothing() -> None:
    assert not verify_signature([], sign(""), BODY)
    assert not verify_signature([""], sign(""), BODY)


def test_which_app_signed_is_told() -> None:
    assert matching_secret(["a", "b", "c"], sign("b"), BODY) == 1


def test_the_handshake_of_meta() -> None:
    query = {"hub.mode": "subscribe", "hub.verify_token": "T", "hub.challenge": "1158201444"}
    assert answer_handshake(query, ["other", "T"]) == "1158201444"
    assert answer_handshake(query, ["other"]) is None
    assert answer_handshake(query, []) is None
    assert answer_handshake({**query, "hub.mode": "unsubscribe"}, ["T"]) is None
    assert answer_handshake({**query, "hub.verify_token": ""}, [""]) is None
    assert answer_handshake({}, ["T"]) is None


@pytest.mark.parametrize(
    "headers",
    [
        {"apikey": "KEY"},
        {"ApiKey": "KEY"},
        {"X-Hook-Token": "KEY"},
        {"x-api-key": "KEY"},
        {"Authorization": "Bearer KEY"},
    ],
)
def test_evolutions_key_in_a_header(headers: dict[str, str]) -> None:
    assert WEB.verify(headers, b"{}", WebhookKeys(key_hashes=hashed("OLD", "KEY")))
    assert not WEB.verify(headers, b"{}", WebhookKeys(key_hashes=hashed("OTHER")))
    assert not WEB.verify(headers, b"{}", WebhookKeys())


def test_evolutions_key_in_the_address_or_the_body_where_no_header_can_be_set() -> None:
    keys = WebhookKeys(key_hashes=hashed("KEY"))
    assert WEB.verify({}, b"{}", keys, "KEY")
    assert WEB.verify({}, b'{"apikey":"KEY"}', keys)
    assert not WEB.verify({}, b'{"apikey":null}', keys)
    assert not WEB.verify({}, b"not json", keys)
    assert not WEB.verify({}, b'{"apikey":"KEY"}', keys, "WRONG")
    assert not WEB.verify({"apikey": "WRONG"}, b'{"apikey":"KEY"}', keys, "KEY")


def test_zapi_needs_the_paths_secret_and_the_token_once_it_is_known() -> None:
    unknown = WebhookKeys(key_hashes=hashed("PATH"))
    learnt = WebhookKeys(key_hashes=hashed("PATH"), token_hashes=hashed("TOKEN"))
    assert ZAPI.verify({}, b"{}", unknown, "PATH")
    assert ZAPI.verify({"z-api-token": "TOKEN"}, b"{}", learnt, "PATH")
    assert not ZAPI.verify({}, b"{}", learnt, "PATH")
    assert not ZAPI.verify({"z-api-token": "WRONG"}, b"{}", learnt, "PATH")
    assert not ZAPI.verify({"z-api-token": "TOKEN"}, b"{}", learnt, "WRONG")
    assert not ZAPI.verify({"z-api-token": "TOKEN"}, b"{}", learnt, None)


def test_evolutions_key_is_not_stored() -> None:
    body = orjson.dumps(
        {"event": "x", "apikey": "SECRET\\\"x", "destination": "https://in.example.test/evo?token=SECRET",
         "data": {"message": {"conversation": 'say "apikey":"kept"'}}}
    )  # fmt: skip
    headers, stored = WEB.redact({"apikey": "SECRET", "Authorization": "Bearer SECRET", "user-agent": "x"}, body)
    assert b"SECRET" not in stored
    assert "SECRET" not in str(headers)
    assert headers["user-agent"] == "x"
    payload = orjson.loads(stored)
    assert payload["apikey"] == "[redacted]"
    assert payload["destination"] == "https://in.example.test/evo"
    assert payload["data"]["message"]["conversation"] == 'say "apikey":"kept"'


def test_what_holds_no_secret_is_stored_as_it_came() -> None:
    body = b'{"event":"x", "apikey":null}'
    assert WEB.redact({}, body) == ({}, body)
    assert META.redact({"X-Hub-Signature-256": "sha256=a"}, BODY) == ({"X-Hub-Signature-256": "sha256=a"}, BODY)


def test_secrets_are_found_in_what_cannot_be_parsed() -> None:
    assert b"SECRET" not in WEB.redact({}, b'{"apikey" : "SECRET", broken')[1]


def test_zapis_proxy_login_and_tokens_are_not_stored() -> None:
    body = orjson.dumps({"type": "ProxyCallback", "error": "proxy (socks5://user:pass@localhost:1080) failed"})
    headers, stored = ZAPI.redact({"z-api-token": "SECRET"}, body)
    assert b"pass" not in stored
    assert headers == {"z-api-token": "[redacted]"}
    assert orjson.loads(stored)["error"] == "proxy (socks5://[redacted]@localhost:1080) failed"
    url = b'{"type":"x","url":"https://api.example.test/instances/3A/token/SECRET/send-text"}'
    assert b"SECRET" not in ZAPI.redact({}, url)[1]


def test_a_persons_text_is_not_changed() -> None:
    body = orjson.dumps({"type": "ReceivedCallback", "text": {"message": "ftp://me:pass@host"}})
    assert ZAPI.redact({}, body)[1] == body
