"""Z-API's requests and what its answers prove: success needs a messageId, and the text is the only error code."""

from typing import Any

import orjson
import pytest

from providers.address import Address
from providers.protocol import (
    Accepted,
    Account,
    Ambiguous,
    Content,
    OutboundMessage,
    Rejected,
    Throttled,
    UnsendableMessage,
)
from providers.registry import PROVIDERS

ZAPI = PROVIDERS["zapi"]
ACCOUNT = Account(
    "zapi", "https://zapi.example.test", credentials={"instance_id": "3A", "token": "TOK", "client_token": "CT"}
)


def build(content: Content, **more: Any) -> tuple[str, dict[str, Any]]:
    message = OutboundMessage(more.pop("recipient", Address(phone="5531999990001")), content, "dispatch:1", **more)
    request = ZAPI.build_request(message, ACCOUNT)
    assert (request.method, request.headers["Client-Token"]) == ("POST", "CT")
    prefix = "https://zapi.example.test/instances/3A/token/TOK/"
    assert request.url.startswith(prefix)
    return request.url.removeprefix(prefix), orjson.loads(request.body)


@pytest.mark.parametrize(
    ("content", "method", "body"),
    [
        (Content("text", "Olá"), "send-text", {"message": "Olá"}),
        (
            Content("image", "c", "https://c.example.test/a.jpg"),
            "send-image",
            {"image": "https://c.example.test/a.jpg", "caption": "c"},
        ),
        (Content("video", "", "https://c.example.test/a.mp4"), "send-video", {"video": "https://c.example.test/a.mp4"}),
        (
            Content("audio", "no", "https://c.example.test/a.mp3"),
            "send-audio",
            {"audio": "https://c.example.test/a.mp3"},
        ),
        (
            Content("document", "c", "https://c.example.test/n.PDF?x=1"),
            "send-document/pdf",
            {"document": "https://c.example.test/n.PDF?x=1", "fileName": "n.PDF", "caption": "c"},
        ),
        (
            Content("document", "", "https://c.example.test/n", filename="a.docx"),
            "send-document/docx",
            {"document": "https://c.example.test/n", "fileName": "a.docx"},
        ),
        (
            Content("document", "", "https://c.example.test/"),
            "send-document/pdf",
            {"document": "https://c.example.test/"},
        ),
    ],
)
def test_each_kind_has_its_method(content: Content, method: str, body: dict[str, Any]) -> None:
    assert build(content) == (method, {"phone": "5531999990001", **body})


def test_message_id_in_a_request_is_what_is_replied_to() -> None:
    assert build(Content("text", "x"), reply_to="3A1", message_id="OURS")[1]["messageId"] == "3A1"
    assert "messageId" not in build(Content("text", "x"), message_id="OURS")[1]


def test_recipients_without_a_phone() -> None:
    assert build(Content("text", "x"), recipient=Address(lid="7@lid"))[1]["phone"] == "7@lid"
    assert build(Content("text", "x"), recipient=Address(group="12@g.us"))[1]["phone"] == "12-group"
    assert build(Content("text", "x"), recipient=Address(group="12-group"))[1]["phone"] == "12-group"


def test_the_tokens_are_not_shown_when_a_request_is_printed() -> None:
    request = ZAPI.build_request(OutboundMessage(Address("5531"), Content("text", "x"), "d"), ACCOUNT)
    assert "TOK" not in repr(request)
    assert "CT" not in repr(request)


@pytest.mark.parametrize("content", [Content("template", template_name="promo"), Content("image")])
def test_what_it_cannot_send_is_refused_before_it_leaves(content: Content) -> None:
    with pytest.raises(UnsendableMessage):
        build(content)


def test_accepted_means_enqueued_under_the_future_id() -> None:
    answer = orjson.dumps({"zaapId": "Z", "messageId": "D241", "id": "D241"})
    assert ZAPI.read_response(200, {}, answer) == Accepted("D241", enqueued=True)


@pytest.mark.parametrize(
    ("status", "said", "name", "action"),
    [
        (400, "your client-token is not configured", "client_token_missing", "retry_then_disable_instance"),
        (400, "null not allowed", "credentials", "disable_instance"),
        (403, "Client-Token F00S not allowed", "credentials", "disable_instance"),
        (403, "203.0.113.9 not allowed", "address_refused", "disable_instance"),
        (400, "Instance not found", "no_such_instance", "disable_instance"),
        (
            400,
            "To continue sending a message, you must subscribe to this instance again",
            "subscription_ended",
            "disable_instance",
        ),
        (
            200,
            "To continue sending a message, you must subscribe to this instance again",
            "subscription_ended",
            "disable_instance",
        ),
        (400, "Phone number does not exist", "not_on_whatsapp", "fail_recipient"),
        (400, "something new", "bad_request", "fail"),
        (405, "Method Not Allowed", "bad_request", "fail"),
        (415, "Unsupported Media Type", "bad_request", "fail"),
        (401, "who are you", "credentials", "disable_instance"),
    ],
)
def test_refusals(status: int, said: str, name: str, action: str) -> None:
    outcome = ZAPI.read_response(status, {}, orjson.dumps({"error": said}))
    assert isinstance(outcome, Rejected)
    assert (outcome.failure.name, outcome.failure.action, outcome.text) == (name, action, said)
    assert outcome.retryable is outcome.failure.retryable


def test_200_may_say_that_it_was_not_done() -> None:
    outcome = ZAPI.read_response(200, {}, b'{"value":false}')
    assert isinstance(outcome, Rejected)
    assert outcome.failure.name == "operation_refused"


@pytest.mark.parametrize("body", [b"", b"<html></html>", b"{", b"[]", b"{}"])
@pytest.mark.parametrize("status", [200, 500, 502, 504])
def test_an_unreadable_answer_is_ambiguous(status: int, body: bytes) -> None:
    assert isinstance(ZAPI.read_response(status, {}, body), Ambiguous)


@pytest.mark.parametrize(
    ("status", "said"), [(500, "Internal Server Error"), (503, "x"), (400, "Timeout on send message")]
)
def test_a_fault_after_the_request_is_ambiguous(status: int, said: str) -> None:
    assert isinstance(ZAPI.read_response(status, {}, orjson.dumps({"error": said})), Ambiguous)


@pytest.mark.parametrize("headers", [{}, {"retry-after": "3"}])
@pytest.mark.parametrize("body", [b"", b'{"error":"Too Many Requests"}'])
def test_throttled(headers: dict[str, str], body: bytes) -> None:
    outcome = ZAPI.read_response(429, headers, body)
    assert isinstance(outcome, Throttled)
    assert outcome.retry_after_s == (3.0 if headers else None)
