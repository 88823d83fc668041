# ruff: noqa: E501 - a payload reads better on one line
"""The checker that compares what is read in a folder of payloads with its expected.json."""

from pathlib import Path
from typing import Any

import orjson
import pytest

from pombo.payloads import check, choose_provider, main

SENT = {"instanceId": "I", "type": "DeliveryCallback", "messageId": "M", "phone": "5531", "momment": 1790000001000}
TEXT = {
    "event": "messages.upsert",
    "instance": "loja1",
    "data": {
        "key": {"remoteJid": "7@lid", "remoteJidAlt": "5531@s.whatsapp.net", "fromMe": False, "id": "A"},
        "message": {"imageMessage": {"mimetype": "image/jpeg", "id": "1", "caption": "c"}},
        "messageTimestamp": 1790000001,
    },
}


def folder(root: Path, expected: dict[str, Any], **files: Any) -> Path:
    for name, content in files.items():
        path = root / name.replace("__", "/").replace("_json", ".json")
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(orjson.dumps(content))
    (root / "expected.json").write_bytes(orjson.dumps(expected))
    return root


def test_only_fields_that_are_expected_are_compared(tmp_path: Path) -> None:
    expected = {"zapi/a.json": [{"kind": "status", "status": "sent", "id": "M", "channel": "I"}]}
    report = check(folder(tmp_path, expected, zapi__a_json=SENT))
    assert (report.passed, report.failed) == (1, 0)


