"""Two independent readings of the providers' pages meet: what `providers` builds and reads, and what is simulated."""

import hashlib
from collections.abc import Mapping
from itertools import count

import pytest

from providers.address import Address
from providers.calls import CallDone, CallFailed, Found, InstanceMade, QrAnswered, StateAnswered, WebhookTarget
from providers.events import ConnectionSeen, MessageSeen, QrSeen, StatusSeen, WebhookEvent
from providers.protocol import (
    Accepted,
    Account,
    Content,
    HttpRequest,
    OutboundMessage,
    Provider,
    ProviderName,
    Rejected,
    WebhookKeys,
)
from providers.registry import PROVIDERS
from simulated_providers import Receiver, Simulator, eventually

ids = count(1)
ANA = Address(phone="5531999990001")
CONTENTS = [
    Content("text", "Olá"),
    Content("image", "legenda", "https://cdn.example.test/a.jpg", mime_type="image/jpeg"),
    Content("video", "", "https://cdn.example.test/a.mp4"),
    Content("audio", "", "https://cdn.example.test/a.ogg"),
    Content("document", "", "https://cdn.example.test/a.pdf", filename="nota.pdf"),
]
TEMPLATE = Content(
    "template",
    template_name="promo",
    template_language="pt_BR",
    template_components=({"type": "body", "parameters": [{"type": "text", "text": "Ana"}]},),
)


async def call(simulated: Simulator, request: HttpRequest) -> tuple[int, Mapping[str, str], bytes]:
    async with simulated.http.request(
        request.method, request.url, headers=request.headers, data=request.body
    ) as response:
        return response.status, response.headers, await response.read()


def seen(provider: Provider, hooks: Receiver) -> list[WebhookEvent]:
    return [event for hook in hooks.received for event in provider.read_webhook(hook.raw)]


async def meta(simulated: Simulator, hooks: Receiver) -> Account:
    number = f"20000{next(ids)}"
    fixture = {"kind": "meta", "id": number, "token": f"T{number}", "app_secret": "app-secret"}
    await simulated.control("POST", "numbers", {**fixture, "callback_url": f"{hooks.url}/hook"})
    return Account("meta_cloud", simulated.url, phone_number_id=number, credentials={"access_token": f"T{number}"})


async def zapi(simulated: Simulator, hooks: Receiver) -> Account:
    name = f"3B{next(ids):030d}"
    await simulated.control("POST", "numbers", {"kind": "zapi", "id": name, "token": f"t{name}"})
    credentials = {"instance_id": name, "token": f"t{name}", "client_token": "zapi-client-token"}
    account = Account("zapi", simulated.url, credentials=credentials)
    for request in PROVIDERS["zapi"].webhook_requests(account, WebhookTarget(f"{hooks.url}/z/KEY", "KEY")):
        assert isinstance(PROVIDERS["zapi"].read_call(*await call(simulated, request)), CallDone)
    return account


async def evolution(simulated: Simulator, hooks: Receiver, kind: ProviderName = "evolution_web") -> Account:
    """Connected through the calls that the sender makes."""
    provider = PROVIDERS[kind]
    account = Account(
        kind, simulated.url, instance_name=f"duas{next(ids)}", credentials={"apikey": "evolution-global-key"}
    )
    answers = [
        provider.read_call(*await call(simulated, request))
        for request in provider.connect_requests(account, WebhookTarget(f"{hooks.url}/evo", "KEY"))
    ]
    assert isinstance(answers[0], InstanceMade)
    assert answers[0].token
    assert not any(isinstance(answer, CallFailed) for answer in answers), answers
    assert isinstance(answers[-1], QrAnswered | StateAnswered)

    async def is_open() -> bool:
        state = provider.read_call(*await call(simulated, provider.state_request(account)))
        return state == StateAnswered("open")

    await eventually(is_open)
    return account


MAKE = {"meta_cloud": meta, "zapi": zapi, "evolution_web": evolution}


@pytest.mark.parametrize("name", ["meta_cloud", "zapi", "evolution_web"])
async def test_every_kind_of_content_is_accepted_and_followed_to_the_end(
    simulated: Simulator, hooks: Receiver, name: ProviderName
) -> None:
    provider = PROVIDERS[name]
    account = await MAKE[name](simulated, hooks)
    sent: set[str] = set()
    for content in [*CONTENTS, TEMPLATE] if name == "meta_cloud" else CONTENTS:
        request = provider.build_request(OutboundMessage(ANA, content, f"{name}:{content.kind}:1"), account)
        outcome = provider.read_response(*await call(simulated, request))
        assert isinstance(outcome, Accepted), (content, outcome)
        sent.add(outcome.provider_message_id)

    def statuses() -> set[tuple[str, str]]:
        return {(event.id, event.status) for event in seen(provider, hooks) if isinstance(event, StatusSeen)}

    await eventually(lambda: {id for id, status in statuses() if status == "delivered"} >= sent)
    assert not [event for event in seen(provider, hooks) if event.key == ""]


