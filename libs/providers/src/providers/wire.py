"""Looking into untyped JSON without surprises: each function answers a type or None, whatever the payload holds."""

import hashlib
import hmac
import re
from collections.abc import Iterable, Mapping
from functools import lru_cache
from typing import Any, Final

import orjson

from providers.events import UnreadablePayload

REDACTED: Final = "[redacted]"
_EMPTY: Final[dict[str, Any]] = {}
# Before this, a number is seconds: it is March 1973 in milliseconds and the year 5138 in seconds.
_SECONDS_BELOW: Final = 100_000_000_000
_LATEST_MS: Final = 253_402_300_799_000  # the last day that a datetime can hold
_IDENTITY_MAX: Final = 512
_SECRET_HEADERS: Final = re.compile(r"token|secret|apikey|api-key|authorization|cookie", re.IGNORECASE)


def read_object(body: bytes) -> dict[str, Any]:
    """The JSON object in the body. Raises UnreadablePayload."""
    try:
        value = orjson.loads(body)
    except orjson.JSONDecodeError as error:
        raise UnreadablePayload("not_json") from error
    if not isinstance(value, dict):
        raise UnreadablePayload("not_an_object")
    return value


def read_any(body: bytes) -> Any:
    """The JSON value in the body, None where there is none."""
    try:
        return orjson.loads(body)
    except orjson.JSONDecodeError:
        return None


def obj(value: object) -> dict[str, Any]:
    """The value if it is an object, else an empty one (not to be written to)."""
    return value if isinstance(value, dict) else _EMPTY


def objects(value: object) -> list[dict[str, Any]]:
    """The objects of a list; one object alone counts as a list of one."""
    if isinstance(value, dict):
        return [value]
    return [item for item in value if isinstance(item, dict)] if isinstance(value, list) else []


def text(value: object) -> str | None:
    """A non-empty string; integers are written out, as providers change their mind between both. Without NUL, which
    no text of PostgreSQL's can hold."""
    if isinstance(value, str):
        return (value.replace("\0", "") if "\0" in value else value) or None
    if isinstance(value, int) and not isinstance(value, bool):
        return str(value)
    return None


def identity(value: object) -> str | None:
    """A message's id. What is much longer than any provider's is none: it would not fit an index."""
    found = text(value)
    return found if found is not None and len(found) <= _IDENTITY_MAX else None


def flag(value: object) -> bool | None:
    return value if isinstance(value, bool) else None


def whole(value: object) -> int | None:
    """An integer, also from a string, a float without fraction, or a protobuf long {low, high, unsigned}."""
    if isinstance(value, bool):
        return None
    if isinstance(value, int):
        return value
    if isinstance(value, float):
        return int(value) if value.is_integer() else None
    if isinstance(value, str):
        return int(value) if value.isascii() and value.lstrip("-").isdigit() and len(value) < 20 else None
    if isinstance(value, dict):
        low, high = value.get("low"), value.get("high")
        if isinstance(low, int) and isinstance(high, int):
            return (high << 32) + (low & 0xFFFFFFFF)
    return None


def decimal(value: object) -> float | None:
    if isinstance(value, (int, float)) and not isinstance(value, bool):
        return float(value)
    return None


def milliseconds(value: object) -> int | None:
    """A provider's time in milliseconds; small numbers are seconds (Z-API's Disconnected, all of Meta)."""
    number = whole(value)
    if number is None or number <= 0:
        return None
    if number < _SECONDS_BELOW:
        number *= 1000
    return number if number <= _LATEST_MS else None


def header(headers: Mapping[str, str], name: str) -> str | None:
    """A header by its lower-case name, however the mapping spells it."""
    found = headers.get(name)
    if found is not None:
        return found
    for key, value in headers.items():
        if key.lower() == name:
            return value
    return None


def retry_after_s(headers: Mapping[str, str]) -> float | None:
    """Retry-After in seconds. A date is not read: there is no clock here, and no provider sends one."""
    value = header(headers, "retry-after")
    number = whole(value.strip()) if value is not None else None
    return float(number) if number is not None and number >= 0 else None


def hash_matches(secret: str | None, hashes: Iterable[str]) -> bool:
    """Whether the SHA-256 of the secret is among the hex hashes; every one is compared, in constant time."""
    if not secret:
        return False
    digest = hashlib.sha256(secret.encode("utf-8", "surrogateescape")).hexdigest()
    found = False
    for candidate in hashes:
        found |= hmac.compare_digest(digest.encode(), candidate.lower().encode("utf-8", "surrogateescape"))
    return found


def redact_headers(headers: Mapping[str, str]) -> dict[str, str]:
    return {name: REDACTED if _is_secret(name) else value for name, value in headers.items()}


@lru_cache(maxsize=512)
def _is_secret(header_name: str) -> bool:
    """Remembered, because the same few names come with every webhook."""
    return _SECRET_HEADERS.search(header_name) is not None
