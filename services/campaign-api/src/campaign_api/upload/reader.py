"""Reads one uploaded file in a process of its own, with limits on memory and CPU: hostile files end here.

`python -m campaign_api.upload.reader look FILE` answers one JSON line: the preview.
`python -m campaign_api.upload.reader read FILE` takes options on standard input and writes JSON lines of rows.
Both end with {"error": text} and exit code 1 if the file cannot be read.
"""

import csv
import itertools
import resource
import sys
import zipfile
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import IO, Any

import orjson

from campaign_api.upload.tables import (
    Contact,
    Layout,
    Mapping,
    Rejected,
    clean,
    detect_delimiter,
    detect_encoding,
    detect_layout,
    read_row,
)

MEMORY_MAX_BYTES = 1_500_000_000  # address space; calamine holds a whole sheet
CPU_MAX_S = 120
UNZIPPED_MAX_BYTES = 300_000_000
SAMPLE_BYTES = 65_536
SAMPLE_ROWS = 50
BATCH_ROWS = 1000
FIELD_MAX_CHARS = 100_000


class Unreadable(Exception):
    """The file is no table that can be read; the text is shown to the person."""


def main(arguments: Sequence[str]) -> int:
    resource.setrlimit(resource.RLIMIT_AS, (MEMORY_MAX_BYTES, MEMORY_MAX_BYTES))
    resource.setrlimit(resource.RLIMIT_CPU, (CPU_MAX_S, CPU_MAX_S))
    csv.field_size_limit(FIELD_MAX_CHARS)
    action, path = arguments
    output = sys.stdout.buffer
    try:
        options = orjson.loads(sys.stdin.buffer.read() or b"{}")
        if action == "look":
            _write(output, look(Path(path), options))
        else:
            for batch in read(Path(path), options):
                _write(output, batch)
    except (Unreadable, csv.Error, UnicodeError, MemoryError) as error:
        text = str(error) if isinstance(error, Unreadable) else f"the file cannot be read: {error or 'too large'}"
        _write(output, {"error": text})
        return 1
    return 0


def _write(output: IO[bytes], data: dict[str, Any]) -> None:
    output.write(orjson.dumps(data) + b"\n")
    output.flush()


def look(path: Path, options: dict[str, Any]) -> dict[str, Any]:
    """The preview: how the file would be read, and its first rows."""
    sheet, facts = open_table(path, options)
    sample = list(itertools.islice(sheet, SAMPLE_ROWS))
    layout = _layout(sample, options)
    shown = sample[1:] if layout.header else sample
    return facts | {
        "header": layout.header,
        "columns": layout.names,
        "mapping": asdict(layout.mapping),
        "rows": [[clean(cell)[:200] for cell in row[:50]] for row in shown[:10]],
    }


def read(path: Path, options: dict[str, Any]) -> Iterator[dict[str, Any]]:
    sheet, _ = open_table(path, options)
    sample = list(itertools.islice(sheet, SAMPLE_ROWS))
    layout = _layout(sample, options)
    country = str(options.get("country", "BR"))
    numbered = enumerate(itertools.chain(sample, sheet), start=1)
    rows = (read_row(cells, row, layout, country) for row, cells in numbered if not (layout.header and row == 1))
    while batch := list(itertools.islice(rows, BATCH_ROWS)):
        yield {
            "contacts": [tuple(row) for row in batch if isinstance(row, Contact)],
            "rejected": [tuple(row) for row in batch if isinstance(row, Rejected)],
        }


def _layout(sample: Sequence[Sequence[str]], options: dict[str, Any]) -> Layout:
    """What was found by itself, and over it what the person chose."""
    if not any(any(cell.strip() for cell in row) for row in sample):
        raise Unreadable("the file is empty")
    found = detect_layout(sample, str(options.get("country", "BR")))
    chosen = options.get("mapping") or {}
    if "header" in options and options["header"] is not None and options["header"] != found.header:
        names = tuple(clean(cell) or f"column_{n + 1}" for n, cell in enumerate(sample[0]))
        generic = tuple(f"column_{n + 1}" for n in range(len(found.names)))
        found = Layout(names if options["header"] else generic, bool(options["header"]), found.mapping)
    columns = {role: _column(chosen[role], found.names) for role in ("id", "phone", "name") if role in chosen}
    base = asdict(found.mapping) | columns
    if base["phone"] is None:
        raise Unreadable("no column holds phone numbers: choose one")
    return Layout(found.names, found.header, Mapping(**base))


