"""CloudEvents 1.0 in Kafka's binary mode: what every record says about itself, in headers."""

from collections.abc import Iterable, Mapping
from datetime import datetime
from functools import lru_cache
from typing import ClassVar, NamedTuple
from uuid import UUID

from pydantic import BaseModel, ConfigDict

from contracts.ids import read_uuid

Headers = list[tuple[str, bytes]]


class Event(BaseModel):
    """A fact, in the past tense. Frozen; producers may not add unknown fields, readers ignore them.

    Type names and field names are the stored format: change them only together with an upcaster.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")
    VERSION: ClassVar[int] = 1


class UnreadableEnvelope(Exception):
    """A record lacks the ce_ headers that every event carries, or one of them cannot be read."""


class Envelope(NamedTuple):
    """`subject` is the stream (and the Kafka key); `stream_version` is set for events of event streams only."""

    id: UUID
    type: str
    version: int
    source: str
    subject: str
    time: datetime
    account_id: UUID | None = None
    correlation_id: str | None = None
    causation_id: UUID | None = None
    traceparent: str | None = None
    stream_version: int | None = None


def write_headers(envelope: Envelope) -> Headers:
    headers: Headers = [
        ("ce_specversion", b"1.0"),
        ("content-type", b"application/json"),
        ("ce_id", str(envelope.id).encode()),
        ("ce_type", envelope.type.encode()),
        ("ce_schemaversion", str(envelope.version).encode()),
        ("ce_source", envelope.source.encode()),
        ("ce_subject", envelope.subject.encode()),
        ("ce_time", envelope.time.isoformat().encode()),
    ]
    if envelope.account_id is not None:
        headers.append(("ce_accountid", str(envelope.account_id).encode()))
    if envelope.correlation_id is not None:
        headers.append(("ce_correlationid", envelope.correlation_id.encode()))
    if envelope.causation_id is not None:
        headers.append(("ce_causationid", str(envelope.causation_id).encode()))
    if envelope.traceparent is not None:
        headers.append(("traceparent", envelope.traceparent.encode()))
    if envelope.stream_version is not None:
        headers.append(("ce_sequence", str(envelope.stream_version).encode()))
    return headers


def read_type(values: Mapping[str, bytes]) -> str:
    """The event's type alone, '' if there is none: most records are skipped by it."""
    return values.get("ce_type", b"").decode(errors="replace")


def read_headers(headers: Iterable[tuple[str, bytes]]) -> Envelope:
    """Raises UnreadableEnvelope."""
    return read_envelope(dict(headers))


def read_envelope(values: Mapping[str, bytes]) -> Envelope:
    """Of headers by name. Raises UnreadableEnvelope."""
    try:
        time = datetime.fromisoformat(values["ce_time"].decode())
        if time.tzinfo is None:
            raise ValueError("ce_time has no offset")
        sequence = values.get("ce_sequence")
        # By position: by name it takes longer than reading two of the texts.
        return Envelope(
            read_uuid(values["ce_id"]),
            values["ce_type"].decode(),
            int(values.get("ce_schemaversion", b"1")),
            values["ce_source"].decode(),
            values.get("ce_subject", b"").decode(),
            time,
            _account(values.get("ce_accountid")),
            _text(values.get("ce_correlationid")),
            _uuid(values.get("ce_causationid")),
            _text(values.get("traceparent")),
            None if sequence is None else int(sequence),
        )
    except (KeyError, ValueError) as error:
        raise UnreadableEnvelope(f"{type(error).__name__}: {error}") from error


@lru_cache(maxsize=1024)  # a batch has few accounts, and one UUID takes a sixth of a record's headers
def _account(value: bytes | None) -> UUID | None:
    return _uuid(value)


def _uuid(value: bytes | None) -> UUID | None:
    return None if value is None else read_uuid(value)


def _text(value: bytes | None) -> str | None:
    return None if value is None else value.decode()
