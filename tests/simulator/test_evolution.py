"""Evolution v2 over HTTP, both integrations."""

import asyncio
from itertools import count
from typing import Any

import pytest

from simulated_providers import Receiver, Simulator, eventually

KEY = {"apikey": "evolution-global-key"}
ids = count(1)
PLAIN = "5531999990001"


async def create(simulated: Simulator, hooks: Receiver | None = None, **fields: Any) -> tuple[str, str]:
    """An instance and its token."""
    name = f"loja{next(ids)}"
    body: dict[str, Any] = {"instanceName": name, "integration": "WHATSAPP-BAILEYS", "qrcode": True, **fields}
    if hooks is not None:
        body["webhook"] = {"url": f"{hooks.url}/evo", "headers": {"x-hook-token": "s"}, "events": []}
    status, answer = await simulated.call("POST", "/instance/create", body, KEY)
    assert status == 201, answer
    return name, answer["hash"]


async def open_instance(simulated: Simulator, hooks: Receiver | None = None) -> tuple[str, str]:
    name, token = await create(simulated, hooks)

    async def is_open() -> bool:
        _, answer = await simulated.call("GET", f"/instance/connectionState/{name}", headers=KEY)
        return bool(answer["instance"]["state"] == "open")

    await eventually(is_open)
    return name, token


async def send(simulated: Simulator, name: str, to: str = PLAIN, text: str = "Olá", **more: Any) -> tuple[int, Any]:
    return await simulated.call("POST", f"/message/sendText/{name}", {"number": to, "text": text, **more}, KEY)


async def test_an_instance_is_paired_by_qr_code(simulated: Simulator, hooks: Receiver) -> None:
    name, _ = await create(simulated, hooks)
    _, connecting = await simulated.call("GET", f"/instance/connect/{name}", headers=KEY)
    assert connecting["base64"].startswith("data:image/png;base64,")
    assert connecting["code"].startswith("2@")
    await eventually(lambda: [e for e in hooks.events("connection.update") if e["data"]["state"] == "open"])
    states = [event["data"]["state"] for event in hooks.events("connection.update")]
    assert states == ["connecting", "open"]
    assert hooks.events("qrcode.updated")[0]["data"]["qrcode"]["instance"] == name
    assert all(hook.headers["x-hook-token"] == "s" for hook in hooks.received)
    _, connected = await simulated.call("GET", f"/instance/connect/{name}", headers=KEY)
    assert connected == {"instance": {"instanceName": name, "state": "open"}}


@pytest.mark.parametrize(
    ("path", "headers", "status"),
    [
        ("/instance/connectionState/none", KEY, 404),
        ("/instance/connectionState/none", {"apikey": "wrong"}, 401),
        ("/instance/connectionState/none", {}, 401),
        ("/instance/fetchInstances", {"apikey": "wrong"}, 401),
        ("/instance/nothing/none", KEY, 404),
    ],
)
async def test_keys_and_paths_are_checked(
    simulated: Simulator, path: str, headers: dict[str, str], status: int
) -> None:
    got, answer = await simulated.call("GET", path, headers=headers)
    assert got == status
    assert answer["status"] == status


async def test_an_instances_token_sees_only_itself(simulated: Simulator) -> None:
    (one, token), (other, _) = await create(simulated), await create(simulated)
    _, listed = await simulated.call("GET", "/instance/fetchInstances", headers={"apikey": token})
    assert [entry["name"] for entry in listed] == [one]
    status, _ = await simulated.call("GET", f"/instance/connectionState/{other}", headers={"apikey": token})
    assert status == 401


@pytest.mark.parametrize(
    ("body", "status", "message"),
    [
        ({"integration": "WHATSAPP-BAILEYS"}, 400, [['instance requires property "instanceName"']]),
        ({"instanceName": "x"}, 400, ["Invalid integration"]),
        ({"instanceName": "x", "integration": "WHATSAPP-BAILEYS", "webhook": {"url": "http://x"}}, 400,
         [['instance.webhook requires property "events"']]),
    ],
)  # fmt: skip
async def test_create_is_strict(simulated: Simulator, body: dict[str, Any], status: int, message: Any) -> None:
    got, answer = await simulated.call("POST", "/instance/create", body, KEY)
    assert (got, answer["response"]["message"]) == (status, message)


