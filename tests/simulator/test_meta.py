"""Meta's Cloud API over HTTP."""

import asyncio
import hmac
from itertools import count
from typing import Any

import aiohttp
import pytest

from simulated_providers import Receiver, Simulator, eventually

ids = count(1)
PLAIN = "5531999990001"


def card(suffix: str) -> str:
    return f"55319996600{suffix}" if len(suffix) == 2 else suffix


async def make_number(simulated: Simulator, hooks: Receiver | None = None, **fields: Any) -> str:
    number_id = f"10000{next(ids)}"
    fixture = {
        "kind": "meta", "id": number_id, "token": f"T{number_id}", "app_secret": "app-secret",
        "callback_url": f"{hooks.url}/hook" if hooks else "", **fields,
    }  # fmt: skip
    await simulated.control("POST", "numbers", fixture)
    return number_id


async def send(simulated: Simulator, number_id: str, to: str = PLAIN, **body: Any) -> tuple[int, Any]:
    content = body or {"type": "text", "text": {"body": "Olá"}}
    return await simulated.call(
        "POST", f"/v23.0/{number_id}/messages", {"messaging_product": "whatsapp", "to": to, **content},
        {"Authorization": f"Bearer T{number_id}"},
    )  # fmt: skip


async def test_an_accepted_message_answers_a_wamid_and_the_canonical_number(simulated: Simulator) -> None:
    number_id = await make_number(simulated)
    status, answer = await send(simulated, number_id, "5531999990002")
    assert status == 200
    assert answer["contacts"] == [{"input": "5531999990002", "wa_id": "553199990002"}]
    assert answer["messages"][0]["id"].startswith("wamid.")


@pytest.mark.parametrize(
    ("header", "status", "code"),
    [({}, 401, 190), ({"Authorization": "Bearer wrong"}, 401, 190), ({"Authorization": "Basic T"}, 401, 190)],
)
async def test_a_wrong_token_is_refused(simulated: Simulator, header: dict[str, str], status: int, code: int) -> None:
    number_id = await make_number(simulated)
    got, answer = await simulated.call("POST", f"/v23.0/{number_id}/messages", {}, header)
    assert (got, answer["error"]["code"]) == (status, code)


async def test_another_numbers_token_lacks_the_permission(simulated: Simulator) -> None:
    one, other = await make_number(simulated), await make_number(simulated)
    status, answer = await simulated.call("POST", f"/v23.0/{one}/messages", {}, {"Authorization": f"Bearer T{other}"})
    assert (status, answer["error"]["code"]) == (403, 10)


@pytest.mark.parametrize(
    ("body", "code"),
    [
        ({"type": "text", "text": {"body": ""}}, 131008),
        ({"type": "text", "text": {"body": "x" * 4097}}, 131009),
        ({"type": "text"}, 131008),
        ({"type": "hologram"}, 131051),
        ({"type": "image", "image": {"link": "http://cdn.example/a.jpg"}}, 131009),
        ({"type": "image", "image": {}}, 100),
        ({"type": "image", "image": {"id": "404"}}, 131009),
        ({"type": "image", "image": {"link": "https://cdn.example/a.jpg", "caption": "x" * 1025}}, 131009),
        ({"type": "audio", "audio": {"link": "https://cdn.example/a.mp3", "caption": "x"}}, 100),
        ({"type": "location", "location": {"latitude": "x", "longitude": 1}}, 131008),
        ({"type": "template", "template": {"name": "none", "language": {"code": "pt_BR"}}}, 132001),
        ({"type": "template", "template": {"name": "promo", "language": {"code": "pt_BR"}}}, 132000),
        ({"type": "template", "template": {"name": "promo"}}, 131008),
        ({"type": "interactive", "interactive": {"type": "button", "body": {"text": "?"}, "action": {
            "buttons": [{"type": "reply", "reply": {"id": "1", "title": "x" * 21}}]}}}, 131009),
        ({"type": "interactive", "interactive": {"type": "list", "body": {"text": "?"}, "action": {
            "button": "Ver", "sections": [{"rows": [{"id": str(i), "title": "x"} for i in range(11)]}]}}}, 131009),
        ({"type": "reaction", "reaction": {"emoji": "x"}}, 131008),
        ({"type": "text", "text": {"body": "x"}, "biz_opaque_callback_data": "x" * 513}, 131009),
        ({"type": "text", "text": {"body": "x"}, "context": {}}, 131008),
        ({"type": "text", "text": {"body": "x"}, "to": "12"}, 131009),
        ({"type": "text", "text": {"body": "x"}, "to": "5511940000001"}, 131021),
        ({"type": "text", "text": {"body": "x"}, "messaging_product": "sms"}, 100),
    ],
)  # fmt: skip
async def test_an_invalid_body_is_refused_with_metas_code(
    simulated: Simulator, body: dict[str, Any], code: int
) -> None:
    number_id = await make_number(simulated)
    status, answer = await send(simulated, number_id, **body)
    assert answer["error"]["code"] == code
    assert status in (400, 404)


