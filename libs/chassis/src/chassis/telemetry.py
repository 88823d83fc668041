"""Logs, traces, metrics: how a service tells what it does, without telling anything about a person."""

import json
import logging
import random
import re
import sys
from collections.abc import Iterable, Iterator, Mapping, MutableMapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Literal, get_args

import orjson
import structlog
from opentelemetry import context as context_api
from opentelemetry import trace
from opentelemetry.exporter.otlp.proto.http.trace_exporter import OTLPSpanExporter
from opentelemetry.sdk.resources import Resource
from opentelemetry.sdk.trace import ReadableSpan, TracerProvider
from opentelemetry.sdk.trace.export import BatchSpanProcessor, SpanExporter, SpanExportResult
from opentelemetry.sdk.trace.sampling import ALWAYS_OFF, ParentBased, TraceIdRatioBased
from opentelemetry.trace.propagation.tracecontext import TraceContextTextMapPropagator
from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram

from chassis.settings import TelemetrySettings
from contracts.envelope import Envelope

log: structlog.stdlib.BoundLogger = structlog.get_logger()
correlated = structlog.contextvars.bound_contextvars  # with correlated(correlation_id=…): every line inside has it

REMOVED = "[removed]"
# Values of keys that are, or end in `_` and, one of these words tell something about a person or open a door.
_PRIVATE = re.compile(
    r"(?:.*_)?(?:phone|phone_number|name|text|body|content|address|recipient|recipient_key|chat|email|url"
    r"|token|password|secret|authorization|cookie|api_?key|credentials?|dsn|qr_code|pairing_code|lid|bsuid)",
    re.IGNORECASE,
)
_NUMBER_OF_A_PERSON = re.compile(r"\d{10,}")
_INPUT_SHOWN = re.compile(r"input_value=.*?, input_type")

Metric = Literal[
    "pombo_records_consumed_total",
    "pombo_records_parked_total",
    "pombo_records_published_total",
    "pombo_consumer_lag_records",
    "pombo_consumer_retries_total",
    "pombo_consumer_batch_seconds",
    "pombo_outbox_published_total",
    "pombo_outbox_oldest_seconds",
    "pombo_http_requests_total",
    "pombo_http_request_seconds",
    "pombo_webhooks_received_total",
    "pombo_webhooks_spooled_total",
    "pombo_webhooks_refused_total",
    "pombo_webhooks_translated_total",
    "pombo_dispatches_planned_total",
    "pombo_dispatches_released_total",
    "pombo_dispatches_republished_total",
    "pombo_lanes_due",
    "pombo_queue_pending",
    "pombo_queue_processing",
    "pombo_queue_dead_letters",
    "pombo_queue_unresolved",
    "pombo_messages_admitted_total",
    "pombo_messages_returned_total",
    "pombo_messages_sent_total",
    "pombo_messages_failed_total",
    "pombo_messages_ambiguous_total",
    "pombo_messages_resolved_total",
    "pombo_provider_request_seconds",
    "pombo_lanes_waiting_records",
    "pombo_lanes_in_flight",
    "pombo_loop_late_seconds",
    "pombo_breakers_open",
    "pombo_instances_slowed_total",
    "pombo_instances_stopped_total",
    "pombo_gates_closing",
    "pombo_projection_batch_seconds",
    "pombo_live_connections",
    "pombo_outgoing_webhooks_total",
]
METRICS: tuple[Metric, ...] = get_args(Metric)
REGISTRY = CollectorRegistry()
_registered: dict[str, Counter | Gauge | Histogram] = {}
_TRACEPARENT = re.compile(r"00-(?!0{32})[0-9a-f]{32}-(?!0{16})[0-9a-f]{16}-[0-9a-f]{2}")
_provider = TracerProvider(sampler=ALWAYS_OFF, shutdown_on_exit=False)  # until configured: ids, but nothing recorded
_sampled_below = 0  # as the sampler decides, for the many traces whose ids alone go on
_propagator = TraceContextTextMapPropagator()


