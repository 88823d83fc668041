"""Contacts: by hand, from a file, from messages; stop words; erasure."""

import asyncio
import csv
import io
import re
from pathlib import Path
from typing import Any
from uuid import UUID, uuid4

import pytest

from campaign_api import consumers
from campaign_api.contact.contact import is_stop_word
from campaign_api.worker import Importer
from campaign_parts import Bench, Person, campaign_body, heard
from chassis.lifecycle import utc_now
from contracts.contacts import ContactErased, ContactOptedOut, ContactSaved
from contracts.conversations import MessageReceived
from contracts.ids import Address

postgres = pytest.mark.postgres
WORDS = ("SAIR", "PARAR", "STOP")


@pytest.mark.parametrize("text", ["SAIR", "sair", " Sair! ", "parar.", "sáir", "STOP", "*sair*"])
def test_a_stop_word_is_the_whole_message(text: str) -> None:
    assert is_stop_word(text, WORDS)


@pytest.mark.parametrize("text", ["", "não quero sair hoje", "sair do grupo", "stopwatch", "sair " * 20, "!!"])
def test_a_stop_word_inside_a_sentence_is_conversation(text: str) -> None:
    assert not is_stop_word(text, WORDS)


@postgres
async def test_the_same_person_with_and_without_the_ninth_digit_is_one_contact(ana: Person) -> None:
    first = await ana.client.post("/api/contacts", json={"phone_number": "11 98765-4321", "name": "Ana"})
    second = await ana.client.post("/api/contacts", json={"phone_number": "(11) 8765-4321", "name": "Ana Maria"})
    assert first.json()["id"] == second.json()["id"]
    (only,) = (await ana.client.get("/api/contacts")).json()
    assert only["name"] == "Ana Maria"


@postgres
async def test_a_contact_is_edited_where_it_was_read(ana: Person) -> None:
    made = (await ana.client.post("/api/contacts", json={"phone_number": "11987654321", "tags": ["vip"]})).json()
    url = f"/api/contacts/{made['id']}"
    tag = (await ana.client.get(url)).headers["etag"]
    changed = await ana.client.patch(
        url, json={"name": "Zé", "custom_fields": {"empresa": "X"}}, headers={"If-Match": tag}
    )
    assert (changed.json()["name"], changed.json()["tags"], changed.json()["custom_fields"]) == (
        "Zé",
        ["vip"],
        {"empresa": "X"},
    )
    assert (await ana.client.patch(url, json={"name": "A"}, headers={"If-Match": tag})).status_code == 412
    assert [c["id"] for c in (await ana.client.get("/api/contacts?tag=vip&search=z")).json()] == [made["id"]]
    assert (await ana.client.get("/api/contacts?tag=outra")).json() == []


@postgres
async def test_an_opted_out_person_gets_no_place_in_a_campaign(api: Bench, ana: Person) -> None:
    made = (await ana.client.post("/api/contacts", json={"phone_number": "11 90000-0001"})).json()
    await ana.client.post(f"/api/contacts/{made['id']}/opt-out")
    campaign = await ana.campaign()
    assert (campaign["total_contacts"], campaign["audience"]["opted_out"]) == (2, 1)
    report = (await ana.client.get(f"/api/imports/{campaign['id']}/rejected")).json()
    assert [(row["row"], row["reason"]) for row in report] == [(1, "opted out")]
    await ana.client.post(f"/api/contacts/{made['id']}/opt-in")
    kinds = [type(event).__name__ for topic, _, event in await api.outbox(ana.account_id) if topic == "contacts"]
    assert kinds == ["ContactSaved", "ContactOptedOut", "ContactOptedIn"]


def message(text: str, chat: Address, **changes: Any) -> MessageReceived:
    values: dict[str, Any] = {
        "instance_id": uuid4(),
        "message_id": uuid4(),
        "provider_message_id": uuid4().hex,
        "chat": chat,
        "direction": "in",
        "origin": "contact",
        "type": "text",
        "text": text,
        "profile_name": "Ana do WhatsApp",
        "message_at": utc_now(),
        "received_at": utc_now(),
    }
    return MessageReceived(**(values | changes))