async def test_a_name_in_use_is_refused(simulated: Simulator) -> None:
    name, _ = await create(simulated)
    body = {"instanceName": name, "integration": "WHATSAPP-BAILEYS"}
    assert (await simulated.call("POST", "/instance/create", body, KEY))[0] == 403


async def test_a_send_answers_the_key_and_its_events_follow(simulated: Simulator, hooks: Receiver) -> None:
    name, token = await open_instance(simulated, hooks)
    status, answer = await simulated.call(
        "POST", f"/message/sendText/{name}", {"number": "5531999990002", "text": "Olá"}, {"apikey": token}
    )
    assert status == 201
    assert answer["key"]["remoteJid"] == "553199990002@s.whatsapp.net"
    assert answer["status"] == "PENDING"
    message_id = answer["key"]["id"]
    await eventually(lambda: len(hooks.events("messages.update")) == 3)
    updates = [event["data"] for event in hooks.events("messages.update")]
    assert {update["keyId"] for update in updates} == {message_id}
    assert [update["status"] for update in updates] == ["SERVER_ACK", "DELIVERY_ACK", "READ"]
    assert hooks.events("send.message")[0]["data"]["key"]["id"] == message_id
    assert hooks.events("send.message")[0]["date_time"].endswith("Z")


@pytest.mark.parametrize(
    ("body", "message"),
    [
        ({"number": PLAIN}, [['instance requires property "text"']]),
        ({"text": "x"}, [['instance requires property "number"']]),
        ({"number": PLAIN, "textMessage": {"text": "x"}}, [['instance requires property "text"']]),
        ({"number": PLAIN, "text": 5}, [["instance.text is not of a type(s) string"]]),
    ],
)
async def test_a_send_is_validated(simulated: Simulator, body: dict[str, Any], message: Any) -> None:
    name, _ = await open_instance(simulated)
    status, answer = await simulated.call("POST", f"/message/sendText/{name}", body, KEY)
    assert (status, answer["response"]["message"]) == (400, message)


@pytest.mark.parametrize(
    ("suffix", "status", "message"),
    [
        ("01", 400, [{"jid": "5531999660001@s.whatsapp.net", "exists": False, "number": "5531999660001"}]),
        ("15", 500, "Connection Closed"),
        ("17", 400, ["Error: Timed Out"]),
    ],
)
async def test_cards_answer_as_evolution_does(simulated: Simulator, suffix: str, status: int, message: Any) -> None:
    name, _ = await open_instance(simulated)
    got, answer = await send(simulated, name, f"55319996600{suffix}")
    assert (got, answer["response"]["message"]) == (status, message)


@pytest.mark.parametrize(("suffix", "code"), [("15", 500), ("17", None)])
async def test_an_answer_that_proves_that_nothing_left_has_its_code_in_the_log(
    simulated: Simulator, suffix: str, code: int | None
) -> None:
    name, _ = await open_instance(simulated)
    await send(simulated, name, f"55319996600{suffix}")
    (line,) = await eventually(lambda: simulated.lines("request_open", number=name))
    assert line["code"] == code


@pytest.mark.parametrize("suffix", ["03", "19"])
async def test_what_whatsapp_dislikes_is_an_error_without_a_cause(
    simulated: Simulator, hooks: Receiver, suffix: str
) -> None:
    name, _ = await open_instance(simulated, hooks)
    assert (await send(simulated, name, f"55319996600{suffix}"))[0] == 201
    (update,) = await eventually(lambda: hooks.events("messages.update"))
    assert update["data"]["status"] == "ERROR"
    assert "code" not in update["data"]


