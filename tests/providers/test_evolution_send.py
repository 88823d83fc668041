# ruff: noqa: E501 - a payload reads better on one line
"""Evolution's requests and what its answers prove; the HTTP status alone proves nothing here."""

from typing import Any

import orjson
import pytest

from providers.address import Address
from providers.evolution.send import derive_message_id
from providers.protocol import (
    Accepted,
    Account,
    Ambiguous,
    Content,
    NotSent,
    OutboundMessage,
    ProviderName,
    Rejected,
    Throttled,
    UnsendableMessage,
)
from providers.registry import PROVIDERS

WEB, CLOUD = PROVIDERS["evolution_web"], PROVIDERS["evolution_cloud"]


def account(kind: ProviderName = "evolution_web", version: str | None = None) -> Account:
    return Account(
        kind,
        "https://evo.example.test/",
        instance_name="loja 1",
        credentials={"apikey": "KEY"},
        gateway_version=version,
    )


def build(content: Content, to: Account | None = None, **more: Any) -> tuple[str, dict[str, Any]]:
    message = OutboundMessage(more.pop("recipient", Address(phone="5531999990001")), content, "dispatch:1", **more)
    request = WEB.build_request(message, to or account())
    assert (request.method, request.headers["apikey"]) == ("POST", "KEY")
    assert request.url.startswith("https://evo.example.test/message/")
    body = orjson.loads(request.body)
    return request.url.removeprefix("https://evo.example.test/message/"), body


def refusal(status: int, message: object, **more: object) -> bytes:
    return orjson.dumps({"status": status, "error": "x", "response": {"message": message}, **more})


@pytest.mark.parametrize(
    ("content", "verb", "body"),
    [
        (Content("text", "Olá"), "sendText", {"text": "Olá", "linkPreview": False}),
        (
            Content("image", "c", "https://cdn.example.test/a.jpg", mime_type="image/jpeg"),
            "sendMedia",
            {"mediatype": "image", "media": "https://cdn.example.test/a.jpg", "caption": "c", "mimetype": "image/jpeg"},
        ),
        (
            Content("document", "", "https://cdn.example.test/n.pdf", filename="nota.pdf"),
            "sendMedia",
            {"mediatype": "document", "media": "https://cdn.example.test/n.pdf", "fileName": "nota.pdf"},
        ),
        (
            Content("audio", "", "https://cdn.example.test/a.mp3"),
            "sendWhatsAppAudio",
            {"audio": "https://cdn.example.test/a.mp3", "encoding": True},
        ),
    ],
)
def test_each_kind_has_its_verb(content: Content, verb: str, body: dict[str, Any]) -> None:
    assert build(content) == (f"{verb}/loja%201", {"number": "5531999990001", **body})


def test_no_delay_is_asked_of_the_gateway() -> None:
    assert "delay" not in build(Content("text", "x"))[1]


@pytest.mark.parametrize(
    ("recipient", "number"),
    [
        (Address(lid="76@lid"), "76@lid"),
        (Address(group="12@g.us", phone="1"), "12@g.us"),
        (Address("5531", "76@lid"), "5531"),
    ],
)
def test_recipients_without_a_phone(recipient: Address, number: str) -> None:
    assert build(Content("text", "x"), recipient=recipient)[1]["number"] == number


def test_a_reply_quotes_by_id() -> None:
    assert build(Content("text", "x"), reply_to="3A1")[1]["quoted"] == {"key": {"id": "3A1"}}


def test_from_2_4_on_the_message_has_an_id_of_ours() -> None:
    _, first = build(Content("text", "x"), account(version="2.4.0"))
    _, again = build(Content("text", "x"), account(version="v2.4.0-rc2"))
    assert first["messageId"] == again["messageId"] == derive_message_id("dispatch:1")
    assert len(first["messageId"]) == 22
    assert first["messageId"].startswith("3EB0")
    assert first["messageId"] == first["messageId"].upper()
    assert derive_message_id("dispatch:2") != derive_message_id("dispatch:1")


def test_a_given_id_wins_over_a_derived_one() -> None:
    assert build(Content("text", "x"), account(version="2.10.1"), message_id="3EB0GIVEN")[1]["messageId"] == "3EB0GIVEN"


@pytest.mark.parametrize("version", [None, "", "2.3.7", "1.8.2", "unknown"])
def test_older_gateways_get_no_id(version: str | None) -> None:
    assert "messageId" not in build(Content("text", "x"), account(version=version))[1]


def test_neither_audio_nor_cloud_instances_take_an_id() -> None:
    audio = Content("audio", "", "https://cdn.example.test/a.mp3")
    assert "messageId" not in build(audio, account(version="2.4.0"))[1]
    assert "messageId" not in build(Content("text", "x"), account("evolution_cloud", "2.4.0"))[1]


def test_templates_go_through_cloud_instances_only() -> None:
    template = Content(
        "template", template_name="promo", template_language="pt_BR", template_components=({"type": "body"},)
    )
    verb, body = build(template, account("evolution_cloud"))
    assert verb == "sendTemplate/loja%201"
    assert (body["name"], body["language"], body["components"]) == ("promo", "pt_BR", [{"type": "body"}])
    with pytest.raises(UnsendableMessage) as refused:
        build(template)
    assert refused.value.rejected.failure.name == "unsupported"