def test_differences_are_printed_with_file_and_how_and_the_counts_come_last(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    expected = {
        "zapi/a.json": [{"kind": "status", "status": "delivered", "ts": 5}],
        "zapi/b.json": [{"kind": "status"}],
    }
    assert main(folder(tmp_path, expected, zapi__a_json=SENT, zapi__b_json=SENT)) == 1
    printed = capsys.readouterr().out.splitlines()
    assert printed == [
        "zapi/a.json",
        "  [0].status: expected 'delivered', got 'sent'",
        "  [0].ts: expected 5, got 1790000001000",
        "1 passed, 1 failed",
    ]


def test_all_as_expected_is_success(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(folder(tmp_path, {"zapi/a.json": [{"kind": "status"}]}, zapi__a_json=SENT)) == 0
    assert capsys.readouterr().out.splitlines()[-1] == "1 passed, 0 failed"


@pytest.mark.parametrize(
    ("wanted", "same"),
    [
        ({"media": {"mime_type": "image/jpeg"}}, True),
        ({"media": {"mime_type": "image/png"}}, False),
        ({"peer": {"pn": "5531", "lid": "7@lid"}}, True),
        ({"peer": {"pn": "5531"}}, False),
        ({"peer": {"pn": "5531", "lid": "7@lid", "bsuid": "BR.1"}}, False),
        ({"text": "c", "type": "image", "dir": "in", "origin": "contact", "ts": 1790000001000}, True),
        ({"voice": True}, False),
        ({"reply_to": "X"}, False),
    ],
)
def test_content_may_say_more_but_an_identity_may_not(tmp_path: Path, wanted: dict[str, Any], same: bool) -> None:
    expected = {"evolution-baileys/a.json": [{"kind": "message", **wanted}]}
    report = check(folder(tmp_path, expected, **{"evolution-baileys__a_json": TEXT}))
    assert report.passed == (1 if same else 0)


@pytest.mark.parametrize("wanted", [[], [{"kind": "status"}] * 2, [{"kind": "message"}], {"kind": "status"}])
def test_number_order_and_kind_of_events_count(tmp_path: Path, wanted: Any) -> None:
    assert check(folder(tmp_path, {"zapi/a.json": wanted}, zapi__a_json=SENT)).failed == 1


def test_the_folders_name_chooses_the_provider_wherever_it_stands_in_the_path(tmp_path: Path) -> None:
    deep = tmp_path / "evolution-cloud" / "captured" / "2026"
    update = {"event": "messages.update", "instance": "x", "data": {"keyId": "K", "fromMe": False, "status": "READ"}}
    expected = {"a.json": [{"kind": "status", "status": "read"}]}
    assert check(folder(deep, expected, a_json=update)).passed == 1
    provider = choose_provider(tmp_path / "meta" / "x" / "zapi" / "a.json")
    assert provider is not None
    assert provider.name == "zapi"
    assert check(folder(tmp_path / "unknown", expected, a_json=update)).failed == 1


def test_bodies_may_be_wrapped(tmp_path: Path) -> None:
    wrapped = {"_headers": {"z-api-token": "x"}, "_received_at_ms": 1, "body": SENT}
    as_text = {"_headers": {}, "_received_at_ms": 1, "body": orjson.dumps(SENT).decode()}
    expected = {name: [{"kind": "status", "id": "M"}] for name in ("zapi/a.json", "zapi/b.json")}
    assert check(folder(tmp_path, expected, zapi__a_json=wrapped, zapi__b_json=as_text)).passed == 2


ANSWERS: list[tuple[str, dict[str, Any], dict[str, Any]]] = [
    ("zapi", {"_http_status": 200, "body": {"messageId": "M"}}, {"send": "enqueued", "id": "M"}),
    ("zapi", {"_http_status": 200, "body": {"connected": False, "error": "x"}}, {"state": "closed"}),
    ("zapi", {"_http_status": 200, "body": [{"exists": True, "phone": "5531"}]}, {"check": [{"exists": True, "pn": "5531"}]}),
    ("zapi", {"_http_status": 200, "body": {"value": "2@x"}}, {"send": "not_a_send"}),
    ("meta", {"_http_status": 200, "messages": [{"id": "w"}]}, {"send": "accepted", "id": "w"}),
    ("meta", {"_http_status": 429, "_headers": {}, "error": {"code": 4}}, {"send": "rejected", "action": "retry", "code": 4}),
    ("meta", {"_http_status": 500, "error": {"code": 131000}}, {"send": "ambiguous", "action": "reconcile"}),
    ("meta", {"_http_status": 200, "body": {"success": True}}, {"send": "not_a_send"}),
    ("evolution-baileys", {"_http_status": 500, "body": {"response": {"message": "Connection Closed"}}}, {"send": "not_sent", "action": "retry"}),
    ("evolution-baileys", {"_http_status": 200, "body": {"error": True, "message": "x"}}, {"send": "not_a_send"}),
    ("evolution-baileys", {"_http_status": 502, "body": "<html>"}, {"send": "ambiguous"}),
]  # fmt: skip


@pytest.mark.parametrize(("where", "content", "wanted"), ANSWERS)
def test_http_answers(tmp_path: Path, where: str, content: dict[str, Any], wanted: dict[str, Any]) -> None:
    report = check(folder(tmp_path, {f"{where}/a.json": wanted}, **{f"{where}__a_json": content}))
    assert report.differences == ()


def test_what_is_missing_fails_and_what_is_not_listed_is_named(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(folder(tmp_path, {"zapi/gone.json": []}, zapi__new_json=SENT)) == 1
    printed = capsys.readouterr().out
    assert "the file is missing" in printed
    assert "zapi/new.json: not in expected.json" in printed
    assert printed.endswith("0 passed, 1 failed\n")


def test_unreadable_files_fail_and_do_not_stop_the_rest(tmp_path: Path) -> None:
    root = folder(
        tmp_path, {"zapi/a.json": [], "zapi/b.json": [], "zapi/c.json": [{"kind": "status"}]}, zapi__c_json=SENT
    )
    (root / "zapi" / "a.json").write_text("{")
    (root / "zapi" / "b.json").write_text('"text"')
    report = check(root)
    assert (report.passed, report.failed) == (1, 2)


def test_a_folder_without_expectations_cannot_be_checked(tmp_path: Path) -> None:
    assert main(tmp_path) == 2
    (tmp_path / "expected.json").write_text("[]")
    assert main(tmp_path) == 2