async def test_a_closed_instance_does_not_send(simulated: Simulator, hooks: Receiver) -> None:
    name, _ = await open_instance(simulated, hooks)
    await simulated.control("PATCH", f"numbers/{name}", {"state": "banned"})
    assert (await send(simulated, name))[1]["response"]["message"] == "Connection Closed"
    await eventually(lambda: hooks.events("status.instance"))
    closed = [e["data"] for e in hooks.events("connection.update") if e["data"]["state"] == "close"]
    assert closed[0]["statusReason"] == 403


async def test_a_4xx_answer_loses_the_event_and_a_5xx_does_not(simulated: Simulator, hooks: Receiver) -> None:
    name, _ = await open_instance(simulated, hooks)
    await eventually(lambda: simulated.lines("webhook", number=name, kind="connection.update"))
    before = len(hooks.received)
    hooks.answers = [422]
    await simulated.control("POST", "event", {"number": name, "event": "call", "data": {"id": "1"}})
    (line,) = await eventually(lambda: simulated.lines("webhook", number=name, kind="call"))
    assert line["http_status"] == 422
    hooks.answers = [503]
    await simulated.control("POST", "event", {"number": name, "event": "call", "data": {"id": "2"}})
    await eventually(lambda: len(hooks.received) == before + 3)
    assert [hook.body["data"]["id"] for hook in hooks.received[before:]] == ["1", "2", "2"]


async def test_webhook_set_wants_the_nested_body(simulated: Simulator, hooks: Receiver) -> None:
    name, _ = await open_instance(simulated)
    flat = {"enabled": True, "url": f"{hooks.url}/x", "events": ["MESSAGES_UPSERT"]}
    assert (await simulated.call("POST", f"/webhook/set/{name}", flat, KEY))[0] == 400
    nested = {"webhook": {**flat, "byEvents": True, "headers": {"jwt_key": "k"}}}
    assert (await simulated.call("POST", f"/webhook/set/{name}", nested, KEY))[0] == 201
    await simulated.control("POST", "inbound", {"number": name, "phone": PLAIN, "text": "oi"})
    (hook,) = await eventually(lambda: hooks.received)
    assert hook.path == "/x/messages-upsert"
    assert hook.headers["Authorization"].startswith("Bearer ey")
    assert hook.body["data"]["message"] == {"conversation": "oi"}
    assert hook.body["data"]["key"]["remoteJid"] == f"{PLAIN}@s.whatsapp.net"
    await send(simulated, name)
    await eventually(lambda: simulated.lines("request_closed", number=name))
    assert len(hooks.received) == 1  # SEND_MESSAGE is not subscribed


async def test_numbers_and_messages_can_be_looked_up(simulated: Simulator) -> None:
    name, _ = await open_instance(simulated)
    _, found = await simulated.call("POST", f"/chat/whatsappNumbers/{name}", {"numbers": [PLAIN, "5531999660001"]}, KEY)
    assert [entry["exists"] for entry in found] == [True, False]
    _, sent = await send(simulated, name, text="procura")
    span = {"gte": "2020-01-01T00:00:00Z", "lte": "2099-01-01T00:00:00Z"}
    where = {"key": {"fromMe": True}, "messageTimestamp": span}
    _, page = await simulated.call("POST", f"/chat/findMessages/{name}", {"where": where}, KEY)
    (record,) = page["messages"]["records"]
    assert record["key"]["id"] == sent["key"]["id"]
    assert record["message"] == {"conversation": "procura"}


async def test_only_2_4_honours_our_message_id_and_repeats_reach_the_person_once(simulated: Simulator) -> None:
    name, _ = await open_instance(simulated)
    mine = "3EB0A1B2C3D4E5F6A7B8C9"
    _, answer = await send(simulated, name, "5531999991234", messageId=mine)
    assert answer["key"]["id"] != mine
    await simulated.control("PATCH", "settings", {"evolution_version": "2.4.0"})
    try:
        for _ in range(2):
            _, answer = await send(simulated, name, "5531999991234", messageId=mine)
            assert answer["key"]["id"] == mine
        await simulated.control("PATCH", "settings", {"evolution_licensed": False})
        status, answer = await send(simulated, name)
        assert (status, answer["code"]) == (503, "LICENSE_REQUIRED")
        assert (await simulated.call("GET", "/"))[1]["version"] == "2.4.0"
    finally:
        await simulated.control("PATCH", "settings", {"evolution_version": "2.3.7", "evolution_licensed": True})
    found = (await simulated.control("GET", "messages?phone=5531999991234"))["messages"]
    assert len(found) == 2


