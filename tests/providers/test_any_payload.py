"""Nothing that the world sends makes a reader fall: a webhook is read or said to be unreadable, an answer is read."""

from typing import Any

import orjson
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from providers.address import Address
from providers.events import Seen, UnreadablePayload
from providers.protocol import (
    Accepted,
    Ambiguous,
    Content,
    NotSent,
    OutboundMessage,
    Provider,
    Rejected,
    Throttled,
    WebhookKeys,
)
from providers.registry import PROVIDERS

# Words of all dialects, so that what is drawn gets past the first look.
NAMES = st.sampled_from(
    [
        "entry",
        "changes",
        "field",
        "value",
        "messages",
        "statuses",
        "contacts",
        "errors",
        "error",
        "code",
        "message",
        "id",
        "key",
        "remoteJid",
        "fromMe",
        "participant",
        "data",
        "event",
        "instance",
        "type",
        "status",
        "text",
        "image",
        "audio",
        "reaction",
        "context",
        "metadata",
        "phone_number_id",
        "body",
        "messageType",
        "messageTimestamp",
        "contextInfo",
        "protocolMessage",
        "editedMessage",
        "conversation",
        "imageMessage",
        "interactiveResponseMessage",
        "nativeFlowResponseMessage",
        "paramsJson",
        "keyId",
        "update",
        "ids",
        "phone",
        "notification",
        "notificationParameters",
        "momment",
        "messageId",
        "waitingMessage",
        "isEdit",
        "isGroup",
        "document",
        "location",
        "participantsData",
        "participants",
        "presences",
        "groups",
        "user_preferences",
        "calls",
        "state_sync",
        "message_echoes",
        "pricing",
        "recipient_id",
        "timestamp",
        "response",
        "records",
        "qrcode",
        "hash",
        "connected",
        "exists",
    ]
)
WORDS = st.sampled_from(
    [
        "messages.upsert",
        "messages.update",
        "messages.edited",
        "messages.delete",
        "messages.set",
        "send.message",
        "connection.update",
        "qrcode.updated",
        "contacts.update",
        "group-participants.update",
        "presence.update",
        "call",
        "error",
        "ReceivedCallback",
        "DeliveryCallback",
        "MessageStatusCallback",
        "DisconnectedCallback",
        "PresenceChatCallback",
        "messages",
        "account_update",
        "phone_number_quality_update",
        "text",
        "reaction",
        "interactive",
        "system",
        "edit",
        "revoke",
        "open",
        "READ",
        "failed",
        "sent",
        "REVOKE",
        "5531999990001",
        "1@lid",
        "1@g.us",
        "status@broadcast",
        "BR.1",
        "REVOKE",
        "CALL_X",
        "wamid.1",
        "1790000001",
    ]
)
LEAVES = (
    st.none()
    | st.booleans()
    | st.integers(-(2**63), 2**63 - 1)
    | st.floats(allow_nan=False, allow_infinity=False)
    | WORDS
    | st.text(max_size=8)
)
JSON = st.recursive(
    LEAVES,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(NAMES | st.text(max_size=4), inner, max_size=5),
    max_leaves=25,
)
SHELLS = st.one_of(
    st.builds(lambda field, value: {"entry": [{"changes": [{"field": field, "value": value}]}]}, WORDS, JSON),
    st.builds(lambda event, data: {"event": event, "instance": "i", "data": data}, WORDS, JSON),
    st.builds(lambda kind, rest: {**(rest if isinstance(rest, dict) else {}), "type": kind}, WORDS, JSON),
    JSON,
)
EACH = pytest.mark.parametrize("provider", PROVIDERS.values(), ids=PROVIDERS.keys())
MESSAGE = OutboundMessage(Address("5531999990001", "1@lid"), Content("text", "x"), "d:1")


def check_events(provider: Provider, body: bytes) -> None:
    try:
        events = provider.read_webhook(body)
    except UnreadablePayload:
        return
    assert events
    for event in events:
        assert isinstance(event, Seen)
        assert event.key
        hash(event.key)


@EACH
@settings(max_examples=300, deadline=None)
@given(payload=SHELLS)
def test_any_json_is_read_or_said_to_be_unreadable(provider: Provider, payload: Any) -> None:
    check_events(provider, orjson.dumps(payload))


@EACH
@settings(max_examples=100, deadline=None)
@given(body=st.binary(max_size=64))
def test_any_bytes_are_read_or_said_to_be_unreadable(provider: Provider, body: bytes) -> None:
    check_events(provider, body)
    provider.redact({"x": "y"}, body)
    provider.verify({"apikey": "\udcff"}, body, WebhookKeys(("s",), frozenset({"é"})), "x")


@EACH
@settings(max_examples=300, deadline=None)
@given(status=st.integers(100, 599), payload=JSON, wait=st.text(max_size=5))
def test_any_answer_is_an_outcome(provider: Provider, status: int, payload: Any, wait: str) -> None:
    for body in (orjson.dumps(payload), orjson.dumps({"error": payload}), orjson.dumps({"response": payload}), b"<"):
        outcome = provider.read_response(status, {"Retry-After": wait, "X-Business-Use-Case-Usage": wait}, body)
        assert isinstance(outcome, Accepted | NotSent | Throttled | Rejected | Ambiguous)
        if isinstance(outcome, Accepted):
            assert 200 <= status < 300
        provider.read_call(status, {}, body)
        provider.read_look_up(MESSAGE, 0, status, {}, body)


@EACH
@settings(max_examples=200, deadline=None)
@given(payload=SHELLS)
def test_reading_twice_gives_the_same(provider: Provider, payload: Any) -> None:
    body = orjson.dumps(payload)
    try:
        assert provider.read_webhook(body) == provider.read_webhook(body)
    except UnreadablePayload:
        return


@EACH
def test_depth_is_no_way_in(provider: Provider) -> None:
    for body in (
        b"[" * 100_000,
        b'{"a":' * 100_000,
        b'{"event":"messages.upsert","data":' + b"[" * 900 + b"]" * 900 + b"}",
    ):
        check_events(provider, body)


@pytest.mark.parametrize(
    ("kind", "answer"),
    [
        ("meta_cloud", {"messages": [{"id": "ID"}]}),
        ("evolution_web", {"key": {"id": "ID"}}),
        ("zapi", {"messageId": "ID"}),
    ],
)
def test_an_id_that_no_database_can_keep_is_mended_or_none(kind: str, answer: dict[str, Any]) -> None:
    def read(identity: str) -> object:
        body = orjson.dumps(answer).replace(b'"ID"', orjson.dumps(identity))
        return PROVIDERS[kind].read_response(200, {}, body)  # type: ignore[index]

    with_nul, endless = read("3EB0\0AB"), read("A" * 10_000)
    assert isinstance(with_nul, Accepted)
    assert with_nul.provider_message_id == "3EB0AB"
    assert endless == Ambiguous("accepted_without_id")
