"""Z-API over HTTP."""

from itertools import count
from typing import Any

import pytest

from simulated_providers import Receiver, Simulator, eventually

ids = count(1)
PLAIN = "5531999990001"
TOKEN = {"Client-Token": "zapi-client-token"}


class Instance:
    """One instance's address."""

    def __init__(self, simulated: Simulator, name: str) -> None:
        self.simulated, self.name = simulated, name

    async def call(self, verb: str, method: str, body: Any = None, **headers: str) -> tuple[int, Any]:
        path = f"/instances/{self.name}/token/t-{self.name}/{method}"
        return await self.simulated.call(verb, path, body, {**TOKEN, **headers})

    async def send(self, phone: str = PLAIN, text: str = "Olá", **more: Any) -> tuple[int, Any]:
        return await self.call("POST", "send-text", {"phone": phone, "message": text, **more})


async def make(simulated: Simulator, hooks: Receiver | None = None, **fields: Any) -> Instance:
    name = f"3A{next(ids):030d}"
    url = f"{hooks.url}/zapi" if hooks else ""
    fixture = {"kind": "zapi", "id": name, "token": f"t-{name}", "callback_url": url, **fields}
    await simulated.control("POST", "numbers", fixture)
    return Instance(simulated, name)


async def test_the_tokens_are_checked(simulated: Simulator) -> None:
    instance = await make(simulated)
    base = f"/instances/{instance.name}/token"
    assert await simulated.call("GET", f"{base}/wrong/status", headers=TOKEN) == (
        400, {"error": "Instance not found"},
    )  # fmt: skip
    assert await simulated.call("GET", f"{base}/t-{instance.name}/status") == (
        400, {"error": "your client-token is not configured"},
    )  # fmt: skip
    wrong = {"Client-Token": "X"}
    assert await simulated.call("GET", f"{base}/t-{instance.name}/status", headers=wrong) == (
        403, {"error": "Client-Token X not allowed"},
    )  # fmt: skip


async def test_verbs_and_bodies_are_checked(simulated: Simulator) -> None:
    instance = await make(simulated)
    assert (await instance.call("GET", "send-text"))[0] == 405
    assert (await instance.call("GET", "nothing"))[0] == 404
    assert (await instance.call("POST", "send-text"))[0] == 415
    assert (await instance.call("POST", "send-text", {"phone": PLAIN}))[0] == 400
    assert (await instance.send(delayMessage=16))[0] == 400
    location = {"phone": PLAIN, "title": "x", "address": "y", "latitude": -19.9, "longitude": "-43.9"}
    assert (await instance.call("POST", "send-location", location))[0] == 400
    image = {"phone": PLAIN, "image": "http://cdn.example/a.jpg"}
    assert (await instance.call("POST", "send-image", image))[0] == 400


async def test_a_message_is_queued_sent_delivered_and_read(simulated: Simulator, hooks: Receiver) -> None:
    instance = await make(simulated, hooks)
    status, answer = await instance.send("5531999990002")
    assert status == 200
    assert answer["id"] == answer["messageId"]
    await eventually(lambda: len(hooks.events("MessageStatusCallback")) == 3)
    (delivery,) = hooks.events("DeliveryCallback")
    assert (delivery["messageId"], delivery["zaapId"]) == (answer["messageId"], answer["zaapId"])
    assert delivery["phone"] == "553199990002"
    assert "error" not in delivery
    statuses = [callback["status"] for callback in hooks.events("MessageStatusCallback")]
    assert statuses == ["SENT", "RECEIVED", "READ"]
    assert all(hook.headers["z-api-token"] == f"t-{instance.name}" for hook in hooks.received)


async def test_the_queue_is_sequential_can_be_listed_and_purged(simulated: Simulator, hooks: Receiver) -> None:
    instance = await make(simulated, hooks)
    await simulated.control("PATCH", f"numbers/{instance.name}", {"state": "close"})
    sent = [(await instance.send(f"553199999000{i}"))[1] for i in range(1, 6)]
    _, page = await instance.call("POST", "queue", {"pageSize": 2})
    assert [entry["MessageId"] for entry in page["messages"]] == [sent[0]["messageId"], sent[1]["messageId"]]
    assert page["hasMore"] is True
    _, rest = await instance.call("POST", "queue", {"pageSize": 30, "pagingState": page["pagingState"]})
    assert len(rest["messages"]) == 3
    assert (await instance.call("DELETE", f"queue/{sent[1]['zaapId']}"))[0] == 200
    await simulated.control("PATCH", f"numbers/{instance.name}", {"state": "open"})
    await eventually(lambda: len(hooks.events("DeliveryCallback")) == 4)
    lines = await eventually(
        lambda: len(found := simulated.lines("queue_departed", number=instance.name)) == 4 and found
    )
    assert [line["message_id"] for line in lines] == [sent[i]["messageId"] for i in (0, 2, 3, 4)]
    assert hooks.events("DisconnectedCallback")
    assert hooks.events("ConnectedCallback")


