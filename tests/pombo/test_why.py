"""`pombo why`: an answer of the API as a person reads it."""

from datetime import UTC, datetime, timedelta
from io import StringIO
from typing import Any

import pytest
from rich.console import Console

from pombo.why import show

NOON = datetime(2026, 3, 2, 12, tzinfo=UTC)


def shown(**fields: Any) -> str:
    answer: dict[str, Any] = {
        "subject": "campaign", "id": "c-1", "name": "Natal [1]", "status": "running", "summary": "Held. And 1 more.",
        "reasons": [], "waiting": None, "estimated_end": None,
    }  # fmt: skip
    out = StringIO()
    show(Console(file=out, width=200, no_color=True), answer | fields, NOON)
    return out.getvalue()


def reason(name: str, text: str, *, slows: bool = False, until: datetime | None = None) -> dict[str, Any]:
    return {"reason": name, "text": text, "slows": slows, "until": until and until.isoformat()}


def test_what_holds_what_slows_and_what_is_usual_are_told_apart() -> None:
    page = shown(
        reasons=[
            reason("held", "Ana stopped all sending. [x]", until=NOON + timedelta(hours=5)),
            reason("credit", "Loja 1: 5 messages are with the sender."),
            reason("throttled", "Loja 1: slowed down.", slows=True),
        ]
    )
    assert "Natal [1]  running" in page
    lines = [line.split() for line in page.splitlines()[2:]]
    assert [line[0] for line in lines if line] == ["holds", "usual", "slows"]
    assert "[x]" in page
    assert "in 5 h" in page


@pytest.mark.parametrize(
    ("end", "wanted"),
    [
        (NOON + timedelta(seconds=90), "(in 90 s)"),
        (NOON + timedelta(minutes=90), "(in 90 min)"),
        (NOON + timedelta(days=2), "(in 48 h)"),
        (NOON + timedelta(days=9), "(in 9 days)"),
    ],
)
def test_the_end_is_told_with_what_is_left_until_it(end: datetime, wanted: str) -> None:
    page = shown(waiting=7, estimated_end=end.isoformat())
    assert "7 messages wait. The last one leaves at about" in page
    assert wanted in page


def test_an_end_that_needs_a_person_is_told_so() -> None:
    assert "somebody has to act" in shown(waiting=7)
    assert "somebody has to act" not in shown(waiting=0)
    assert "It leaves at about" in shown(subject="dispatch", estimated_end=NOON.isoformat())