async def hear(api: Bench, person: Person, *messages: MessageReceived) -> None:
    async with api.application.parts.worker.transaction() as connection:
        records = [heard("message-received", uuid4(), person.account_id, one) for one in messages]
        await consumers.Inbound(utc_now, {}).handle(connection, records)


@postgres
async def test_who_writes_first_becomes_a_contact_and_a_stop_word_opts_out(api: Bench, ana: Person) -> None:
    phone = Address(phone="5511987654321")
    await hear(api, ana, message("Oi", phone), message("Oi de novo", phone), message("sair", phone))
    (contact,) = (await ana.client.get("/api/contacts")).json()
    assert (contact["name"], contact["source"], contact["opted_out"]) == ("Ana do WhatsApp", "message", True)
    events = [event for topic, _, event in await api.outbox(ana.account_id) if topic == "contacts"]
    assert [type(event) for event in events] == [ContactSaved, ContactOptedOut]
    assert isinstance(events[1], ContactOptedOut)
    assert (events[1].recipient_key, events[1].reason) == ("551187654321", "stop_word")


@postgres
async def test_our_own_echo_and_groups_make_no_contact(api: Bench, ana: Person) -> None:
    await hear(
        api,
        ana,
        message("sair", Address(phone="5511987654321"), direction="out", origin="phone"),
        message("sair", Address(group="123@g.us"), sender=Address(phone="5511987654322")),
    )
    assert (await ana.client.get("/api/contacts")).json() == []


@postgres
async def test_names_that_belong_together_are_joined(api: Bench, ana: Person) -> None:
    both = Address(phone="5511987654321", lid="77@lid")
    made = (await ana.client.post("/api/contacts", json={"phone_number": "11987654321", "name": "Ana"})).json()
    await hear(api, ana, message("Oi", both), message("Oi", Address(lid="77@lid")))
    (contact,) = (await ana.client.get("/api/contacts")).json()
    assert (contact["id"], contact["name"], contact["lid"]) == (made["id"], "Ana", "77@lid")


@postgres
async def test_erasing_takes_everything_and_keeps_the_opt_out(api: Bench, ana: Person) -> None:
    made = (await ana.client.post("/api/contacts", json={"phone_number": "11987654321", "name": "canary-ana"})).json()
    url = f"/api/contacts/{made['id']}"
    assert (await ana.client.get(f"{url}/personal-data")).json()["contact"]["name"] == "canary-ana"
    await ana.client.post(f"{url}/opt-out")
    assert (await ana.client.delete(url)).json() == {"success": True}
    assert (await ana.client.get(url)).status_code == 404
    (row,) = await api.rows("SELECT * FROM contact WHERE id = $1", UUID(made["id"]))
    assert "canary" not in str(dict(row))
    assert (row["erased"], row["opted_out"], row["phone"]) == (True, True, None)
    assert any(isinstance(event, ContactErased) for _, _, event in await api.outbox(ana.account_id))
    body = campaign_body(await ana.instance()) | {"contacts": [{"phone_number": "11987654321"}]}
    assert (await ana.client.post("/api/campaigns", json=body)).json()["total_contacts"] == 0


def table(count: int) -> bytes:
    buffer = io.StringIO()
    writer = csv.writer(buffer, delimiter=";")
    writer.writerow(["id", "telefone", "nome", "empresa", "cidade"])
    for n in range(count):
        writer.writerow(
            [f"c{n}", f"(11) 9{n // 10000:04d}-{n % 10000:04d}", f"Pessoa {n}", "Empresa S.A.", "São Paulo"]
        )
    return buffer.getvalue().encode()


async def uploaded(person: Person, data: bytes, name: str = "contatos.csv") -> dict[str, Any]:
    answer = await person.client.post("/api/uploads", files={"file": (name, data)})
    assert answer.status_code == 201, answer.text
    found: dict[str, Any] = answer.json()
    return found


async def imported(api: Bench, person: Person, upload_id: str, **changes: Any) -> dict[str, Any]:
    """Runs the worker until the import is over."""
    begun = await person.client.post("/api/contacts/import", json={"upload_id": upload_id} | changes)
    assert begun.status_code == 202, begun.text
    parts, stopping = api.application.parts, asyncio.Event()
    importer = Importer(parts.worker, parts.settings, parts.readers, utc_now)
    async with asyncio.TaskGroup() as tasks, asyncio.timeout(120):
        tasks.create_task(importer.run(stopping))
        while True:
            found: dict[str, Any] = (await person.client.get(f"/api/imports/{begun.json()['id']}")).json()
            if found["state"] in ("completed", "failed"):
                stopping.set()
                return found
            await asyncio.sleep(0.2)


