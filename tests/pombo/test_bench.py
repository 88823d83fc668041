"""The bench beside its figures: which groups are chosen, how the provider's log is read, the load on the door."""

import asyncio
import json
from pathlib import Path

import pytest

from pombo.bench import webhook_load
from pombo.bench.arrivals import Arrivals, by_number, by_text
from pombo.bench.bench import GROUPS, UnknownName, chosen
from pombo.bench.figures import Figure, Yardstick
from pombo.bench.running import planned_count


def test_without_a_name_everything_is_measured_in_order() -> None:
    assert chosen([]) == list(GROUPS)


def test_groups_are_chosen_by_their_names_or_by_those_of_their_figures() -> None:
    assert chosen(["windows_over_limit", "sending"]) == ["sending", "pacing"]
    with pytest.raises(UnknownName, match="plan_recipients_per_second"):
        chosen(["nothing"])


def test_every_figure_that_was_asked_for_has_a_group() -> None:
    figures = {figure for group in GROUPS.values() for figure in group.figures}
    assert figures >= {
        "end_to_end_messages_per_second",
        "system_cpu_seconds_per_1000_messages",
        "send_stage_messages_per_second_60ms",
        "pacing_efficiency_percent",
        "windows_over_limit",
        "webhook_p99_ms_at_3000_rps",
        "status_visible_p99_ms",
        "pause_ack_p99_ms",
        "sends_after_pause_ack",
        "start_to_first_send_p99_ms",
        "plan_recipients_per_second",
        "projection_rebuild_events_per_second",
        "recovery_seconds_sender",
        "recovery_seconds_takeover",
        "recovery_seconds_postgres",
        "recovery_seconds_kafka",
        "import_rows_per_second",
    }
    assert len(figures) == sum(len(group.figures) for group in GROUPS.values())


def test_a_figure_is_one_json_line_with_its_conditions() -> None:
    line = json.loads(Figure("speed", 1.23456, "m/s", {"numbers": 4}).line())
    assert (line["name"], line["value"], line["unit"]) == ("speed", 1.23, "m/s")
    assert line["conditions"]["numbers"] == 4
    assert line["conditions"]["cores"] >= 1


def test_the_yardstick_tells_what_was_sampled_since_it_was_asked_last() -> None:
    yardstick = Yardstick()
    yardstick.sample()
    assert yardstick.conditions()["yardstick_us"] > 0
    assert yardstick.conditions() == {}


def test_what_was_delivered_and_read_is_counted_once() -> None:
    counts = {"pending": 5, "queued": 2, "sent": 3, "delivered": 3, "read": 2, "failed": 1, "unresolved": 0}
    assert planned_count({"dispatches": counts}) == 11


def opened(at_ns: int, number: str, text: str) -> str:
    fact = {"event": "request_open", "at_ms": 1, "mono_ns": at_ns, "number": number, "person": "p", "text_sha": text}
    return json.dumps(fact | {"message_id": f"wamid.{at_ns}"}, separators=(",", ":"))


def hook(at_ns: int, http_status: int) -> str:
    fact = {"event": "webhook", "at_ms": 1, "mono_ns": at_ns, "items": [["wamid.1", "read"]]}
    return json.dumps(fact | {"http_status": http_status}, separators=(",", ":"))


def test_the_providers_log_is_read_on_from_where_the_last_reading_ended(tmp_path: Path) -> None:
    log = tmp_path / "witness.jsonl"
    log.write_text(opened(1, "a", "old") + "\n")
    arrivals = Arrivals(log)
    arrivals.skip()
    with log.open("a") as lines:
        lines.write(
            "\n".join([opened(9, "b", "x"), hook(5, 200), hook(6, 500), opened(3, "a", "x"), opened(20, "a", "y")])
        )
    sends, reports = arrivals.read()
    assert [(send.at_ns, send.number) for send in sends] == [(3, "a"), (9, "b")]  # the last line has no end yet
    assert [(report.at_ns, report.status) for report in reports] == [(5, "read")]  # a 500 told us nothing
    with log.open("a") as lines:
        lines.write("\n")
    later, _ = arrivals.read()
    assert by_text(later) == {"y": [20]}
    assert by_number(sends + later) == {"a": [3, 20], "b": [9]}


@pytest.fixture
def bodies(tmp_path: Path) -> Path:
    file = tmp_path / "webhooks.txt"
    file.write_text('sha256=aa {"a": 1}\nsha256=bb {"b": "dois"}\n')
    return file


async def test_the_load_is_sent_in_even_time_and_measured_from_when_it_was_due(bodies: Path) -> None:
    """A door that sleeps 50 ms for each webhook: every latency shows it, and nothing is left out."""
    seen: list[bytes] = []

    async def answer(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            while head := await reader.readuntil(b"\r\n\r\n"):
                length = int(head.split(b"Content-Length: ")[1].split(b"\r\n")[0])
                seen.append(head + await reader.readexactly(length))
                await asyncio.sleep(0.05)
                writer.write(b"HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\nok")
        except asyncio.IncompleteReadError:
            writer.close()

    async with await asyncio.start_server(answer, "127.0.0.1", 0) as server:
        host, port = server.sockets[0].getsockname()[:2]
        found = await webhook_load.run(f"http://{host}:{port}", "/hook", bodies, 100, 1.0)
    assert (found["answered"], found["unanswered"], found["not_200"]) == (100, 0, 0)
    assert found["p50_ms"] >= 50
    assert len(seen) == 100
    assert seen[0].startswith(b"POST /hook HTTP/1.1\r\n")
    assert b"X-Hub-Signature-256: sha256=aa\r\n" in seen[0]
    assert seen[0].endswith(b'{"a": 1}')
    assert seen[1].endswith(b'{"b": "dois"}')


async def test_a_webhook_that_is_never_answered_counts_as_long_as_it_waited(
    bodies: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(webhook_load, "PATIENCE_S", 0.3)

    async def swallow(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.read()
        writer.close()

    async with await asyncio.start_server(swallow, "127.0.0.1", 0) as server:
        host, port = server.sockets[0].getsockname()[:2]
        found = await webhook_load.run(f"http://{host}:{port}", "/hook", bodies, 50, 0.2)
    assert (found["answered"], found["unanswered"]) == (0, 10)
    assert found["p99_ms"] >= 300
