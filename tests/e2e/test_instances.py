"""Numbers come and go: connected by QR code, lost by their gateway, banned, refused; and their campaigns with them."""

import secrets
from collections.abc import Iterator

import pytest

from numbers_in_town import Town, running_town
from pombo.stack import RunFolder
from pombo.stack.stack import EVOLUTION_KEY
from stack import run_folder

pytestmark = [pytest.mark.stack, pytest.mark.timeout(300)]
GRACE_S = 4.0
ZAPI_CLIENT_TOKEN = "zapi-client-token"


@pytest.fixture(scope="module")
def folder() -> Iterator[RunFolder]:
    with run_folder("instances") as made:
        yield made


@pytest.fixture(scope="module")
def town(folder: RunFolder) -> Iterator[Town]:
    with running_town(folder, GRACE_S) as running:
        yield running


def connected_web(town: Town, name: str) -> str:
    """A WhatsApp Web number at Evolution, its QR code scanned."""
    instance_id = town.make_instance(name, "evolution_web", instance_name=name, credentials={"apikey": EVOLUTION_KEY})
    with town.nobody_scans_by_chance():
        town.connect(name)
        town.wait_qr_code(name)
    town.scan(name)
    town.wait_status(name, "connected")
    return instance_id


def test_a_web_number_lives_from_its_qr_code_to_its_log_out(town: Town) -> None:
    name = "loja-centro"
    instance_id = town.make_instance(name, "evolution_web", instance_name=name, credentials={"apikey": EVOLUTION_KEY})
    with town.nobody_scans_by_chance():
        assert town.connect(name)["status"] == "initializing"
        assert town.wait_qr_code(name).startswith("data:image/png;base64,")
    at_gateway = town.number(name)
    assert at_gateway["callback_url"] == f"{town.stack.addresses.webhooks}/api/webhook/evolution/{instance_id}"
    assert at_gateway["callback_headers"]["apikey"]

    town.scan(name)
    connected = town.wait_status(name, "connected")
    assert connected["qrCode"] is None
    assert connected["phoneNumber"] == town.number(name)["phone"]

    delivered = town.start_campaign("Abertura", [instance_id])
    town.wait_figures(delivered, status="completed", delivered=3)

    under_way = town.start_campaign("Despedida", [instance_id], people=6, delay_s=2)
    town.wait(lambda: town.statistics(under_way), lambda found: found["sent_count"] > 0, "the first message")
    town.disconnect(name)
    town.wait_status(name, "disconnected")
    assert town.number(name)["state"] == "close"
    sent = len(town.simulator.messages_of(name))
    assert sent < 9
    assert town.wait_reason(under_way, "instance_stopped")["detail"] == "disconnected"
    town.wait_figures(under_way, status="failed", sent_count=sent - 3, failed_count=0)
    assert town.campaign(under_way)["failure_reason"] == "no_usable_instance"
    assert len(town.simulator.messages_of(name)) == sent

    assert town.api.call("DELETE", f"/api/instances/{instance_id}").json()["success"]
    town.wait(lambda: town.number(name), lambda found: found == {}, "the gateway to forget it")


def test_a_number_whose_gateway_lost_its_session_is_made_again(town: Town) -> None:
    name = "loja-norte"
    instance_id = connected_web(town, name)
    town.simulator.remove_number(name)
    campaign_id = town.start_campaign("De volta", [instance_id])
    assert town.wait_reason(campaign_id, "instance_blocked")["detail"] == "breaker: no_such_instance"
    with town.nobody_scans_by_chance():
        town.connect(name)
        town.wait_qr_code(name)
        assert town.number(name)["state"] == "connecting"
        assert town.wait_reason(campaign_id, "instance_blocked")["detail"] == "breaker: connecting"
        assert town.statistics(campaign_id)["sent_count"] == 0
    town.scan(name)
    town.wait_status(name, "connected")
    town.wait_figures(campaign_id, status="completed", delivered=3, failed_count=0)
    assert len(town.simulator.messages_of(name)) == 3