async def test_restart_logout_and_delete(simulated: Simulator, hooks: Receiver) -> None:
    name, _ = await open_instance(simulated, hooks)
    assert (await simulated.call("PUT", f"/instance/restart/{name}", headers=KEY))[0] == 404
    assert (await simulated.call("POST", f"/instance/restart/{name}", headers=KEY))[0] == 200
    await eventually(lambda: [e["data"]["state"] for e in hooks.events("connection.update")].count("open") == 2)
    assert (await simulated.call("DELETE", f"/instance/logout/{name}", headers=KEY))[0] == 200
    assert (await simulated.call("DELETE", f"/instance/logout/{name}", headers=KEY))[0] == 400
    _, restarted = await simulated.call("POST", f"/instance/restart/{name}", headers=KEY)
    assert restarted["error"] is True
    assert (await simulated.call("DELETE", f"/instance/delete/{name}", headers=KEY))[0] == 200
    assert (await simulated.call("GET", f"/instance/connectionState/{name}", headers=KEY))[0] == 404
    await eventually(lambda: hooks.events("remove.instance"))
    assert hooks.events("logout.instance")[0]["data"] is None


async def test_delay_blocks_the_request(simulated: Simulator) -> None:
    name, _ = await open_instance(simulated)
    sending = asyncio.ensure_future(send(simulated, name, delay=50_000))  # one real second at this time scale
    await eventually(lambda: simulated.lines("request_open", number=name))
    assert not sending.done()
    assert (await sending)[0] == 201


async def cloud(simulated: Simulator, hooks: Receiver | None = None) -> tuple[str, str]:
    """A Cloud instance over a Meta number of the simulator."""
    pnid = f"20000{next(ids)}"
    await simulated.control("POST", "numbers", {"kind": "meta", "id": pnid, "token": f"meta-{pnid}"})
    return await create(
        simulated, hooks, integration="WHATSAPP-BUSINESS", token=f"meta-{pnid}", number=pnid, qrcode=False
    )


async def test_the_cloud_integration_passes_metas_refusal_on_as_201(simulated: Simulator) -> None:
    name, token = await cloud(simulated)
    assert token.startswith("meta-")
    status, answer = await send(simulated, name, "5531999660021")
    assert (status, answer["code"]) == (201, 131047)
    assert "key" not in answer
    _, answer = await simulated.call(
        "POST", f"/message/sendTemplate/{name}", {"number": PLAIN, "name": "none", "language": "pt_BR"}, KEY
    )
    assert answer["code"] == 132001


async def test_the_cloud_integration_reports_statuses_without_cause(simulated: Simulator, hooks: Receiver) -> None:
    name, _ = await cloud(simulated, hooks)
    status, answer = await send(simulated, name)
    assert status == 201
    assert answer["key"]["id"].startswith("wamid.")
    await eventually(lambda: len(hooks.events("messages.update")) == 3)
    updates = [event["data"] for event in hooks.events("messages.update")]
    assert [update["status"] for update in updates] == ["SENT", "DELIVERED", "READ"]
    assert not any(update["fromMe"] for update in updates)


async def test_the_cloud_integration_lacks_some_calls(simulated: Simulator) -> None:
    name, _ = await cloud(simulated)
    status, answer = await simulated.call("POST", f"/chat/whatsappNumbers/{name}", {"numbers": [PLAIN]}, KEY)
    assert status == 400
    assert answer["response"]["message"] == ["Method not available on WhatsApp Business API"]
