"""What a table of contacts looks like: encoding, delimiter, header, columns, and one row made a contact. Pure."""

import csv
import io
import re
import unicodedata
from collections.abc import Sequence
from dataclasses import dataclass
from typing import NamedTuple

from campaign_api.upload.phone import NoPhone, normalise

DELIMITERS = (";", ",", "\t", "|")
_ID_NAMES = frozenset(
    {"id", "external id", "externalid", "codigo", "cod", "code", "matricula", "id cliente", "contact id"}
)
_PHONE_NAMES = frozenset(
    [
        "phone",
        "phone number",
        "phonenumber",
        "telefone",
        "telefone celular",
        "celular",
        "whatsapp",
        "fone",
        "tel",
        "numero",
        "mobile",
        "cell",
        "number",
        "telefone whatsapp",
        "msisdn",
    ]
)
_NAME_NAMES = frozenset(
    [
        "name",
        "nome",
        "full name",
        "fullname",
        "nome completo",
        "cliente",
        "contact name",
        "contato",
        "first name",
        "nome cliente",
    ]
)
CELL_MAX_CHARS = 2000
COLUMNS_MAX = 200
_FORBIDDEN = re.compile(r"[\x00-\x08\x0b\x0c\x0e-\x1f\x7f]")


@dataclass(frozen=True, slots=True)
class Mapping:
    """Which column holds what, counted from 0; None = there is none. The others are custom fields."""

    id: int | None
    phone: int
    name: int | None


@dataclass(frozen=True, slots=True)
class Layout:
    """`header`: the first row names the columns. `names`: one per column, made unique and non-empty."""

    names: tuple[str, ...]
    header: bool
    mapping: Mapping


class Contact(NamedTuple):
    """`row` counts from 1 as a spreadsheet shows it, the header included."""

    row: int
    external_id: str
    phone: str
    name: str
    custom_fields: dict[str, str]


class Rejected(NamedTuple):
    row: int
    reason: str
    cells: tuple[str, ...]


def detect_encoding(sample: bytes) -> str:
    """`sample` may end inside a character. What is no Unicode is taken as Windows' western encoding."""
    if sample.startswith((b"\xff\xfe", b"\xfe\xff")):
        return "utf-16"
    if sample.startswith(b"\xef\xbb\xbf"):
        return "utf-8-sig"
    try:
        sample.decode("utf-8")
    except UnicodeDecodeError as error:
        if len(sample) - error.start > 3:
            return "cp1252"
    return "utf-8"


