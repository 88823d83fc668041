"""What Evolution's words mean: delivery statuses, connection states, and the texts of its errors.

Read in the source of Evolution API 2.2 to 2.4 (https://github.com/EvolutionAPI/evolution-api, 2026-11). It documents
no limits and never answers 429: pacing is all ours. HTTP status alone classifies nothing here: a 400 may be a
time-out inside the send, a 201 may carry Meta's refusal.
"""

import re
from collections.abc import Mapping
from typing import Any, Final

from providers import failures as f
from providers.events import ConnectionState, Delivery
from providers.meta_cloud.codes import read_error
from providers.protocol import Ambiguous, NotSent, Rejected, SendOutcome, Throttled
from providers.wire import obj, text, whole

STATUSES: Final[Mapping[str, Delivery]] = {
    "ERROR": "failed",
    "PENDING": "accepted",
    "SERVER_ACK": "sent",
    "DELIVERY_ACK": "delivered",
    "READ": "read",
    "PLAYED": "played",
    # Cloud API mode
    "SENT": "sent",
    "DELIVERED": "delivered",
    "FAILED": "failed",
    # Baileys' own numbers, which some versions let through
    "0": "failed",
    "1": "accepted",
    "2": "sent",
    "3": "delivered",
    "4": "read",
    "5": "played",
}

STATES: Final[Mapping[str, ConnectionState]] = {
    "open": "open",
    "connected": "open",
    "connecting": "connecting",
    "close": "closed",
    "closed": "closed",
    "disconnected": "closed",
    "refused": "pairing_aborted",
}

_LOST_INSIDE: Final = re.compile(
    r"connection (was )?(closed|lost|terminated|failure)|timed out|stream errored|timeout|reading '0'"
    r"|socket hang up|econnreset|restart required|bad session",
    re.IGNORECASE,
)
_BEFORE_SEND: Final = re.compile(r"connection closed|cannot read propert(y|ies) of (undefined|null)", re.IGNORECASE)
_MEDIA_STATUS: Final = re.compile(r"request failed with status code (\d{3})", re.IGNORECASE)
_MEDIA_HOST: Final = re.compile(
    r"enotfound|eai_again|getaddrinfo|econnrefused|timeout of \d+ ?ms|etimedout|econnaborted|certificate",
    re.IGNORECASE,
)
_MEDIA_FORMAT: Final = re.compile(
    r"ffmpeg|sharp|unsupported image|input (buffer|file)|invalid (url|media|base64)|owned media|mimetype|mime type"
    r"|file (is )?(missing|not found)|maxcontentlength|audio convert|converting",
    re.IGNORECASE,
)
_GROUP: Final = re.compile(r"group|not-acceptable|item-not-found|not-authorized|forbidden", re.IGNORECASE)
_UNAVAILABLE: Final = re.compile(r"method not (available|supported)", re.IGNORECASE)
_MISSING_INSTANCE: Final = re.compile(r"instance does not exist", re.IGNORECASE)
_THROWN: Final = re.compile(r"\w*(Error|Exception|Boom)\b")


def error_texts(answer: Mapping[str, Any]) -> str:
    """All texts of an error envelope in one line, whatever nesting this version uses."""
    found: list[str] = []
    for value in (obj(answer.get("response")).get("message"), answer.get("message"), answer.get("error")):
        _collect(value, found, depth=4)
    return " · ".join(dict.fromkeys(found))[:500]


def _collect(value: object, found: list[str], depth: int) -> None:
    if isinstance(value, str):
        if value:
            found.append(value)
    elif isinstance(value, list) and depth:
        for item in value[:10]:
            _collect(item, found, depth - 1)


def unknown_number(answer: Mapping[str, Any]) -> bool:
    """Whether the number look-up before the send says that it is not on WhatsApp."""
    messages = obj(answer.get("response")).get("message")
    return isinstance(messages, list) and any(
        isinstance(item, dict) and item.get("exists") is False for item in messages
    )


def read_error_answer(status: int, answer: Mapping[str, Any], retry_after_s: float | None) -> SendOutcome:
    """What an error envelope proves."""
    said = error_texts(answer)
    code = text(answer.get("code")) or ""
    if code == "LICENSE_REQUIRED":
        return Rejected(f.HOST_UNLICENSED, code, said)
    if unknown_number(answer):
        return Rejected(f.NOT_ON_WHATSAPP, str(status), said)
    graph_code = whole(obj(answer.get("details")).get("whatsapp_code"))
    if graph_code is not None:
        return read_error({"code": graph_code, "message": said}, status, retry_after_s)
    match status:
        case 401 | 403:
            return Rejected(f.CREDENTIALS, str(status), said)
        case 404:
            missing = _MISSING_INSTANCE.search(said)
            return Rejected(f.NO_SUCH_INSTANCE if missing else f.BAD_REQUEST, str(status), said)
        case 429:
            return Throttled("account", retry_after_s, "429", f.ACCOUNT_RATE, said)
        case 400:
            return _read_400(answer, said)
        case 500:
            return _read_500(said)
        case _ if 400 <= status < 500 and status not in (408, 499):
            return Rejected(f.BAD_REQUEST, str(status), said)
        case _:
            return Ambiguous(f"evolution_{status}")


def _read_400(answer: Mapping[str, Any], said: str) -> SendOutcome:
    """Thrown inside the send, so the message may have left, unless the text says otherwise."""
    if _UNAVAILABLE.search(said):
        return Rejected(f.UNSUPPORTED, "400", said)
    messages = obj(answer.get("response")).get("message")
    if isinstance(messages, list) and any(isinstance(item, list) for item in messages):
        return Rejected(f.BAD_REQUEST, "400", said)
    media = _read_media(said)
    if media is not None:
        return media
    if _LOST_INSIDE.search(said):
        return Ambiguous("connection_lost_in_send")
    if _GROUP.search(said):
        return Rejected(f.GROUP_REFUSED, "400", said)
    return Ambiguous("thrown_in_send") if _THROWN.search(said) else Rejected(f.BAD_REQUEST, "400", said)


def _read_500(said: str) -> SendOutcome:
    """Connection and socket errors come from the look-up that precedes the send."""
    if _BEFORE_SEND.search(said):
        return NotSent("connection_closed_before_send")
    if _UNAVAILABLE.search(said):
        return Rejected(f.UNSUPPORTED, "500", said)
    media = _read_media(said)
    return media if media is not None else Ambiguous("evolution_500")


def _read_media(said: str) -> Rejected | None:
    fetched = _MEDIA_STATUS.search(said)
    if fetched is not None:
        of_client = fetched.group(1).startswith("4") and fetched.group(1) not in ("408", "429")
        failure = f.MEDIA_REFUSED if of_client else f.MEDIA_HOST_DOWN
        return Rejected(failure, fetched.group(1), said, retryable=failure.retryable)
    if _MEDIA_HOST.search(said):
        return Rejected(f.MEDIA_HOST_DOWN, "", said, retryable=True)
    return Rejected(f.MEDIA_REFUSED, "", said) if _MEDIA_FORMAT.search(said) else None
