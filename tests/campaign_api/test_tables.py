"""Uploaded tables: phones, detection, rows, and files of every bad kind through the reader's process."""

import contextlib
import csv
import io
import zipfile
from pathlib import Path
from typing import Any
from uuid import UUID

import openpyxl
import pytest
from hypothesis import given
from hypothesis import strategies as st

from campaign_api.campaign.recipients import CHUNK_BYTES_MAX, CHUNK_ROWS_MAX, Audience, Chunk, chunks, contacts_of
from campaign_api.campaign.variables import IDS, PHONES
from campaign_api.upload import reading
from campaign_api.upload.phone import NoPhone, normalise
from campaign_api.upload.tables import (
    Contact,
    Mapping,
    Rejected,
    detect_delimiter,
    detect_encoding,
    detect_layout,
    inert,
    read_row,
    write_csv,
)
from contracts import codec, ids
from contracts.campaigns import RecipientsAdded

ACCOUNT, CAMPAIGN = UUID(int=1), UUID(int=2)


@pytest.mark.parametrize(
    ("written", "digits"),
    [
        ("5511987654321", "5511987654321"),
        ("+55 (11) 98765-4321", "5511987654321"),
        ("11 98765-4321", "5511987654321"),
        ("(11) 8765-4321", "551187654321"),
        ("011 98765 4321", "5511987654321"),
        ("0 15 11 98765 4321", "5511987654321"),
        ("005511987654321", "5511987654321"),
        ("551133334444", "551133334444"),
        ("+1 202 555 0123", "12025550123"),
        ("+351 912 345 678", "351912345678"),
        ("54 9 11 2345-6789", "5491123456789"),
        (" 11.98765.4321 ", "5511987654321"),
    ],
)
def test_phones_as_people_write_them(written: str, digits: str) -> None:
    assert normalise(written) == digits


@pytest.mark.parametrize(
    "written",
    [
        "",
        "  ",
        "123",
        "abc",
        "0000000000",
        "5,51199E+12",
        "5.511987654321E+12",
        "20 98765-4321",
        "11 18765-4321",
        "9" * 30,
        "=1+1",
        "11 98765-4321 ramal 3",
        "+",
        "--",
        "11 987654321 / 11 912345678",
    ],
)
def test_what_is_no_phone_is_refused_with_a_reason(written: str) -> None:
    with pytest.raises(NoPhone, match="phone"):
        normalise(written)


def test_with_and_without_the_ninth_digit_is_one_person() -> None:
    assert ids.phone_key(normalise("11 98765-4321")) == ids.phone_key(normalise("11 8765-4321"))


@given(st.text(max_size=40))
def test_any_text_is_a_phone_or_refused(text: str) -> None:
    with contextlib.suppress(NoPhone):
        assert normalise(text).isdigit()


@pytest.mark.parametrize("delimiter", [";", ",", "\t", "|"])
def test_the_delimiter_is_the_one_that_cuts_evenly(delimiter: str) -> None:
    rows = [["nome", "telefone"], ["Ana, a boa", "11987654321"], ["Zé; o outro", "11987654322"]]
    buffer = io.StringIO()
    csv.writer(buffer, delimiter=delimiter).writerows(rows)
    assert detect_delimiter(buffer.getvalue()) == delimiter


@pytest.mark.parametrize(
    ("data", "encoding"),
    [
        ("João;1".encode(), "utf-8"),
        ("João;1".encode("utf-8-sig"), "utf-8-sig"),
        ("João;1 mais texto".encode("cp1252"), "cp1252"),
        ("João;1".encode("utf-16"), "utf-16"),
        ("Jo\u00e3".encode()[:-1], "utf-8"),  # cut inside a character
    ],
)
def test_the_encoding_is_found(data: bytes, encoding: str) -> None:
    assert detect_encoding(data) == encoding


@pytest.mark.parametrize(
    ("header", "mapping"),
    [
        (["id", "telefone", "nome", "empresa"], Mapping(0, 1, 2)),
        (["Nome Completo", "WhatsApp"], Mapping(None, 1, 0)),
        (["PHONE_NUMBER", "external_id", "Full Name"], Mapping(1, 0, 2)),
        (["código", "celular", "cliente"], Mapping(0, 1, 2)),
    ],
)
def test_columns_are_found_by_name_in_both_languages(header: list[str], mapping: Mapping) -> None:
    rows = [header, ["11987654321"] * len(header)]
    layout = detect_layout(rows)
    assert layout.header
    assert layout.mapping == mapping