def configure(service: str, settings: TelemetrySettings) -> None:
    """Once per process, before anything logs."""
    _configure_logs(service, settings.log_level)
    global _provider, _sampled_below
    sampler = TraceIdRatioBased(settings.sample_ratio)
    _sampled_below = sampler.bound
    _provider = TracerProvider(
        sampler=ParentBased(sampler),
        resource=Resource.create({"service.name": service}),
    )
    if settings.spans_file is not None:
        _provider.add_span_processor(
            BatchSpanProcessor(SpanFile(service, settings.spans_file), schedule_delay_millis=500)
        )
    if settings.otlp_endpoint is not None:
        _provider.add_span_processor(BatchSpanProcessor(OTLPSpanExporter(endpoint=settings.otlp_endpoint)))


def flush_spans() -> None:
    """Before the process ends: what was recorded is written."""
    _provider.force_flush(timeout_millis=2000)


@contextmanager
def span(name: str, traceparent: str | None = None, **attributes: object) -> Iterator[str]:
    """A span under `traceparent`, else under the current one, else a new trace; gives its own traceparent.

    Of a trace that is not recorded only the ids go on: a real span costs ten times as much, and 99 % are such.
    """
    above = traceparent if traceparent and _TRACEPARENT.fullmatch(traceparent) else current_traceparent()
    if not is_recorded(above):
        ids = trace.SpanContext(int(above[3:35], 16), int(above[36:52], 16), is_remote=False)
        token = context_api.attach(trace.set_span_in_context(trace.NonRecordingSpan(ids)))
        try:
            yield above
        finally:
            context_api.detach(token)
        return
    parent = _propagator.extract({"traceparent": above})
    known = {key: _attribute(key, value) for key, value in attributes.items() if value is not None}
    with _provider.get_tracer("pombo").start_as_current_span(name, context=parent, attributes=known) as current:
        yield _format(current.get_span_context())


@contextmanager
def followed(name: str, traceparent: str | None, **attributes: object) -> Iterator[str | None]:
    """A span only where `traceparent` is of a recorded trace; else nothing but the same traceparent, at no cost."""
    if traceparent is None or not is_recorded(traceparent):
        yield traceparent
        return
    with span(name, traceparent, **attributes) as own:
        yield own


def mark_applied(group: str, envelopes: Iterable[Envelope]) -> None:
    """A moment in the trace of each record: its batch, one transaction, is committed."""
    for envelope in envelopes:
        if envelope.traceparent is not None and is_recorded(envelope.traceparent):
            with span(f"{group} {envelope.type}", envelope.traceparent):
                pass


def is_recorded(traceparent: str) -> bool:
    return traceparent.endswith("01")


def current_traceparent() -> str:
    """The current span's, else that of a new trace, sampled like any other."""
    context = trace.get_current_span().get_span_context()
    return _format(context) if context.is_valid else new_traceparent()


def new_traceparent() -> str:
    trace_id = random.getrandbits(128) or 1
    sampled = trace_id & TraceIdRatioBased.TRACE_ID_LIMIT < _sampled_below
    return f"00-{trace_id:032x}-{random.getrandbits(64) or 1:016x}-{int(sampled):02x}"


def counter(name: Metric, help_text: str = "", labels: Sequence[str] = ()) -> Counter:
    """The same object for the same name, so that any module may ask for it."""
    metric: Counter = _metric(Counter, name, help_text, labels)
    return metric


def gauge(name: Metric, help_text: str = "", labels: Sequence[str] = ()) -> Gauge:
    metric: Gauge = _metric(Gauge, name, help_text, labels)
    return metric


def histogram(
    name: Metric, help_text: str = "", labels: Sequence[str] = (), buckets: Sequence[float] = ()
) -> Histogram:
    chosen = {"buckets": tuple(buckets)} if buckets else {}
    metric: Histogram = _metric(Histogram, name, help_text, labels, **chosen)
    return metric