@pytest.mark.parametrize(
    "body",
    [
        {"type": "image", "image": {"link": "https://cdn.example/a.jpg", "caption": "x"}},
        {"type": "image", "image": {"link": "http://127.0.0.1:1/a.jpg"}},
        {"type": "location", "location": {"latitude": -19.9, "longitude": "-43.9", "name": "BH"}},
        {"type": "contacts", "contacts": [{"name": {"formatted_name": "Ana"}}]},
        {"type": "reaction", "reaction": {"message_id": "wamid.x", "emoji": ""}},
        {"type": "template", "template": {"name": "promo", "language": {"code": "pt_BR"}, "components": [
            {"type": "body", "parameters": [{"type": "text", "text": "Ana"}]}]}},
        {"type": "interactive", "interactive": {"type": "button", "body": {"text": "?"}, "action": {
            "buttons": [{"type": "reply", "reply": {"id": "sim", "title": "Sim"}}]}}},
    ],
)  # fmt: skip
async def test_every_valid_kind_is_accepted(simulated: Simulator, body: dict[str, Any]) -> None:
    assert (await send(simulated, await make_number(simulated), **body))[0] == 200


@pytest.mark.parametrize(("state", "code"), [("PAUSED", 132015), ("DISABLED", 132016), ("PENDING", 132001)])
async def test_a_template_that_is_not_approved_is_refused(simulated: Simulator, state: str, code: int) -> None:
    fixture = {"name": "t", "language": "pt_BR", "status": state, "body": "Oi"}
    number_id = await make_number(simulated, templates=[fixture])
    _, answer = await send(simulated, number_id, type="template", template={"name": "t", "language": {"code": "pt_BR"}})
    assert answer["error"]["code"] == code


async def test_the_throughput_is_enforced_exactly(simulated: Simulator) -> None:
    number_id = await make_number(simulated, limits={"mps": 10})
    answers = await asyncio.gather(*(send(simulated, number_id, f"553199999{1000 + i}") for i in range(40)))
    stats = (await simulated.control("GET", "stats"))["numbers"][number_id]
    taken = sorted(line["mono_ns"] for line in simulated.lines("request_open", number=number_id) if line["accepted"])
    for end in taken:
        assert sum(end - 1_000_000_000 < t <= end for t in taken) <= 10
    refused = [answer for status, answer in answers if status == 429]
    assert len(refused) + len(taken) == 40
    assert refused
    assert all(answer["error"]["code"] == 130429 for answer in refused)
    assert stats["fates"]["throttled"] == len(refused)
    assert stats["max_in_sliding_second"] >= 10


async def test_the_throttle_may_answer_400(simulated: Simulator) -> None:
    number_id = await make_number(simulated, limits={"mps": 0, "throttle_status": 400})
    status, answer = await send(simulated, number_id)
    assert (status, answer["error"]["code"]) == (400, 130429)


async def test_the_pair_rate_refuses_beyond_the_burst(simulated: Simulator) -> None:
    number_id = await make_number(simulated, limits={"pair_burst": 3, "pair_interval_s": 600})
    codes = [(await send(simulated, number_id))[0] for _ in range(4)]
    assert codes == [200, 200, 200, 400]
    assert (await send(simulated, number_id))[1]["error"]["code"] == 131056
    assert (await send(simulated, number_id, "5531999990004"))[0] == 200


async def test_free_form_needs_an_open_window_when_enforced(simulated: Simulator) -> None:
    number_id = await make_number(simulated, limits={"enforce_window": True})
    assert (await send(simulated, number_id))[1]["error"]["code"] == 131047
    await simulated.control("POST", "inbound", {"number": number_id, "phone": PLAIN, "text": "oi"})
    assert (await send(simulated, number_id))[0] == 200