@pytest.mark.parametrize("name", ["meta_cloud", "zapi", "evolution_web"])
async def test_webhooks_verify_with_the_right_key_only(
    simulated: Simulator, hooks: Receiver, name: ProviderName
) -> None:
    provider = PROVIDERS[name]
    account = await MAKE[name](simulated, hooks)
    request = provider.build_request(OutboundMessage(ANA, CONTENTS[0], "v:1"), account)
    await call(simulated, request)
    await eventually(lambda: [event for event in seen(provider, hooks) if isinstance(event, StatusSeen)])
    hashes = frozenset({hashlib.sha256(b"KEY").hexdigest()})
    right = WebhookKeys(signing_secrets=("app-secret",), key_hashes=hashes)
    wrong = WebhookKeys(signing_secrets=("other",), key_hashes=frozenset({hashlib.sha256(b"other").hexdigest()}))
    for hook in hooks.received:
        secret = hook.path.rpartition("/")[2] if name == "zapi" else None
        assert provider.verify(hook.headers, hook.raw, right, secret)
        assert not provider.verify(hook.headers, hook.raw, wrong, secret)


async def test_meta_gives_our_label_back(simulated: Simulator, hooks: Receiver) -> None:
    provider, account = PROVIDERS["meta_cloud"], await meta(simulated, hooks)
    await call(simulated, provider.build_request(OutboundMessage(ANA, CONTENTS[0], "dispatch:7"), account))
    (event, *_) = await eventually(lambda: [event for event in seen(provider, hooks) if isinstance(event, StatusSeen)])
    assert event.client_ref == "dispatch:7"
    assert event.channel == account.phone_number_id


async def test_an_evolution_instance_tells_of_its_pairing(simulated: Simulator, hooks: Receiver) -> None:
    provider = PROVIDERS["evolution_web"]
    account = await evolution(simulated, hooks)
    events = await eventually(
        lambda: [e for e in seen(provider, hooks) if isinstance(e, ConnectionSeen) and e.state == "open"]
    )
    assert events[0].channel == account.instance_name
    assert [event for event in seen(provider, hooks) if isinstance(event, QrSeen) and event.image]
    again = provider.connect_requests(account, WebhookTarget(f"{hooks.url}/evo", "KEY"))[0]
    refused = provider.read_call(*await call(simulated, again))
    assert isinstance(refused, CallFailed)
    assert refused.exists


async def test_an_uncertain_send_is_found_again(simulated: Simulator, hooks: Receiver) -> None:
    provider, account = PROVIDERS["evolution_web"], await evolution(simulated, hooks)
    message = OutboundMessage(ANA, Content("text", "procure por mim"), "dispatch:9")
    accepted = provider.read_response(*await call(simulated, provider.build_request(message, account)))
    assert isinstance(accepted, Accepted)
    stored = await eventually(lambda: [e for e in seen(provider, hooks) if isinstance(e, MessageSeen) and e.at_ms])
    at_ms = stored[0].at_ms or 0
    request = provider.look_up_request(message, account, since_ms=at_ms - 60_000, until_ms=at_ms + 60_000)
    assert request is not None
    found = provider.read_look_up(message, at_ms - 60_000, *await call(simulated, request))
    assert found == Found(accepted.provider_message_id)


async def test_wrong_credentials_stop_the_instance(simulated: Simulator, hooks: Receiver) -> None:
    for name, key in (("meta_cloud", "access_token"), ("zapi", "client_token"), ("evolution_web", "apikey")):
        provider = PROVIDERS[name]  # type: ignore[index]
        account = await MAKE[name](simulated, hooks)
        wrong = Account(
            account.kind, account.server_url, account.phone_number_id, account.instance_name,
            credentials={**account.credentials, key: "wrong"},
        )  # fmt: skip
        request = provider.build_request(OutboundMessage(ANA, CONTENTS[0], "w:1"), wrong)
        outcome = provider.read_response(*await call(simulated, request))
        assert isinstance(outcome, Rejected), (name, outcome)
        assert outcome.failure.action == "disable_instance"
