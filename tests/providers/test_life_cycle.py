# ruff: noqa: E501 - a payload reads better on one line
"""Calls besides sending: connecting, asking, ending, and what the gateways answer to them."""

from typing import Any

import orjson
import pytest

from providers.address import Address
from providers.calls import (
    CallAnswer,
    CallDone,
    CallFailed,
    InstanceFound,
    InstanceMade,
    InstancesListed,
    LimitsAnswered,
    NumberChecked,
    NumbersChecked,
    QrAnswered,
    StateAnswered,
    VersionAnswered,
    WebhookTarget,
)
from providers.evolution import instance as evolution
from providers.protocol import Account, HttpRequest, ProviderName
from providers.registry import PROVIDERS
from providers.zapi import instance as zapi

HOOK = WebhookTarget("https://in.example.test/hook", "HOOKKEY")
WEB = Account("evolution_web", "https://evo.example.test", instance_name="loja1", credentials={"apikey": "KEY"})
CLOUD = Account(
    "evolution_cloud", "https://evo.example.test", phone_number_id="1065", instance_name="oficial",
    credentials={"apikey": "KEY", "access_token": "META", "business_id": "WABA"},
)  # fmt: skip
ZAPI = Account(
    "zapi", "https://zapi.example.test", credentials={"instance_id": "3A", "token": "TOK", "client_token": "CT"}
)
META = Account("meta_cloud", phone_number_id="1065", credentials={"access_token": "T", "business_id": "WABA"})


def lines(requests: tuple[HttpRequest, ...]) -> list[str]:
    return [f"{request.method} {request.url.partition('.test')[2] or request.url}" for request in requests]


def read(name: ProviderName, status: int, answer: Any) -> CallAnswer:
    body = answer if isinstance(answer, bytes) else orjson.dumps(answer)
    return PROVIDERS[name].read_call(status, {}, body)


def test_connecting_an_evolution_instance_creates_it_with_our_webhook_and_asks_for_a_code() -> None:
    requests = PROVIDERS["evolution_web"].connect_requests(WEB, HOOK)
    assert lines(requests) == ["POST /instance/create", "POST /webhook/set/loja1", "GET /instance/connect/loja1"]
    created, hooked = orjson.loads(requests[0].body), orjson.loads(requests[1].body)
    assert (created["instanceName"], created["integration"], created["qrcode"]) == ("loja1", "WHATSAPP-BAILEYS", True)
    assert hooked["webhook"] == created["webhook"]
    assert created["webhook"]["headers"] == {"apikey": "HOOKKEY"}
    assert (created["webhook"]["url"], created["webhook"]["base64"], created["webhook"]["byEvents"]) == (
        HOOK.url,
        False,
        False,
    )
    assert {"MESSAGES_UPSERT", "SEND_MESSAGE", "CONNECTION_UPDATE", "QRCODE_UPDATED"} <= set(
        created["webhook"]["events"]
    )
    assert "CONTACTS_UPSERT" not in created["webhook"]["events"]


def test_connecting_a_cloud_instance_hands_metas_token_over_and_needs_no_code() -> None:
    requests = PROVIDERS["evolution_cloud"].connect_requests(CLOUD, HOOK)
    assert lines(requests) == [
        "POST /instance/create",
        "POST /webhook/set/oficial",
        "GET /instance/connectionState/oficial",
    ]
    created = orjson.loads(requests[0].body)
    assert (created["integration"], created["token"], created["number"], created["businessId"]) == (
        "WHATSAPP-BUSINESS",
        "META",
        "1065",
        "WABA",
    )


def test_the_rest_of_an_evolution_instances_life() -> None:
    provider = PROVIDERS["evolution_web"]
    assert lines((provider.state_request(WEB),)) == ["GET /instance/connectionState/loja1"]
    assert lines(provider.disconnect_requests(WEB)) == ["DELETE /instance/logout/loja1"]
    assert lines(provider.delete_requests(WEB)) == ["DELETE /instance/logout/loja1", "DELETE /instance/delete/loja1"]
    assert lines((evolution.restart_request(WEB), evolution.list_request(WEB), evolution.version_request(WEB))) == [
        "POST /instance/restart/loja1",
        "GET /instance/fetchInstances",
        "GET /",
    ]