async def test_beyond_the_messaging_limit_messages_are_accepted_and_fail(simulated: Simulator, hooks: Receiver) -> None:
    number_id = await make_number(simulated, hooks, limits={"unique_24h": 1})
    first = (await send(simulated, number_id, "5531999990001"))[1]["messages"][0]["id"]
    again = (await send(simulated, number_id, "5531999990001"))[1]["messages"][0]["id"]
    status, beyond = await send(simulated, number_id, "5531999990003")
    assert status == 200
    wanted = {(first, "read"), (again, "read"), (beyond["messages"][0]["id"], "failed")}
    await eventually(lambda: wanted <= set(hooks.statuses()))


async def test_statuses_are_signed_and_carry_the_label(simulated: Simulator, hooks: Receiver) -> None:
    number_id = await make_number(simulated, hooks)
    _, answer = await send(simulated, number_id, type="text", text={"body": "é"}, biz_opaque_callback_data="m:1")
    wamid = answer["messages"][0]["id"]
    await eventually(lambda: len(hooks.statuses()) == 3)
    assert {s for _, s in hooks.statuses()} == {"sent", "delivered", "read"}
    for hook in hooks.received:
        expected = "sha256=" + hmac.digest(b"app-secret", hook.raw, "sha256").hex()
        assert hook.headers["x-hub-signature-256"] == expected
        entry = hook.body["entry"][0]["changes"][0]["value"]["statuses"][0]
        assert entry["biz_opaque_callback_data"] == "m:1"
        assert entry["id"] == wamid
    assert await eventually(
        lambda: simulated.lines("webhook", number=number_id, items=[[wamid, "read"]], http_status=200)
    )


async def test_a_refused_webhook_is_tried_again(simulated: Simulator, hooks: Receiver) -> None:
    number_id = await make_number(simulated, hooks)
    hooks.answers = [503, 500]
    await send(simulated, number_id, card("10"))
    await eventually(lambda: len(hooks.received) == 3)
    assert len({hook.raw for hook in hooks.received}) == 1
    lines = await eventually(lambda: len(found := simulated.lines("webhook", number=number_id)) == 3 and found)
    assert [(line["attempt"], line["http_status"]) for line in lines] == [(1, 503), (2, 500), (3, 200)]


@pytest.mark.parametrize(
    ("suffix", "status", "code", "fate"),
    [
        ("01", 400, 131026, "rejected"), ("15", 503, 131016, "5xx"), ("19", 429, 130429, "throttled"),
        ("20", 400, 131056, "throttled"), ("21", 400, 131047, "rejected"), ("27", 500, 131000, "accepted_5xx"),
        ("28", 400, 131048, "rejected"),
    ],
)  # fmt: skip
async def test_cards_that_answer_an_error(simulated: Simulator, suffix: str, status: int, code: int, fate: str) -> None:
    number_id = await make_number(simulated)
    got, answer = await send(simulated, number_id, card(suffix))
    assert (got, answer["error"]["code"]) == (status, code)
    (line,) = await eventually(lambda: simulated.lines("request_open", number=number_id))
    assert line["fate"] == fate
    assert line["accepted"] is (fate == "accepted_5xx")


@pytest.mark.parametrize(("suffix", "status"), [("16", 500), ("17", 500), ("33", 200)])
async def test_cards_that_answer_something_unreadable(simulated: Simulator, suffix: str, status: int) -> None:
    number_id = await make_number(simulated)
    got, answer = await send(simulated, number_id, card(suffix))
    assert got == status
    assert isinstance(answer, str)


@pytest.mark.parametrize(("suffix", "status"), [("18", 429), ("34", 503)])
async def test_cards_that_fail_only_the_first_time(simulated: Simulator, suffix: str, status: int) -> None:
    number_id = await make_number(simulated)
    assert (await send(simulated, number_id, card(suffix)))[0] == status
    assert (await send(simulated, number_id, card(suffix)))[0] == 200


@pytest.mark.parametrize(("suffix", "accepted"), [("08", True), ("32", False)])
async def test_a_reset_connection_is_logged_with_its_truth(simulated: Simulator, suffix: str, accepted: bool) -> None:
    number_id = await make_number(simulated)
    with pytest.raises(aiohttp.ClientError):
        await send(simulated, number_id, card(suffix))
    (line,) = await eventually(lambda: simulated.lines("request_open", number=number_id))
    assert line["accepted"] is accepted
    (closed,) = await eventually(lambda: simulated.lines("request_closed", request=line["request"]))
    assert (closed["how"], closed["answered"]) == ("aborted", False)