def _column(chosen: int | str | None, names: Sequence[str]) -> int | None:
    """A column's index or its name."""
    if chosen is None:
        return None
    if isinstance(chosen, int):
        if 0 <= chosen < max(len(names), 1):
            return chosen
    else:
        for index, name in enumerate(names):
            if name.lower() == chosen.strip().lower():
                return index
    raise Unreadable(f"the file has no column {chosen!r}")


def open_table(path: Path, options: dict[str, Any]) -> tuple[Iterator[list[str]], dict[str, Any]]:
    with path.open("rb") as file:
        sample = file.read(SAMPLE_BYTES)
    if not sample:
        raise Unreadable("the file is empty")
    if sample.startswith(b"PK\x03\x04"):
        return _open_sheet(path), {"format": "xlsx", "delimiter": None, "encoding": None}
    if sample.startswith((b"%PDF", b"\x89PNG", b"\xff\xd8\xff", b"GIF8", b"\x1f\x8b", b"\xd0\xcf\x11\xe0", b"Rar!")):
        raise Unreadable("the file is neither CSV nor Excel (.xlsx)")
    encoding = str(options.get("encoding") or detect_encoding(sample))
    text = sample.decode(encoding, errors="replace")
    if text.count("\x00") > len(text) // 10:
        raise Unreadable("the file is neither CSV nor Excel (.xlsx)")
    delimiter = str(options.get("delimiter") or detect_delimiter(text))
    facts = {"format": "csv", "delimiter": delimiter, "encoding": encoding}
    return _open_text(path, encoding, delimiter), facts


def _open_text(path: Path, encoding: str, delimiter: str) -> Iterator[list[str]]:
    try:
        with path.open(encoding=encoding, errors="replace", newline="") as file:
            yield from csv.reader((line.replace("\x00", "") for line in _bounded(file)), delimiter=delimiter)
    except LookupError as error:
        raise Unreadable(f"unknown encoding {encoding}") from error


def _bounded(file: Iterable[str]) -> Iterator[str]:
    """A line of a gigabyte would be held whole: text files are read with a limit instead."""
    readline = getattr(file, "readline")  # noqa: B009
    while line := readline(FIELD_MAX_CHARS * 4):
        if len(line) >= FIELD_MAX_CHARS * 4:
            raise Unreadable(f"a line is longer than {FIELD_MAX_CHARS * 4} characters")
        yield line


def _open_sheet(path: Path) -> Iterator[list[str]]:
    """The first sheet that has rows. Formulas are read as the values that the spreadsheet last showed."""
    import python_calamine  # costs memory that text files need not pay

    try:
        with zipfile.ZipFile(path) as archive:
            unzipped = sum(entry.file_size for entry in archive.infolist())
        if unzipped > UNZIPPED_MAX_BYTES:
            raise Unreadable(f"the file is larger than {UNZIPPED_MAX_BYTES // 1_000_000} MB when unpacked")
        workbook = python_calamine.CalamineWorkbook.from_path(str(path))
        for name in workbook.sheet_names:
            sheet = workbook.get_sheet_by_name(name)
            if sheet.height:
                return ([_text(cell) for cell in row] for row in sheet.iter_rows())
    except (zipfile.BadZipFile, python_calamine.CalamineError, OSError, ValueError) as error:
        raise Unreadable(f"the Excel file is broken: {error}") from error
    raise Unreadable("the file is empty")


def _text(cell: object) -> str:
    if isinstance(cell, float) and cell.is_integer():
        return str(int(cell))
    return "" if cell is None else str(cell)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