@pytest.mark.parametrize(
    ("row", "mapping"),
    [
        (["7", "11987654321", "Ana", "X"], Mapping(0, 1, 2)),
        (["11987654321"], Mapping(None, 0, None)),
        (["11987654321", "Ana"], Mapping(None, 0, 1)),
        (["7", "11987654321"], Mapping(0, 1, None)),
    ],
)
def test_without_headers_the_order_decides(row: list[str], mapping: Mapping) -> None:
    layout = detect_layout([row])
    assert not layout.header
    assert layout.mapping == mapping


def test_an_empty_id_is_named_after_its_row_and_the_rest_become_fields() -> None:
    layout = detect_layout([["id", "telefone", "nome", "Empresa"]])
    assert read_row(["", "11987654321", " Ana\x00 ", "X"], 2, layout, "BR") == Contact(
        2, "contact_2", "5511987654321", "Ana", {"Empresa": "X"}
    )
    assert read_row(["", " ", ""], 3, layout, "BR") is None
    rejected = read_row(["1", "nada", "Zé"], 4, layout, "BR")
    assert isinstance(rejected, Rejected)
    assert (rejected.row, rejected.cells) == (4, ("1", "nada", "Zé"))


@pytest.mark.parametrize("cell", ["=1+1", "+1", "-1", "@a", "\t=1", "\r=1", "\n=1"])
def test_nothing_that_is_exported_is_run_as_a_formula(cell: str) -> None:
    assert inert(cell).startswith("'")
    (row,) = csv.reader(io.StringIO(write_csv([[cell]])), delimiter=";")
    assert row[0][0] == "'"


@given(
    st.lists(
        st.lists(
            st.text(alphabet=st.characters(codec="utf-8", exclude_characters="\x00\r\n"), max_size=20),
            min_size=2,
            max_size=4,
        ),
        min_size=1,
        max_size=5,
    )
)
def test_an_exported_table_reads_back(rows: list[list[str]]) -> None:
    read = list(csv.reader(io.StringIO(write_csv(rows)), delimiter=";"))
    assert read == [[inert(cell) for cell in row] for row in rows]


def people(count: int, field: str = "") -> list[Contact]:
    return [Contact(n, f"c{n}", f"55119{n:08d}", f"P{n}", {"campo": field} if field else {}) for n in range(count)]


def published(cut: list[Chunk]) -> list[RecipientsAdded]:
    """As a reader takes them; members that the contract does not have would be refused here."""
    return [RecipientsAdded.model_validate_json(chunk.value) for chunk in cut]


def test_chunks_hold_500_rows_and_512_kb_at_most() -> None:
    audience = Audience(ACCOUNT, CAMPAIGN)
    cut, rejected = chunks(audience, people(1201))
    assert [len(event.recipients) for event in published(cut)] == [500, 500, 201]
    assert [event.chunk for event in published(cut)] == [chunk.number for chunk in cut] == [0, 1, 2]
    assert rejected == []
    cut, _ = chunks(Audience(ACCOUNT, CAMPAIGN), people(900, "é" * 2000))
    assert all(len(chunk.value) <= CHUNK_BYTES_MAX for chunk in cut)
    assert all(len(event.recipients) <= CHUNK_ROWS_MAX for event in published(cut))
    assert sum(len(event.recipients) for event in published(cut)) == 900


def test_a_chunk_is_the_events_own_encoding() -> None:
    rows = [Contact(7, 'a"b', "5511987654321", "Ana\u2028 ção", {"Cor \\": "azul\t€ 😀", "vazio": ""})]
    [chunk], _ = chunks(Audience(ACCOUNT, CAMPAIGN), rows)
    [event] = published([chunk])
    assert chunk.value == codec.encode(event)
    assert event.recipients[0].recipient_id == ids.recipient_id(CAMPAIGN, ids.phone_key("5511987654321"))
    assert contacts_of(chunk, 7) == rows


def test_a_variable_counts_whoever_has_a_value_for_it() -> None:
    audience = Audience(ACCOUNT, CAMPAIGN)
    chunks(
        audience,
        [
            Contact(1, "a", "5511987654321", "Ana", {"Cor": "azul", "cor ": "verde", "Sol": ""}),
            Contact(2, "b", "5511987654322", "", {"Cor": "azul"}),
        ],
    )
    assert audience.filled() == {"cor": 2, "name": 1, "nome": 1} | dict.fromkeys(PHONES | IDS, 2)


