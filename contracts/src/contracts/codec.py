"""Bytes to events and back."""

from collections.abc import Iterable, Mapping

import orjson
from pydantic import ValidationError

from contracts.envelope import Envelope, Event, UnreadableEnvelope, read_envelope, read_type
from contracts.topics import EVENT_TYPES
from contracts.upcasting import upcast


class UnknownType(Exception):
    """The record's ce_type is not a type of contracts: deploy a version that knows it, then replay what was parked."""


class Undecodable(Exception):
    """The record's value does not fit its type: see the reason; the original bytes are kept in `parked`."""


UNREADABLE = (UnreadableEnvelope, UnknownType, Undecodable)


def read_record(
    headers: Iterable[tuple[str, bytes]], value: bytes, handles: frozenset[str] | None = None
) -> tuple[Envelope, Event] | None:
    """None if the type is known but not in `handles`. Raises one of UNREADABLE."""
    values = dict(headers)
    if handles is not None and (known := read_type(values)) not in handles and known in EVENT_TYPES:
        return None
    envelope = read_envelope(values)
    return envelope, decode(envelope.type, envelope.version, value)


def encode(event: Event) -> bytes:
    return event.__pydantic_serializer__.to_json(event)


def decode(event_type: str, version: int, value: bytes, types: Mapping[str, type[Event]] = EVENT_TYPES) -> Event:
    """Raises UnknownType or Undecodable. Fields that this version does not know are ignored."""
    model = types.get(event_type)
    if model is None:
        raise UnknownType(event_type)
    try:
        if version < model.VERSION:
            data = upcast(event_type, version, model.VERSION, orjson.loads(value))
            return model.model_validate_json(orjson.dumps(data), extra="ignore")
        # As model_validate_json does, which first looks for a mistake in its arguments.
        event: Event = model.__pydantic_validator__.validate_json(value, extra="ignore")
        return event
    except (ValidationError, ValueError, KeyError, TypeError) as error:
        raise Undecodable(f"{event_type} v{version}: {_without_values(error)}") from None


def _without_values(error: Exception) -> str:
    """Where and what, but none of the record's values: reasons are logged."""
    if isinstance(error, ValidationError):
        problems = error.errors(include_input=False, include_url=False, include_context=False)
        return "; ".join(f"{'.'.join(map(str, problem['loc']))}: {problem['type']}" for problem in problems[:5])
    return type(error).__name__