async def test_the_whole_queue_can_be_purged(simulated: Simulator) -> None:
    instance = await make(simulated)
    await simulated.control("PATCH", f"numbers/{instance.name}", {"state": "close"})
    await instance.send()
    assert (await instance.call("DELETE", "queue"))[0] == 200
    _, page = await instance.call("POST", "queue", {"pageSize": 30})
    assert page["messages"] == []


async def test_enqueueing_while_disconnected_can_be_switched_off(simulated: Simulator) -> None:
    instance = await make(simulated)
    off = {"disableEnqueueWhenDisconnected": True}
    assert await instance.call("PUT", "update-queue-settings", off) == (200, {"success": True})
    assert (await instance.call("GET", "disconnect"))[1] == {"value": True}
    assert (await instance.call("GET", "status"))[1]["connected"] is False
    assert (await instance.send())[0] == 400


async def test_pairing_by_qr_code(simulated: Simulator, hooks: Receiver) -> None:
    instance = await make(simulated, hooks, state="close")
    assert "value" in (await instance.call("GET", "qr-code"))[1]
    _, image = await instance.call("GET", "qr-code/image")
    assert image["value"].startswith("data:image/png;base64,")
    await eventually(lambda: hooks.events("ConnectedCallback"))
    assert (await instance.call("GET", "qr-code"))[1] == {"connected": True}


async def test_an_unpaid_instance_refuses_and_still_hears(simulated: Simulator, hooks: Receiver) -> None:
    instance = await make(simulated, hooks, state="unpaid")
    status, answer = await instance.send()
    assert status == 400
    assert "subscribe" in answer["error"]
    assert (await instance.call("GET", "status"))[1]["connected"] is True
    inbound = {"number": instance.name, "phone": PLAIN, "text": "oi"}
    await simulated.control("POST", "inbound", inbound)
    (received,) = await eventually(lambda: hooks.events("ReceivedCallback"))
    assert received["text"] == {"message": "oi"}
    assert received["fromMe"] is False


@pytest.mark.parametrize(
    ("suffix", "error", "code"),
    [
        ("01", "Phone number does not exist", None),
        ("02", "Phone number does not exist", None),
        ("28", "The message was not sent due to a likely shadow ban", "SHADOW_BAN"),
        ("03", "Phone number does not exist", None),
    ],
)
async def test_failures_show_in_the_delivery_callback_only(
    simulated: Simulator, hooks: Receiver, suffix: str, error: str, code: str | None
) -> None:
    instance = await make(simulated, hooks)
    assert (await instance.send(f"55319996600{suffix}"))[0] == 200
    (delivery,) = await eventually(lambda: hooks.events("DeliveryCallback"))
    assert (delivery["error"], delivery.get("errorCode")) == (error, code)


async def test_our_own_messages_are_echoed_on_request(simulated: Simulator, hooks: Receiver) -> None:
    instance = await make(simulated, hooks)
    every = {"value": f"{hooks.url}/all", "notifySentByMe": True}
    assert (await instance.call("PUT", "update-every-webhooks", every))[0] == 200
    _, answer = await instance.send()
    (echo,) = await eventually(lambda: hooks.events("ReceivedCallback"))
    assert (echo["messageId"], echo["fromMe"], echo["fromApi"]) == (answer["messageId"], True, True)
    assert {hook.path for hook in hooks.received} == {"/all"}


async def test_one_webhook_can_have_its_own_url_which_must_be_https(simulated: Simulator, hooks: Receiver) -> None:
    instance = await make(simulated, hooks)
    plain = {"value": "http://elsewhere.example/x"}
    assert (await instance.call("PUT", "update-webhook-delivery", plain))[0] == 400
    own = {"value": f"{hooks.url}/delivery"}
    assert (await instance.call("PUT", "update-webhook-delivery", own))[0] == 200
    await instance.send("5531999660010")
    await eventually(lambda: len(hooks.received) == 2)
    assert {hook.path: hook.body["type"] for hook in hooks.received} == {
        "/delivery": "DeliveryCallback", "/zapi": "MessageStatusCallback",
    }  # fmt: skip


async def test_phones_can_be_looked_up(simulated: Simulator) -> None:
    instance = await make(simulated)
    _, found = await instance.call("GET", "phone-exists/5531999990002")
    assert found[0]["exists"] is True
    assert found[0]["phone"] == "553199990002"
    _, batch = await instance.call("POST", "phone-exists-batch", {"phones": [PLAIN, "5531999660001"]})
    assert [entry["exists"] for entry in batch] == [True, False]


async def test_a_partner_makes_instances(simulated: Simulator) -> None:
    path, body = "/instances/integrator/on-demand", {"name": "nova"}
    assert (await simulated.call("POST", path, body, {"Authorization": "Bearer no"}))[0] == 401
    partner = {"Authorization": "Bearer zapi-partner-token"}
    _, made = await simulated.call("POST", path, body, partner)
    status = f"/instances/{made['id']}/token/{made['token']}/status"
    assert (await simulated.call("GET", status, headers=TOKEN))[1]["connected"] is False