def test_connecting_zapi_sets_one_webhook_switches_queueing_off_and_empties_the_queue_first() -> None:
    requests = PROVIDERS["zapi"].connect_requests(ZAPI, HOOK)
    prefix = "/instances/3A/token/TOK/"
    assert lines(requests) == [
        f"PUT {prefix}update-every-webhooks",
        f"PUT {prefix}update-queue-settings",
        f"DELETE {prefix}queue",
        f"GET {prefix}qr-code/image",
    ]
    assert orjson.loads(requests[0].body) == {"value": HOOK.url, "notifySentByMe": True}
    assert orjson.loads(requests[1].body) == {"disableEnqueueWhenDisconnected": True}
    assert all(request.headers["Client-Token"] == "CT" for request in requests)


def test_the_rest_of_a_zapi_instances_life() -> None:
    provider, prefix = PROVIDERS["zapi"], "/instances/3A/token/TOK/"
    assert lines((provider.state_request(ZAPI),)) == [f"GET {prefix}status"]
    assert lines(provider.disconnect_requests(ZAPI)) == [f"GET {prefix}disconnect"]
    assert lines((zapi.restart_request(ZAPI), zapi.number_request(ZAPI, "5531"))) == [
        f"GET {prefix}restart",
        f"GET {prefix}phone-exists/5531",
    ]


def test_meta_is_asked_for_the_numbers_fields_and_subscribed() -> None:
    state, subscribed = PROVIDERS["meta_cloud"].connect_requests(META, HOOK)
    assert state.method == "GET"
    assert state.url.startswith("https://graph.facebook.com/v23.0/1065?fields=")
    assert "whatsapp_business_manager_messaging_limit" in state.url
    assert subscribed.url == "https://graph.facebook.com/v23.0/WABA/subscribed_apps"
    assert orjson.loads(subscribed.body) == {"override_callback_uri": HOOK.url, "verify_token": "HOOKKEY"}
    assert PROVIDERS["meta_cloud"].disconnect_requests(META) == PROVIDERS["meta_cloud"].delete_requests(META) == ()


@pytest.mark.parametrize(
    ("answer", "expected"),
    [
        ({"instance": {"instanceName": "loja1", "state": "open"}}, StateAnswered("open")),
        ({"instance": {"instanceName": "loja1", "state": "close"}}, StateAnswered("closed")),
        ({"pairingCode": None, "code": "2@x", "base64": "data:image/png;base64,A", "count": 1}, QrAnswered("2@x", "data:image/png;base64,A")),
        (
            {"instance": {"instanceId": "U", "status": "connecting"}, "hash": "TOKEN", "qrcode": {"code": "2@x"}},
            InstanceMade("U", "TOKEN", QrAnswered("2@x")),
        ),
        ({"instance": {"instanceId": "U"}, "hash": {"apikey": "TOKEN"}}, InstanceMade("U", "TOKEN", None)),
        (
            [{"name": "loja1", "connectionStatus": "open", "ownerJid": "5511@s.whatsapp.net", "token": "T"}],
            InstancesListed((InstanceFound("loja1", "open", "5511", "T"),)),
        ),
        (
            [{"instance": {"instanceName": "loja1", "status": "close", "apikey": "T"}}],
            InstancesListed((InstanceFound("loja1", "closed", None, "T"),)),
        ),
        ([], InstancesListed(())),
        (
            [{"jid": "5531@s.whatsapp.net", "exists": True, "lid": "7@lid"}, {"jid": "5532@s.whatsapp.net", "exists": False}],
            NumbersChecked((NumberChecked(True, Address("5531", "7@lid")), NumberChecked(False, Address("5532")))),
        ),
        ({"status": 200, "message": "Welcome", "version": "2.3.7"}, VersionAnswered("2.3.7")),
        ({"status": "SUCCESS", "error": False}, CallDone({"status": "SUCCESS", "error": False})),
    ],
)  # fmt: skip
def test_answers_of_evolution(answer: Any, expected: CallAnswer) -> None:
    assert read("evolution_web", 200, answer) == expected


