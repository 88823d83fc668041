"""The generated spreadsheet: as many people as asked for, and the troubles that real ones have."""

import csv
import io

from hypothesis import given, settings
from hypothesis import strategies as st

from campaign_api.upload.phone import NoPhone, normalise
from contracts.ids import phone_key
from pombo.demo.spreadsheet import ENCODING, make_spreadsheet


def read(content: bytes) -> list[list[str]]:
    return list(csv.reader(io.StringIO(content.decode(ENCODING)), delimiter=";"))


def taken(content: bytes) -> tuple[set[str], int]:
    """People that the importer's own reading finds, and rows that it cannot take."""
    people: set[str] = set()
    refused = 0
    for row in read(content)[1:]:
        try:
            people.add(phone_key(normalise(row[2])))
        except NoPhone:
            refused += 1
    return people, refused


@settings(max_examples=20, deadline=None)
@given(st.integers(20, 600), st.integers(0, 1000))
def test_it_has_exactly_the_people_that_were_asked_for(people: int, seed: int) -> None:
    sheet = make_spreadsheet(people, seed)
    found, refused = taken(sheet.content)
    assert (len(found), refused) == (people, sheet.bad_rows)
    assert sheet.rows == people + sheet.bad_rows + sheet.duplicates == len(read(sheet.content)) - 1


def test_the_same_seed_gives_the_same_file() -> None:
    assert make_spreadsheet(300, 5) == make_spreadsheet(300, 5)
    assert make_spreadsheet(300, 5) != make_spreadsheet(300, 6)


def test_it_has_accents_bad_rows_duplicates_and_both_spellings() -> None:
    sheet = make_spreadsheet(2000, 1)
    assert "José" in sheet.content.decode(ENCODING)
    assert sheet.bad_rows > 10
    assert sheet.duplicates > 10
    spelled = [row[2] for row in read(sheet.content)[1:] if row[0].startswith("C")]
    lengths = {len(normalise(phone)) for phone in spelled}
    assert lengths >= {12, 13}