async def test_a_lost_answer_is_accepted_open_and_then_left_by_the_client(
    simulated: Simulator, hooks: Receiver
) -> None:
    number_id = await make_number(simulated, hooks)
    sending = asyncio.ensure_future(send(simulated, number_id, card("07")))
    (line,) = await eventually(lambda: simulated.lines("request_open", number=number_id))
    assert (line["fate"], line["accepted"]) == ("lost_answer", True)
    opened = (await simulated.control("GET", "open"))["open"]
    assert [entry["number"] for entry in opened if entry["number"] == number_id] == [number_id]
    assert not simulated.lines("request_closed", request=line["request"])
    await eventually(lambda: (line["message_id"], "read") in hooks.statuses())
    sending.cancel()
    (closed,) = await eventually(lambda: simulated.lines("request_closed", request=line["request"]))
    assert (closed["how"], closed["answered"]) == ("client_gone", False)


@pytest.mark.parametrize(
    ("suffix", "statuses"),
    [
        ("02", ["failed"]), ("03", ["failed"]), ("10", ["sent"]), ("11", ["sent", "delivered"]),
        ("12", ["sent", "read"]), ("23", ["read", "delivered", "sent"]), ("29", ["sent", "delivered", "failed"]),
    ],
)  # fmt: skip
async def test_cards_with_a_fixed_journey(
    simulated: Simulator, hooks: Receiver, suffix: str, statuses: list[str]
) -> None:
    number_id = await make_number(simulated, hooks)
    assert (await send(simulated, number_id, card(suffix)))[0] == 200

    async def came() -> bool:
        found = (await simulated.control("GET", f"messages?phone={card(suffix)}"))["messages"]
        mine = [m for m in found if m["number"] == number_id]
        return [s["status"] for s in mine[0]["statuses"]] == statuses

    await eventually(came)
    await eventually(lambda: sorted(s for _, s in hooks.statuses()) == sorted(statuses))


async def test_a_card_can_answer_sair(simulated: Simulator, hooks: Receiver) -> None:
    number_id = await make_number(simulated, hooks)
    await send(simulated, number_id, card("13"))

    def inbound() -> list[Any]:
        values = [hook.body["entry"][0]["changes"][0]["value"] for hook in hooks.received]
        return [message for value in values for message in value.get("messages", ())]

    (message,) = await eventually(inbound)
    assert message["text"] == {"body": "SAIR"}
    assert message["from"] == "5531999660013"


async def test_a_card_can_answer_without_a_phone_number(simulated: Simulator, hooks: Receiver) -> None:
    number_id = await make_number(simulated, hooks)
    await send(simulated, number_id, card("30"))

    def inbound() -> list[Any]:
        values = [hook.body["entry"][0]["changes"][0]["value"] for hook in hooks.received]
        return [value for value in values if value.get("messages")]

    (value,) = await eventually(inbound)
    assert "from" not in value["messages"][0]
    assert "wa_id" not in value["contacts"][0]
    assert value["messages"][0]["from_user_id"].startswith("BR.")


async def test_card_22_sends_every_webhook_three_times(simulated: Simulator, hooks: Receiver) -> None:
    await send(simulated, await make_number(simulated, hooks), card("22"))
    await eventually(lambda: len(hooks.statuses()) == 9)
    assert len(set(hooks.statuses())) == 3


async def test_card_26_loses_every_webhook_although_it_is_read(simulated: Simulator, hooks: Receiver) -> None:
    number_id = await make_number(simulated, hooks)
    await send(simulated, number_id, card("26"))
    assert len(await eventually(lambda: simulated.lines("webhook_lost", number=number_id))) == 3

    async def read() -> bool:
        found = (await simulated.control("GET", f"messages?number={number_id}"))["messages"]
        return bool(found[0]["statuses"][-1:] != [] and found[0]["statuses"][-1]["status"] == "read")

    await eventually(read)
    assert hooks.received == []


async def test_card_24_reports_statuses_before_the_answer(simulated: Simulator, hooks: Receiver) -> None:
    number_id = await make_number(simulated, hooks)
    sending = asyncio.ensure_future(send(simulated, number_id, card("24")))
    await eventually(lambda: len(hooks.statuses()) == 3)
    assert not sending.done()
    status, answer = await sending
    assert (status, answer["messages"][0]["id"]) == (200, hooks.statuses()[0][0])


