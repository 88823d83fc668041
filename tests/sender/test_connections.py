"""Wishes and the calls that make them so; what gateways answer and what is told of it."""

from datetime import UTC, datetime
from uuid import UUID

import pytest

from contracts.instances import InstanceConfigured, InstanceConnected, InstanceConnecting, QrCodeUpdated
from providers.calls import CallDone, CallFailed, InstanceMade, QrAnswered, StateAnswered, WebhookTarget
from providers.failures import NO_SUCH_INSTANCE, OPERATION_REFUSED
from providers.protocol import Account
from providers.registry import PROVIDERS
from sender.instance.connections import find_failure, plan, tell, webhook_address

NOON = datetime(2026, 3, 2, 12, tzinfo=UTC)
ACCOUNT = Account("evolution_web", server_url="http://gw", instance_name="loja", credentials={"webhook_key": "k"})
HOOK = WebhookTarget("http://us/hook", "k")
GONE, REFUSED = CallFailed(NO_SUCH_INSTANCE, 404), CallFailed(OPERATION_REFUSED, 400)


def config(wanted: str, version: int = 1) -> InstanceConfigured:
    return InstanceConfigured(
        name="n", provider="evolution_web", server_url="http://gw", wanted=wanted, wanted_version=version
    )


@pytest.mark.parametrize(
    ("wanted", "made_version", "paths"),
    [
        ("connected", 0, ["instance/create", "webhook/set/loja", "instance/connect/loja"]),
        ("connected", 1, ["webhook/set/loja"]),
        ("disconnected", 0, ["instance/logout/loja"]),
        ("deleted", 0, ["instance/logout/loja", "instance/delete/loja"]),
        ("none", 0, []),
    ],
)
def test_the_calls_that_make_a_wish_so(wanted: str, made_version: int, paths: list[str]) -> None:
    requests = plan(config(wanted), made_version, ACCOUNT, HOOK, PROVIDERS["evolution_web"])
    assert [request.url.removeprefix("http://gw/") for request in requests] == paths


def test_what_answers_say() -> None:
    qr = QrCodeUpdated(qr_code="data:image/png;base64,AA", pairing_code="WZYE", at=NOON)
    challenge = QrAnswered(code="2@x", image="data:image/png;base64,AA", pairing_code="WZYE")
    assert tell(challenge, NOON) == [InstanceConnecting(at=NOON), qr]
    assert tell(InstanceMade("id", "token", challenge), NOON) == [InstanceConnecting(at=NOON), qr]
    assert tell(StateAnswered("open"), NOON) == [InstanceConnected(at=NOON)]
    assert tell(CallDone({}), NOON) == []


def test_taking_away_what_is_gone_already_is_no_failure() -> None:
    assert find_failure([REFUSED, CallDone({})], connecting=False) is None
    assert find_failure([REFUSED, GONE], connecting=False) is None
    assert find_failure([CallDone({}), REFUSED], connecting=False) is REFUSED
    assert find_failure([CallFailed(OPERATION_REFUSED, 403, exists=True), CallDone({})], connecting=True) is None
    assert find_failure([GONE], connecting=True) is GONE


def test_an_instance_without_a_webhook_address_gets_our_door() -> None:
    address = webhook_address("https://us", UUID(int=5), config("connected"), ACCOUNT)
    assert address == f"https://us/api/webhook/evolution/{UUID(int=5)}"


def test_an_address_that_holds_the_key_gets_it_only_on_its_way_to_the_gateway() -> None:
    configured = config("connected").model_copy(update={"webhook_url": "https://us/api/webhook/zapi/{secret}"})
    assert webhook_address("https://other", UUID(int=5), configured, ACCOUNT) == "https://us/api/webhook/zapi/k"