@pytest.mark.parametrize(
    ("status", "answer", "name", "retryable", "exists"),
    [
        (200, {"error": True, "message": "Error: x"}, "operation_refused", True, False),
        (
            403,
            {"status": 403, "response": {"message": ['This name "loja1" is already in use.']}},
            "bad_request",
            False,
            True,
        ),
        (401, {"status": 401, "response": {"message": "Unauthorized"}}, "credentials", False, False),
        (
            404,
            {"status": 404, "response": {"message": ['The "x" instance does not exist']}},
            "no_such_instance",
            False,
            False,
        ),
        (503, {"code": "LICENSE_REQUIRED"}, "host_unlicensed", False, False),
        (500, {"status": 500, "response": {"message": "Connection Closed"}}, "provider_busy", True, False),
        (201, {"message": "x", "type": "OAuthException", "code": 190}, "credentials", False, False),
        (502, b"<html>", "provider_busy", True, False),
        (200, b"<html>", "provider_busy", True, False),
    ],
)
def test_refusals_of_evolution(status: int, answer: Any, name: str, retryable: bool, exists: bool) -> None:
    failed = read("evolution_web", status, answer)
    assert isinstance(failed, CallFailed)
    assert (failed.failure.name, failed.retryable, failed.exists) == (name, retryable, exists)


@pytest.mark.parametrize(
    ("answer", "expected"),
    [
        (
            {"connected": True, "error": "You are already connected."},
            StateAnswered("open", "You are already connected."),
        ),
        ({"connected": False, "error": "You are not connected."}, StateAnswered("closed", "You are not connected.")),
        ({"connected": True}, StateAnswered("open")),
        ({"value": "data:image/png;base64,A"}, QrAnswered(image="data:image/png;base64,A")),
        ({"value": "2@x"}, QrAnswered(code="2@x")),
        ({"value": True}, CallDone({"value": True})),
        (
            [{"exists": True, "phone": "5531", "lid": "7@lid"}],
            NumbersChecked((NumberChecked(True, Address("5531", "7@lid")),)),
        ),
        (
            [{"exists": False, "inputPhone": "55", "outputPhone": "5531"}],
            NumbersChecked((NumberChecked(False, Address("5531")),)),
        ),
    ],
)
def test_answers_of_zapi(answer: Any, expected: CallAnswer) -> None:
    assert read("zapi", 200, answer) == expected


@pytest.mark.parametrize(
    ("status", "answer", "name"),
    [
        (200, {"value": False}, "operation_refused"),
        (
            200,
            {"error": "To continue sending a message, you must subscribe to this instance again"},
            "subscription_ended",
        ),
        (403, {"error": "Client-Token X not allowed"}, "credentials"),
        (500, b"", "provider_busy"),
    ],
)
def test_refusals_of_zapi(status: int, answer: Any, name: str) -> None:
    failed = read("zapi", status, answer)
    assert isinstance(failed, CallFailed)
    assert failed.failure.name == name


def test_the_limits_of_a_number_at_meta() -> None:
    answer = {
        "display_phone_number": "+55 11", "verified_name": "Loja", "quality_rating": "GREEN", "status": "CONNECTED",
        "throughput": {"level": "HIGH"}, "whatsapp_business_manager_messaging_limit": "TIER_10K",
    }  # fmt: skip
    assert read("meta_cloud", 200, answer) == LimitsAnswered(
        "+55 11", "Loja", "GREEN", "TIER_10K", "HIGH", "CONNECTED", 10_000, 1000
    )


@pytest.mark.parametrize(
    ("status", "answer", "name", "retryable"),
    [
        (401, {"error": {"code": 190, "message": "x"}}, "credentials", False),
        (500, {"error": {"code": 131000}}, "provider_busy", True),
        (502, b"", "provider_busy", True),
        (429, {"error": {"code": 4}}, "app_rate", True),
    ],
)
def test_refusals_of_meta(status: int, answer: Any, name: str, retryable: bool) -> None:
    failed = read("meta_cloud", status, answer)
    assert isinstance(failed, CallFailed)
    assert (failed.failure.name, failed.retryable) == (name, retryable)


def test_meta_says_that_it_is_done() -> None:
    assert read("meta_cloud", 200, {"success": True}) == CallDone({"success": True})


def test_no_secret_is_shown_when_an_answer_is_printed() -> None:
    made = read("evolution_web", 201, {"instance": {}, "hash": "TOKEN"})
    listed = read("evolution_web", 200, [{"name": "a", "token": "TOKEN"}])
    shown = repr((made, listed, HOOK))
    assert "TOKEN" not in shown
    assert "HOOKKEY" not in shown