@postgres
async def test_a_file_becomes_contacts_and_its_bad_rows_a_report(api: Bench, ana: Person) -> None:
    data = (
        "id;telefone;nome\n1;11987654321;Ana\n2;nada;Zé\n3;1187654321;Ana de novo\n;11912345678;=HYPERLINK(1)\n"
    ).encode()
    upload = await uploaded(ana, data)
    assert upload["preview"]["mapping"] == {"id": 0, "phone": 1, "name": 2}
    done = await imported(api, ana, upload["id"], tags=["feira"])
    assert (done["state"], done["accepted"], done["rejected"]) == ("completed", 2, 2)
    rows = {row["external_id"]: row for row in (await ana.client.get("/api/contacts?tag=feira")).json()}
    assert rows.keys() == {"1", "contact_5"}
    report = await ana.client.get(f"/api/imports/{done['id']}/rejected.csv")
    lines = list(csv.reader(io.StringIO(report.text.lstrip("\ufeff")), delimiter=";"))
    assert [line[0] for line in lines] == ["row", "3", "4"]
    again = await imported(api, ana, upload["id"], tags=["feira"])
    assert again["accepted"] == 2
    assert len((await ana.client.get("/api/contacts")).json()) == 2


@postgres
async def test_a_broken_file_fails_with_a_text(api: Bench, ana: Person) -> None:
    refused = await ana.client.post("/api/uploads", files={"file": ("a.xlsx", b"PK\x03\x04garbage")})
    assert refused.status_code == 422
    assert "cannot be used" in refused.json()["error"]
    empty = await ana.client.post("/api/uploads", files={"file": ("a.csv", b"")})
    assert empty.status_code == 422


def resident_kib(field: str) -> int:
    """`VmRSS` now or `VmHWM`, its peak, of this process."""
    return int(re.search(rf"{field}:\s+(\d+) kB", Path("/proc/self/status").read_text())[1])  # type: ignore[index]


def forget_the_peak() -> None:
    Path("/proc/self/clear_refs").write_text("5")


@postgres
async def test_twenty_thousand_rows_are_imported_and_added_within_300_mb(api: Bench, ana: Person) -> None:
    upload = await uploaded(ana, table(20_000))
    forget_the_peak()  # the growth counts, not the process, which the tests before made large
    before = resident_kib("VmRSS")
    done = await imported(api, ana, upload["id"])
    assert done["accepted"] == 20_000
    body = campaign_body(await ana.instance()) | {"contacts": None, "upload_id": upload["id"], "is_draft": False}
    campaign = await ana.client.post("/api/campaigns", json=body)
    assert campaign.json()["total_contacts"] == 20_000
    assert resident_kib("VmHWM") - before < 200 * 1024


@postgres
async def test_a_campaigns_audience_can_be_a_file_tags_or_a_list_but_only_one(api: Bench, ana: Person) -> None:
    upload = await uploaded(ana, b"whatsapp,nome,empresa\n11987654321,Ana,X\n11912345678,Ze,\n")
    body = campaign_body(await ana.instance()) | {"contacts": None, "upload_id": upload["id"]}
    body["messages"] = [{"content": "Oi {{ Nome }}, da {{empresa|sua empresa}}: {{cupom}}"}]
    campaign = (await ana.client.post("/api/campaigns", json=body)).json()
    check = (await ana.client.get(f"/api/campaigns/{campaign['id']}/check")).json()
    assert check["ready"]
    assert check["blank_variables"] == {"cupom": 2}
    assert check["preview"][0]["content"] == "Oi Ana, da X: "
    await ana.client.post("/api/contacts", json={"phone_number": "11955554444", "tags": ["vip"]})
    tagged = await ana.client.patch(f"/api/campaigns/{campaign['id']}", json={"tags": ["vip"]})
    assert tagged.json()["total_contacts"] == 1
    both = await ana.client.patch(f"/api/campaigns/{campaign['id']}", json={"tags": ["vip"], "contacts": []})
    assert both.status_code == 422