def test_a_zapi_number_sends_and_hears(town: Town) -> None:
    name, number, token = "loja-sul", "3C0FFEE000000000000000000000BBBB", secrets.token_hex(12).upper()
    town.simulator.add_number(
        kind="zapi", id=number, token=token, phone="5511988887777", state="close",
        behaviour={"qr_scan_after_s": -1},
    )  # fmt: skip
    credentials = {"instance_id": number, "token": token, "client_token": ZAPI_CLIENT_TOKEN}
    instance_id = town.make_instance(name, "zapi", credentials=credentials)
    town.connect(name)
    assert town.wait_qr_code(name).startswith("data:image/png;base64,")
    door = f"{town.stack.addresses.webhooks}/api/webhook/zapi/"
    address = town.number(number)["callback_url"]
    assert address.startswith(door)
    assert len(address.removeprefix(door)) >= 32  # a secret that nobody guesses

    town.scan(number)
    assert town.wait_status(name, "connected")["phoneNumber"] == "5511988887777"
    campaign_id = town.start_campaign("Z", [instance_id])
    town.wait_figures(campaign_id, status="completed", read=3)

    town.api.post(f"/api/instances/{instance_id}/webhook-key")
    town.wait(lambda: town.number(number)["callback_url"], lambda now: now != address, "the new secret")
    assert town.status(name)["status"] == "connected"
    campaign_id = town.start_campaign("Z de novo", [instance_id])
    town.wait_figures(campaign_id, status="completed", read=3)


def test_wrong_credentials_stop_a_number_until_they_are_put_right(town: Town) -> None:
    number, token, app_secret = "100000000000009", secrets.token_urlsafe(24), secrets.token_urlsafe(24)
    town.simulator.add_number(
        kind="meta", id=number, phone="5511988886666", token=token, app_secret=app_secret,
        callback_url=f"{town.stack.addresses.webhooks}/api/webhook/meta",
    )  # fmt: skip
    instance_id = town.make_instance(
        "loja-oeste", "meta_cloud", phone_number_id=number,
        credentials={"access_token": "expired", "app_secret": app_secret},
    )  # fmt: skip
    campaign_id = town.start_campaign("Meta", [instance_id])
    stopped = town.wait(
        lambda: town.api.get(f"/api/instances/{instance_id}"), lambda found: found["breaker"] is not None, "breaker"
    )
    assert (stopped["breaker"], stopped["breaker_until"]) == ("credentials", None)
    assert town.wait_reason(campaign_id, "instance_blocked")["detail"] == "breaker: credentials"
    town.wait_figures(campaign_id, status="failed", sent_count=0)
    failed = town.campaign(campaign_id)
    assert (failed["failure_reason"], failed["failure_detail"]) == ("credentials_refused", "credentials")

    town.api.patch(f"/api/instances/{instance_id}", json={"credentials": {"access_token": token}})
    town.api.put(f"/api/campaigns/{campaign_id}/resume")
    town.wait_figures(campaign_id, status="completed", delivered=3, failed_count=0)
    assert town.api.get(f"/api/instances/{instance_id}")["breaker"] is None


def test_a_ban_fails_the_campaigns_that_have_no_other_number(town: Town) -> None:
    name = "loja-leste"
    banned, spare = connected_web(town, name), connected_web(town, "reserva")
    town.simulator.change_number(name, state="banned")
    town.wait(lambda: town.api.get(f"/api/instances/{banned}"), lambda found: found["status"] == "banned", "the ban")
    alone = town.start_campaign("Sem reserva", [banned])
    with_spare = town.start_campaign("Com reserva", [banned, spare])
    town.wait_figures(with_spare, status="completed", delivered=3)
    town.wait_figures(alone, status="failed", sent_count=0)
    failed = town.campaign(alone)
    assert (failed["failure_reason"], failed["failure_detail"]) == ("no_usable_instance", "banned")
    assert town.simulator.messages_of(name) == []

    # The ban was lifted: a person connects the number again, says that it may be used, and resumes.
    town.simulator.change_number(name, state="close")
    town.connect(name)
    town.wait_status(name, "connected")
    town.api.patch(f"/api/instances/{banned}", json={"status": "active"})
    town.api.put(f"/api/campaigns/{alone}/resume")
    town.wait_figures(alone, status="completed", delivered=3)