async def test_statuses_can_be_gathered_into_one_post(simulated: Simulator, hooks: Receiver) -> None:
    number_id = await make_number(simulated, hooks, behaviour={"sent_after_s": [1, 1]})
    await simulated.control("PATCH", "settings", {"delivery": {"webhook_batch": 5, "webhook_batch_ms": 2000}})
    try:
        await asyncio.gather(*(send(simulated, number_id, f"55319999600{i:02d}") for i in range(5)))
        await eventually(lambda: len(hooks.statuses()) == 15)
    finally:
        await simulated.control("PATCH", "settings", {"delivery": {"webhook_batch": 1}})
    assert len(hooks.received) <= 5


async def test_number_templates_media_and_history_can_be_read(simulated: Simulator) -> None:
    number_id = await make_number(simulated, waba=f"W{next(ids)}")
    header = {"Authorization": f"Bearer T{number_id}"}
    fields = "display_phone_number,quality_rating,throughput,whatsapp_business_manager_messaging_limit"
    _, node = await simulated.call("GET", f"/v23.0/{number_id}?fields={fields}", headers=header)
    assert node["throughput"] == {"level": "STANDARD"}
    assert node["id"] == number_id
    waba = (await simulated.control("GET", f"numbers/{number_id}"))["waba"]
    _, listed = await simulated.call("GET", f"/v23.0/{waba}/message_templates?limit=2", headers=header)
    assert len(listed["data"]) == 2
    assert "next" in listed["paging"]
    form = aiohttp.FormData()
    form.add_field("messaging_product", "whatsapp")
    form.add_field("file", b"\xff\xd8jpeg", filename="a.jpg", content_type="image/jpeg")
    url = f"{simulated.url}/v23.0/{number_id}/media"
    async with simulated.http.post(url, data=form, headers=header) as response:
        media_id = (await response.json())["id"]
    _, media = await simulated.call("GET", f"/v23.0/{media_id}", headers=header)
    assert (media["mime_type"], media["file_size"]) == ("image/jpeg", 6)
    async with simulated.http.get(media["url"], headers=header) as response:
        assert await response.read() == b"\xff\xd8jpeg"
    status, answer = await send(simulated, number_id, type="image", image={"id": media_id})
    assert status == 200
    wamid = answer["messages"][0]["id"]
    path = f"/v23.0/{number_id}/message_history?message_id={wamid.replace('=', '%3D').replace('+', '%2B')}"
    _, history = await simulated.call("GET", path, headers=header)
    assert history["data"] == [{"id": wamid, "message_id": wamid}]
    _, events = await simulated.call("GET", f"/v23.0/{wamid}/events", headers=header)
    assert events["data"][-1]["delivery_status"] == "ACCEPTED"


async def test_subscribing_with_a_callback_does_the_handshake(simulated: Simulator, hooks: Receiver) -> None:
    number_id = await make_number(simulated)
    waba = f"waba-{number_id}"
    header = {"Authorization": f"Bearer T{number_id}"}
    body = {"override_callback_uri": f"{hooks.url}/here", "verify_token": "v"}
    assert await simulated.call("POST", f"/v23.0/{waba}/subscribed_apps", body, header) == (200, {"success": True})
    await send(simulated, number_id, card("10"))
    await eventually(lambda: [hook.path for hook in hooks.received] == ["/here"])
    body["override_callback_uri"] = "http://127.0.0.1:1/nobody"
    status, answer = await simulated.call("POST", f"/v23.0/{waba}/subscribed_apps", body, header)
    assert (status, answer["error"]["code"]) == (400, 2200)


async def test_account_events_and_template_changes_can_be_posted(simulated: Simulator, hooks: Receiver) -> None:
    number_id = await make_number(simulated, hooks)
    value = {"event": "FLAGGED", "display_phone_number": "5511940000001"}
    event = {"number": number_id, "field": "phone_number_quality_update", "value": value}
    await simulated.control("POST", "event", event)
    await simulated.control("POST", "event", {"number": number_id, "template": "promo", "status": "PAUSED"})
    changes = await eventually(
        lambda: len(found := [h.body["entry"][0]["changes"][0] for h in hooks.received]) == 2 and found
    )
    assert {change["field"] for change in changes} == {
        "phone_number_quality_update", "message_template_status_update",
    }  # fmt: skip
    template = {"name": "promo", "language": {"code": "pt_BR"}}
    assert (await send(simulated, number_id, type="template", template=template))[1]["error"]["code"] == 132015


async def test_a_banned_number_is_refused(simulated: Simulator) -> None:
    number_id = await make_number(simulated)
    await simulated.control("PATCH", f"numbers/{number_id}", {"state": "banned"})
    status, answer = await send(simulated, number_id)
    assert (status, answer["error"]["code"]) == (403, 131031)
