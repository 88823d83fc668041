"""chassis.telemetry: traces go on, logs tell nothing about a person, metrics have known names."""

import asyncio
import json
import logging
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from uuid import uuid4

import pytest
import structlog

from chassis import telemetry
from chassis.settings import TelemetrySettings
from chassis.telemetry import (
    METRICS,
    REMOVED,
    configure,
    correlated,
    counter,
    current_traceparent,
    flush_spans,
    log,
    remove_private,
    span,
)

TRACEPARENT = re.compile(r"00-[0-9a-f]{32}-[0-9a-f]{16}-0[01]")


@pytest.fixture(autouse=True)
def leave_no_trace() -> Iterator[None]:
    """Logging is the process's; other tests want theirs."""
    handlers, level, provider = logging.getLogger().handlers[:], logging.getLogger().level, telemetry._provider
    yield
    logging.getLogger().handlers[:] = handlers
    logging.getLogger().setLevel(level)
    telemetry._provider = provider
    structlog.reset_defaults()


def lines(capsys: pytest.CaptureFixture[str]) -> list[dict[str, Any]]:
    return [json.loads(line) for line in capsys.readouterr().err.splitlines()]


@pytest.mark.parametrize("ratio", [0.0, 1.0])
def test_a_traceparent_is_always_there_sampled_or_not(ratio: float) -> None:
    configure("tests", TelemetrySettings(sample_ratio=ratio))
    alone = current_traceparent()
    with span("outer") as outer, span("inner") as inner:
        assert current_traceparent() == inner
    for traceparent in (alone, outer, inner):
        assert TRACEPARENT.fullmatch(traceparent)
        assert traceparent.endswith("01") == (ratio == 1.0)
    assert outer.split("-")[1] == inner.split("-")[1]


def test_before_configuration_there_are_traceparents_too() -> None:
    with span("x") as traceparent:
        assert TRACEPARENT.fullmatch(traceparent)


@pytest.mark.parametrize("flags", ["00", "01"])
def test_a_given_traceparent_goes_on_with_its_decision(flags: str) -> None:
    configure("tests", TelemetrySettings(sample_ratio=0.5))
    trace_id = uuid4().hex
    with span("next", f"00-{trace_id}-00f067aa0ba902b7-{flags}") as traceparent:
        assert traceparent.split("-")[1] == trace_id
        assert traceparent.endswith(flags)


def test_a_traceparent_that_cannot_be_read_begins_a_new_trace() -> None:
    with span("next", "nonsense") as traceparent:
        assert TRACEPARENT.fullmatch(traceparent)


def test_spans_are_lines_of_a_file(tmp_path: Path) -> None:
    configure("tests", TelemetrySettings(sample_ratio=1, spans_file=tmp_path / "deep" / "spans.jsonl"))
    with span("outer", instance_id=uuid4(), phone="5511987654321"), span("inner"):
        pass
    flush_spans()
    inner, outer = [json.loads(line) for line in (tmp_path / "deep" / "spans.jsonl").read_text().splitlines()]
    assert (outer["name"], inner["name"]) == ("outer", "inner")
    assert inner["parent_id"] == outer["span_id"]
    assert inner["trace_id"] == outer["trace_id"]
    assert outer["end_ns"] >= inner["end_ns"]
    assert outer["attributes"]["phone"] == REMOVED


def test_unsampled_spans_are_not_written(tmp_path: Path) -> None:
    configure("tests", TelemetrySettings(sample_ratio=0, spans_file=tmp_path / "spans.jsonl"))
    with span("x"):
        pass
    flush_spans()
    assert (tmp_path / "spans.jsonl").read_text() == ""


async def test_concurrent_tasks_have_spans_of_their_own() -> None:
    async def work() -> bool:
        with span("task") as mine:
            await asyncio.sleep(0.001)
            return current_traceparent() == mine

    assert all(await asyncio.gather(*(work() for _ in range(20))))


def test_a_log_line_is_json_with_service_trace_and_correlation(capsys: pytest.CaptureFixture[str]) -> None:
    configure("tests", TelemetrySettings())
    with span("x") as traceparent, correlated(correlation_id="c-1"):
        log.info("thing_happened", count=3)
    (line,) = lines(capsys)
    assert (line["event"], line["service"], line["level"], line["count"]) == ("thing_happened", "tests", "info", 3)
    assert line["trace_id"] == traceparent.split("-")[1]
    assert line["correlation_id"] == "c-1"


def test_lines_of_libraries_are_json_as_well_and_cleaned(capsys: pytest.CaptureFixture[str]) -> None:
    configure("tests", TelemetrySettings())
    logging.getLogger("aiokafka").warning("lost %s", "5511987654321")
    (line,) = lines(capsys)
    assert (line["event"], line["logger"]) == ("lost [digits]", "aiokafka")


@pytest.mark.parametrize(
    "key",
    [
        "phone",
        "to_phone",
        "name",
        "profile_name",
        "text",
        "body",
        "token",
        "access_token",
        "password",
        "authorization",
        "api_key",
        "apikey",
        "credentials",
        "recipient_key",
        "secret",
        "app_secret",
        "Authorization",
        "address",
        "dsn",
    ],
)
def test_personal_and_secret_values_never_reach_a_log(key: str) -> None:
    line = remove_private(
        None, "info", {"event": "x", key: "canary", "inner": {key: "canary"}, "list": [{key: "canary"}]}
    )
    assert "canary" not in json.dumps(line)


def test_what_is_neither_personal_nor_secret_stays() -> None:
    line = {"event": "x", "instance_id": "i", "count": 1, "topic": "t", "reason": "throttled", "offset": 12345678901}
    assert remove_private(None, "info", dict(line)) == line


def test_an_exception_tells_no_personal_value(capsys: pytest.CaptureFixture[str]) -> None:
    from contracts.contacts import ContactOptedOut

    configure("tests", TelemetrySettings())
    value = {"recipient_key": "5511987654321", "reason": "can" + "ary 5511987654321"}
    try:
        ContactOptedOut.model_validate(value)
    except ValueError:
        log.exception("refused")
    (line,) = lines(capsys)
    assert "ValidationError" in line["exception"]
    assert "canary" not in line["exception"]
    assert "5511987654321" not in line["exception"]


def test_asking_twice_for_a_metric_gives_the_same() -> None:
    name = METRICS[0]
    assert counter(name, "x", ("group",)) is counter(name, "x", ("group",))


def test_metric_names_follow_the_conventions() -> None:
    for name in METRICS:
        assert re.fullmatch(r"pombo_[a-z_]+", name)
    assert len(set(METRICS)) == len(METRICS)