def test_each_person_once_and_nobody_who_opted_out() -> None:
    audience = Audience(ACCOUNT, CAMPAIGN, frozenset({ids.phone_key("5511912345678")}))
    rows = [
        Contact(1, "a", "5511987654321", "Ana", {}),
        Contact(2, "b", "551187654321", "Ana de novo", {}),
        Contact(3, "c", "5511912345678", "Saiu", {}),
    ]
    cut, rejected = chunks(audience, rows)
    assert [recipient.external_id for event in published(cut) for recipient in event.recipients] == ["a"]
    assert [row.reason for row in rejected] == ["the same person is in the list already", "opted out"]
    assert (audience.duplicates, audience.opted_out_count, audience.recipient_count) == (1, 1, 1)


def xlsx(path: Path, rows: list[list[Any]]) -> Path:
    workbook = openpyxl.Workbook()
    sheet = workbook.active
    assert sheet is not None
    for row in rows:
        sheet.append(row)
    workbook.save(path)
    return path


async def read_all(path: Path, **options: Any) -> reading.Batch:
    contacts: list[Contact] = []
    rejected: list[Rejected] = []
    async for batch in reading.batches(path, {"country": "BR"} | options):
        contacts += batch.contacts
        rejected += batch.rejected
    return reading.Batch(tuple(contacts), tuple(rejected))


async def test_an_excel_file_is_read_with_its_numbers_and_its_formulas_as_shown(tmp_path: Path) -> None:
    rows: list[list[Any]] = [
        ["id", "telefone", "nome", "valor"],
        [1, 5511987654321, "Ana", 10.5],
        [2, "=1+1", "Zé", None],
    ]
    batch = await read_all(xlsx(tmp_path / "a.xlsx", rows))
    assert batch.contacts == (Contact(2, "1", "5511987654321", "Ana", {"valor": "10.5"}),)
    assert [row.row for row in batch.rejected] == [3]


async def test_a_semicolon_file_from_windows_is_read(tmp_path: Path) -> None:
    path = tmp_path / "a.csv"
    path.write_bytes("nome;telefone\r\nJoão;(11) 98765-4321\r\nZé;errado\r\n".encode("cp1252"))
    preview = await reading.look(path, {})
    assert (preview["delimiter"], preview["encoding"], preview["header"]) == (";", "cp1252", True)
    batch = await read_all(path)
    assert [contact.name for contact in batch.contacts] == ["João"]
    assert [(row.row, row.cells) for row in batch.rejected] == [(3, ("Zé", "errado"))]


async def test_columns_can_be_chosen_by_name_or_index(tmp_path: Path) -> None:
    path = tmp_path / "a.csv"
    path.write_text("x,y,z\nAna,1,11987654321\n")
    batch = await read_all(path, mapping={"phone": 2, "name": "x"}, header=True)
    assert [(one.name, one.phone) for one in batch.contacts] == [("Ana", "5511987654321")]
    with pytest.raises(reading.Unreadable, match="no column"):
        await read_all(path, mapping={"phone": "nenhuma"})


def bomb(path: Path) -> Path:
    """400 MB of zeros in 400 kB."""
    with (
        zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive,
        archive.open("xl/worksheets/sheet1.xml", "w", force_zip64=True) as entry,
    ):
        for _ in range(400):
            entry.write(b"0" * 1_000_000)
    return path


@pytest.mark.parametrize(
    ("name", "data"),
    [
        ("empty", b""),
        ("blank", b"\n\n  \n"),
        ("pdf", b"%PDF-1.7 whatever"),
        ("png", b"\x89PNG\r\n\x1a\n" + b"\x00" * 100),
        ("old excel", b"\xd0\xcf\x11\xe0" + b"\x00" * 600),
        ("broken zip", b"PK\x03\x04" + b"garbage" * 100),
        ("nul bytes", b"\x00" * 5000),
        ("one endless line", b"a" * 3_000_000),
        ("one endless cell", b'telefone\n"' + b"a," * 300_000),
    ],
)
async def test_files_that_are_no_table_are_refused_with_a_text(tmp_path: Path, name: str, data: bytes) -> None:
    path = tmp_path / "file"
    path.write_bytes(data)
    with pytest.raises(reading.Unreadable) as error:
        await read_all(path)
    assert str(error.value)


async def test_a_zip_bomb_is_refused_before_it_is_unpacked(tmp_path: Path) -> None:
    with pytest.raises(reading.Unreadable, match="unpacked"):
        await read_all(bomb(tmp_path / "bomb.xlsx"))


async def test_ten_million_columns_are_one_rejected_row(tmp_path: Path) -> None:
    path = tmp_path / "wide.csv"
    path.write_text("id,telefone,nome\n" + "1," * 150_000 + "\n2,11987654321,Ana\n")
    batch = await read_all(path)
    assert [contact.name for contact in batch.contacts] == ["Ana"]
    assert [row.reason for row in batch.rejected] == ["more than 200 columns"]
