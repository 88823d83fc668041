"""Asking a gateway whether an uncertain send arrived."""

from typing import Any

import orjson
import pytest

from providers.address import Address, same_number
from providers.calls import Found, LookUpFailed, NotFound
from providers.evolution.send import derive_message_id
from providers.protocol import Account, Content, OutboundMessage
from providers.registry import PROVIDERS

WEB, ZAPI, META = PROVIDERS["evolution_web"], PROVIDERS["zapi"], PROVIDERS["meta_cloud"]
MESSAGE = OutboundMessage(Address("5531999990001", "7@lid"), Content("text", "Olá Ana"), "dispatch:1")
SINCE_MS = 1_790_000_000_500


def record(**fields: Any) -> dict[str, Any]:
    key = {"id": "3EB0X", "fromMe": True, "remoteJid": "553199990001@s.whatsapp.net", **fields.pop("key", {})}
    return {
        "key": key,
        "message": {"conversation": "Olá Ana"},
        "messageType": "conversation",
        "messageTimestamp": 1790000000,
        **fields,
    }


def look_up(*records: dict[str, Any], message: OutboundMessage = MESSAGE) -> object:
    body = orjson.dumps({"messages": {"total": len(records), "pages": 1, "currentPage": 1, "records": list(records)}})
    return WEB.read_look_up(message, SINCE_MS, 200, {}, body)


def test_evolution_is_asked_for_our_messages_between_two_times() -> None:
    account = Account("evolution_web", "https://evo.example.test", instance_name="loja1", credentials={"apikey": "KEY"})
    request = WEB.look_up_request(MESSAGE, account, since_ms=SINCE_MS, until_ms=SINCE_MS + 600_000)
    assert request is not None
    assert (request.method, request.url) == ("POST", "https://evo.example.test/chat/findMessages/loja1")
    where = orjson.loads(request.body)["where"]
    assert where == {
        "key": {"fromMe": True},
        "messageTimestamp": {"gte": "2026-09-21T14:13:20Z", "lte": "2026-09-21T14:23:20Z"},
    }


@pytest.mark.parametrize(
    "found",
    [
        record(),
        record(key={"remoteJid": "5531999990001@s.whatsapp.net"}),
        record(key={"remoteJid": "7@lid"}),
        record(key={"remoteJid": "9@lid", "remoteJidAlt": "553199990001@s.whatsapp.net"}),
        record(messageTimestamp="1790000005"),
        record(key={"id": derive_message_id("dispatch:1")}, message={"conversation": "changed by the gateway"}),
    ],
    ids=["without the ninth digit", "with it", "by lid", "by the other name", "later", "by our own id"],
)
def test_the_same_words_in_the_same_chat_are_the_message(found: dict[str, Any]) -> None:
    assert look_up(record(key={"id": "OTHER", "remoteJid": "1@lid"}), found) == Found(found["key"]["id"])


@pytest.mark.parametrize(
    "other",
    [
        record(key={"fromMe": False}),
        record(key={"remoteJid": "553199990009@s.whatsapp.net"}),
        record(message={"conversation": "Olá Bia"}),
        record(messageTimestamp=1789999999),
        record(messageTimestamp=None),
        record(message={"imageMessage": {"caption": "Olá Ana"}}, messageType="imageMessage"),
        record(key={"id": None}),
    ],
    ids=["not ours", "another chat", "other words", "older", "no time", "another kind", "no id"],
)
def test_what_differs_is_not_the_message(other: dict[str, Any]) -> None:
    assert look_up(other) == NotFound(1)


def test_media_is_known_by_its_kind_and_caption() -> None:
    message = OutboundMessage(MESSAGE.recipient, Content("image", "c", "https://c.example.test/a.jpg"), "d:1")
    assert look_up(
        record(message={"imageMessage": {"caption": "c"}}, messageType="imageMessage"), message=message
    ) == Found("3EB0X")


@pytest.mark.parametrize(("status", "body"), [(500, b"{}"), (200, b"<html>"), (200, b"{}"), (200, b"[]")])
def test_an_answer_that_tells_nothing(status: int, body: bytes) -> None:
    assert isinstance(WEB.read_look_up(MESSAGE, SINCE_MS, status, {}, body), LookUpFailed)


def row(**fields: Any) -> dict[str, Any]:
    return {
        "_id": "1",
        "ZaapId": "Z",
        "MessageId": "M",
        "Phone": "5531999990001",
        "Message": "Olá Ana",
        "Created": SINCE_MS + 1,
        **fields,
    }


@pytest.mark.parametrize("found", [row(), row(Phone="553199990001"), row(Phone="7@lid")])
def test_zapis_queue_shows_what_waits(found: dict[str, Any]) -> None:
    answer = orjson.dumps({"messages": [row(Message="other"), found], "hasMore": False})
    assert ZAPI.read_look_up(MESSAGE, SINCE_MS, 200, {}, answer) == Found("M", where="queued")


@pytest.mark.parametrize(
    "other", [row(Message="x"), row(Phone="5531888880001"), row(Created=SINCE_MS - 1), row(MessageId=None)]
)
def test_what_is_not_in_zapis_queue_may_have_left(other: dict[str, Any]) -> None:
    assert ZAPI.read_look_up(MESSAGE, SINCE_MS, 200, {}, orjson.dumps({"messages": [other]})) == NotFound(1)


def test_zapi_is_asked_for_its_queue_and_meta_for_nothing() -> None:
    account = Account("zapi", "https://zapi.example.test", credentials={"instance_id": "3A", "token": "T"})
    request = ZAPI.look_up_request(MESSAGE, account, since_ms=0, until_ms=1)
    assert request is not None
    assert request.url.endswith("/instances/3A/token/T/queue")
    assert isinstance(ZAPI.read_look_up(MESSAGE, 0, 502, {}, b""), LookUpFailed)
    assert META.look_up_request(MESSAGE, account, since_ms=0, until_ms=1) is None
    assert isinstance(META.read_look_up(MESSAGE, 0, 200, {}, b"{}"), LookUpFailed)


@pytest.mark.parametrize(
    ("one", "other", "same"),
    [
        ("5531999990001", "553199990001", True),
        ("553199990001", "553199990001", True),
        ("5531999990001", "5532999990001", False),
        ("16505551234", "16505551234", True),
        ("16505551234", "1650555123", False),
        (None, None, False),
        ("", "", False),
    ],
)
def test_brazilian_numbers_match_with_and_without_the_ninth_digit(
    one: str | None, other: str | None, same: bool
) -> None:
    assert same_number(one, other) is same