@pytest.mark.parametrize("provider", [WEB, CLOUD])
def test_accepted_with_the_chats_own_name(provider: Any) -> None:
    key = {"remoteJid": "553199990001@s.whatsapp.net", "remoteJidAlt": "76@lid", "fromMe": True, "id": "3EB0A"}
    answer = orjson.dumps({"key": key, "status": "PENDING"})
    assert provider.read_response(201, {}, answer) == Accepted("3EB0A", Address("553199990001", "76@lid"))


REFUSALS = [
    (400, refusal(400, [{"jid": "5531@s.whatsapp.net", "exists": False, "number": "5531"}]), "not_on_whatsapp", "fail_recipient"),
    (400, refusal(400, [['instance requires property "text"']]), "bad_request", "fail"),
    (400, refusal(400, ["Method not available on WhatsApp Business API"]), "unsupported", "fail"),
    (400, refusal(400, ["Error: not-authorized"]), "group_refused", "fail"),
    (400, refusal(400, "Group not found"), "group_refused", "fail"),
    (401, refusal(401, "Unauthorized"), "credentials", "disable_instance"),
    (404, refusal(404, ['The "x" instance does not exist']), "no_such_instance", "disable_instance"),
    (404, refusal(404, ["Cannot POST /message/sendTxt"]), "bad_request", "fail"),
    (500, refusal(500, "Request failed with status code 404"), "media_refused", "fail_media"),
    (500, refusal(500, ["Error: ffmpeg exited with code 1"]), "media_refused", "fail_media"),
    (500, refusal(500, "Input buffer contains unsupported image format"), "media_refused", "fail_media"),
    (500, refusal(500, "Request failed with status code 503"), "media_host_down", "retry"),
    (500, refusal(500, "getaddrinfo ENOTFOUND cdn.example.test"), "media_host_down", "retry"),
    (500, refusal(500, "Method not available"), "unsupported", "fail"),
    (503, orjson.dumps({"error": "service not activated", "code": "LICENSE_REQUIRED"}), "host_unlicensed", "disable_host"),
]  # fmt: skip


@pytest.mark.parametrize(("status", "body", "name", "action"), REFUSALS)
def test_refusals(status: int, body: bytes, name: str, action: str) -> None:
    outcome = WEB.read_response(status, {}, body)
    assert isinstance(outcome, Rejected)
    assert (outcome.failure.name, outcome.failure.action) == (name, action)
    assert outcome.retryable is outcome.failure.retryable


@pytest.mark.parametrize(
    ("status", "message"),
    [
        (400, ["Error: Connection Closed"]),
        (400, ["Error: Timed Out"]),
        (400, ["TypeError: Cannot read properties of undefined (reading '0')"]),
        (400, ["Error: something new"]),
        (500, "something new"),
        (502, "Bad Gateway"),
        (504, "Gateway Timeout"),
        (408, "Request Timeout"),
    ],
)
def test_what_was_thrown_inside_the_send_may_have_left(status: int, message: object) -> None:
    assert isinstance(WEB.read_response(status, {}, refusal(status, message)), Ambiguous)


@pytest.mark.parametrize(
    "message", ["Connection Closed", "Cannot read properties of undefined (reading 'sendMessage')"]
)
def test_what_failed_in_the_look_up_before_has_not_left(message: str) -> None:
    assert isinstance(WEB.read_response(500, {}, refusal(500, message)), NotSent)


def test_201_may_carry_metas_refusal() -> None:
    answer = orjson.dumps(
        {"message": "(#131030)", "type": "OAuthException", "code": 131030, "error_data": {"details": "d"}}
    )
    outcome = CLOUD.read_response(201, {}, answer)
    assert isinstance(outcome, Rejected)
    assert (outcome.code, outcome.failure.name) == ("131030", "recipient_refused")


def test_201_may_carry_metas_throttle() -> None:
    outcome = CLOUD.read_response(201, {}, orjson.dumps({"message": "rate", "code": 130429}))
    assert isinstance(outcome, Throttled)
    assert outcome.scope == "number"


def test_a_template_refused_at_meta_is_known_by_metas_code() -> None:
    answer = refusal(400, "x", details={"whatsapp_code": 132001})
    outcome = CLOUD.read_response(400, {}, answer)
    assert isinstance(outcome, Rejected)
    assert outcome.failure.name == "template_missing"


@pytest.mark.parametrize("headers", [{}, {"Retry-After": "7"}])
def test_a_throttle_can_only_come_from_a_proxy(headers: dict[str, str]) -> None:
    for body in (b"<html></html>", refusal(429, "Too Many Requests")):
        outcome = WEB.read_response(429, headers, body)
        assert isinstance(outcome, Throttled)
        assert outcome.retry_after_s == (7.0 if headers else None)


@pytest.mark.parametrize("status", [200, 201, 500, 502, 503, 504])
@pytest.mark.parametrize("body", [b"", b"<html></html>", b"{", b"[]", b"{}"])
def test_an_unreadable_answer_is_ambiguous(status: int, body: bytes) -> None:
    assert isinstance(WEB.read_response(status, {}, body), Ambiguous)


@pytest.mark.parametrize(
    ("status", "name"), [(401, "credentials"), (403, "credentials"), (404, "no_such_instance"), (413, "bad_request")]
)
def test_a_proxys_page_is_no_send(status: int, name: str) -> None:
    outcome = WEB.read_response(status, {}, b"<html></html>")
    assert isinstance(outcome, Rejected)
    assert outcome.failure.name == name