def detect_delimiter(sample: str) -> str:
    """The one that cuts the first lines into the same number of columns, the more the better."""
    lines = sample.splitlines()[:20]

    def fitness(delimiter: str) -> tuple[int, int]:
        widths = [len(row) for row in csv.reader(lines, delimiter=delimiter) if row]
        if not widths or widths[0] < 2:
            return (0, 0)
        return (sum(width == widths[0] for width in widths) * 100 // len(widths), widths[0])

    best = max(DELIMITERS, key=fitness)
    return best if fitness(best) > (0, 0) else ","


def detect_layout(rows: Sequence[Sequence[str]], country: str = "BR") -> Layout:
    """From the first rows. Without recognisable headers the order is id, phone, name, custom…"""
    first = [_plain(cell) for cell in rows[0]] if rows else []
    width = min(max((len(row) for row in rows), default=0), COLUMNS_MAX)
    known = _ID_NAMES | _PHONE_NAMES | _NAME_NAMES
    if any(cell in _PHONE_NAMES for cell in first) or (
        sum(cell in known for cell in first) >= 2 and not any(_is_phone(cell, country) for cell in rows[0])
    ):
        phone = _first(first, _PHONE_NAMES)
        mapping = Mapping(
            id=_first(first, _ID_NAMES),
            phone=phone if phone is not None else _by_content(rows[1:], country),
            name=_first(first, _NAME_NAMES),
        )
        return Layout(_unique(list(rows[0]) + [""] * (width - len(first))), header=True, mapping=mapping)
    return Layout(_unique([""] * width), header=False, mapping=_by_order(rows, width, country))


def _by_order(rows: Sequence[Sequence[str]], width: int, country: str) -> Mapping:
    if width <= 1:
        return Mapping(id=None, phone=0, name=None)
    if width == 2 and _by_content(rows, country) == 0:
        return Mapping(id=None, phone=0, name=1)
    return Mapping(id=0, phone=1, name=2 if width > 2 else None)


def _by_content(rows: Sequence[Sequence[str]], country: str) -> int:
    """The column that most often holds a phone number; the second where none does."""
    width = max((len(row) for row in rows), default=0)
    counts = [sum(_is_phone(row[column], country) for row in rows if column < len(row)) for column in range(width)]
    return counts.index(max(counts)) if any(counts) else min(1, max(width - 1, 0))


def _is_phone(text: str, country: str) -> bool:
    try:
        normalise(text, country)
    except NoPhone:
        return False
    return True


def _first(cells: Sequence[str], names: frozenset[str]) -> int | None:
    return next((index for index, cell in enumerate(cells) if cell in names), None)


def _plain(text: str) -> str:
    """Lower case, no accents, separators as one space: how column names are compared."""
    letters = unicodedata.normalize("NFKD", text.strip().lower())
    without = "".join(letter for letter in letters if not unicodedata.combining(letter))
    return re.sub(r"[\s_\-.]+", " ", without).strip()


def _unique(names: Sequence[str]) -> tuple[str, ...]:
    seen: dict[str, int] = {}
    result = []
    for index, name in enumerate(names):
        wanted = clean(name)[:64] or f"column_{index + 1}"
        count = seen[wanted.lower()] = seen.get(wanted.lower(), 0) + 1
        result.append(wanted if count == 1 else f"{wanted}_{count}")
    return tuple(result)


def clean(cell: str) -> str:
    return _FORBIDDEN.sub("", cell).strip()


def read_row(cells: Sequence[str], row: int, layout: Layout, country: str) -> Contact | Rejected | None:
    """None for a row without any content."""
    if not any(cell.strip() for cell in cells):
        return None
    if len(cells) > COLUMNS_MAX:
        return Rejected(row, f"more than {COLUMNS_MAX} columns", tuple(cells[:5]))
    if any(len(cell) > CELL_MAX_CHARS for cell in cells):
        return Rejected(row, f"a cell is longer than {CELL_MAX_CHARS} characters", _short(cells))
    try:
        phone = normalise(_cell(cells, layout.mapping.phone), country)
    except NoPhone as error:
        return Rejected(row, str(error), _short(cells))
    taken = {layout.mapping.id, layout.mapping.phone, layout.mapping.name}
    return Contact(
        row=row,
        external_id=clean(_cell(cells, layout.mapping.id)) or f"contact_{row}",
        phone=phone,
        name=clean(_cell(cells, layout.mapping.name)),
        custom_fields={
            name: value
            for index, name in enumerate(layout.names)
            if index not in taken and (value := clean(_cell(cells, index)))
        },
    )


def _cell(cells: Sequence[str], index: int | None) -> str:
    return cells[index] if index is not None and index < len(cells) else ""


def _short(cells: Sequence[str]) -> tuple[str, ...]:
    return tuple(clean(cell)[:200] for cell in cells[:20])


def write_csv(rows: Sequence[Sequence[str]]) -> str:
    """Every cell that a spreadsheet would run as a formula is made text by a leading apostrophe."""
    buffer = io.StringIO()
    writer = csv.writer(buffer, delimiter=";", quoting=csv.QUOTE_ALL, lineterminator="\r\n")
    for row in rows:
        writer.writerow([inert(cell) for cell in row])
    return buffer.getvalue()


def inert(cell: str) -> str:
    return f"'{cell}" if cell[:1] in ("=", "+", "-", "@", "\t", "\r", "\n") else cell
