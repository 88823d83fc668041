"""Documents with a place that a command writes anew, between two marks."""

from pathlib import Path


class MarksMissing(Exception):
    """The document has no such place."""

    def __init__(self, document: Path, begin: str, end: str) -> None:
        super().__init__(f"{document} needs the lines {begin} and {end}")


def replace_between(document: Path, begin: str, end: str, content: str) -> None:
    """Raises MarksMissing."""
    text = document.read_text()
    if begin not in text or end not in text:
        raise MarksMissing(document, begin, end)
    head, rest = text.split(begin, 1)
    document.write_text(f"{head}{begin}\n{content}{end}{rest.split(end, 1)[1]}")