class SpanFile(SpanExporter):
    """Appends one JSON object a line: names, ids, times in ns, attributes."""

    def __init__(self, service: str, path: Path) -> None:
        path.parent.mkdir(parents=True, exist_ok=True)
        self._service = service
        self._file = path.open("a", encoding="utf-8")

    def export(self, spans: Sequence[ReadableSpan]) -> SpanExportResult:
        self._file.write("".join(json.dumps(self._line(span)) + "\n" for span in spans))
        self._file.flush()
        return SpanExportResult.SUCCESS

    def shutdown(self) -> None:
        self._file.close()

    def _line(self, span: ReadableSpan) -> dict[str, Any]:
        context = span.get_span_context()
        return {
            "service": self._service,
            "name": span.name,
            "trace_id": f"{context.trace_id:032x}" if context else None,
            "span_id": f"{context.span_id:016x}" if context else None,
            "parent_id": f"{span.parent.span_id:016x}" if span.parent else None,
            "start_ns": span.start_time,
            "end_ns": span.end_time,
            "status": span.status.status_code.name,
            "attributes": dict(span.attributes or {}),
        }


def remove_private(_: Any, __: str, line: MutableMapping[str, Any]) -> MutableMapping[str, Any]:
    """A structlog processor: values of personal and secret keys go; long numbers and shown inputs in texts too."""
    for key, value in line.items():
        line[key] = _without_private(key, value)
    return line


def _without_private(key: str, value: Any) -> Any:
    if _PRIVATE.fullmatch(key) and value is not None:
        return REMOVED
    match value:
        case Mapping():
            return {name: _without_private(str(name), inner) for name, inner in value.items()}
        case list() | tuple():
            return [_without_private("", inner) for inner in value]
        case str() if key in ("event", "exception", "error", "reason"):
            return _NUMBER_OF_A_PERSON.sub("[digits]", _INPUT_SHOWN.sub("input_value=[removed], input_type", value))
        case _:
            return value


def _configure_logs(service: str, level: str) -> None:
    def add_origin(_: Any, __: str, line: MutableMapping[str, Any]) -> MutableMapping[str, Any]:
        line["service"] = service
        context = trace.get_current_span().get_span_context()
        if context.is_valid:
            line["trace_id"] = f"{context.trace_id:032x}"
        return line

    shared: list[structlog.typing.Processor] = [
        structlog.contextvars.merge_contextvars,
        structlog.stdlib.add_log_level,
        structlog.stdlib.add_logger_name,
        structlog.processors.TimeStamper(fmt="iso", utc=True),
        add_origin,
        structlog.processors.format_exc_info,
        remove_private,
    ]
    handler = logging.StreamHandler(sys.stderr)
    handler.setFormatter(
        structlog.stdlib.ProcessorFormatter(
            foreign_pre_chain=shared,
            processors=[
                structlog.stdlib.ProcessorFormatter.remove_processors_meta,
                structlog.processors.JSONRenderer(serializer=_to_json),
            ],
        )
    )
    logging.basicConfig(handlers=[handler], level=level.upper(), force=True)
    logging.getLogger("aiohttp.access").setLevel("WARNING")
    structlog.configure(
        processors=[
            structlog.stdlib.filter_by_level,
            *shared,
            structlog.stdlib.ProcessorFormatter.wrap_for_formatter,
        ],
        logger_factory=structlog.stdlib.LoggerFactory(),
        wrapper_class=structlog.stdlib.BoundLogger,
    )


def _to_json(line: Any, **_: Any) -> str:
    return orjson.dumps(line, default=str, option=orjson.OPT_NON_STR_KEYS).decode()


def _attribute(key: str, value: object) -> str | bool | int | float:
    if _PRIVATE.fullmatch(key):
        return REMOVED
    return value if isinstance(value, str | bool | int | float) else str(value)


def _format(context: trace.SpanContext) -> str:
    return f"00-{context.trace_id:032x}-{context.span_id:016x}-{int(context.trace_flags) & 1:02x}"


def _metric(kind: Any, name: Metric, help_text: str, labels: Sequence[str], **options: Any) -> Any:
    if name not in _registered:
        _registered[name] = kind(name, help_text or name, tuple(labels), registry=REGISTRY, **options)
    return _registered[name]
