"""Meta's errors: HTTP status, title and details per code, and the bodies made of them. Pure tables."""

from dataclasses import dataclass
from typing import Any

HREF = "https://developers.facebook.com/docs/whatsapp/cloud-api/support/error-codes/"


@dataclass(frozen=True, slots=True)
class GraphError:
    """One refusal by the Graph API."""

    code: int
    details: str = ""
    subcode: int | None = None
    http_status: int | None = None  # None: as the table says


@dataclass(frozen=True, slots=True)
class _Kind:
    http_status: int
    title: str
    details: str
    transient: bool = False


ERRORS: dict[int, _Kind] = {
    0: _Kind(401, "AuthException", "We were unable to authenticate the app user."),
    2: _Kind(503, "Service temporarily unavailable", "Temporary due to downtime or overload.", True),
    10: _Kind(403, "Application does not have permission for this action", "Permission is missing."),
    33: _Kind(400, "Parameter value is not valid", "The business phone number has been deleted."),
    100: _Kind(400, "Invalid parameter", ""),
    190: _Kind(401, "Invalid OAuth access token - Cannot parse access token", ""),
    368: _Kind(403, "Temporarily blocked for policies violations", "The account is restricted."),
    2200: _Kind(400, "Callback verification failed", "The callback did not echo the challenge."),
    130429: _Kind(429, "Rate limit hit", "Cloud API message throughput has been reached."),
    130472: _Kind(400, "User's number is part of an experiment", "User's number is part of an experiment"),
    131000: _Kind(500, "Something went wrong", "Message failed to send due to an unknown error."),
    131008: _Kind(400, "Required parameter is missing", ""),
    131009: _Kind(400, "Parameter value is not valid", ""),
    131016: _Kind(503, "Service unavailable", "A service is temporarily unavailable.", True),
    131021: _Kind(400, "Recipient cannot be sender", "Sender and recipient phone number is the same."),
    131026: _Kind(400, "Message undeliverable", "Message Undeliverable."),
    131031: _Kind(403, "Business Account locked", "The account has been locked."),
    131042: _Kind(400, "Business eligibility payment issue", "There is an issue with the payment method."),
    131047: _Kind(400, "Re-engagement message",
                  "Message failed to send because more than 24 hours have passed since the customer last "
                  "replied to this number."),
    131048: _Kind(400, "Spam rate limit hit",
                  "Message failed to send because there are restrictions on how many messages can be sent "
                  "from this phone number."),
    131049: _Kind(400, "This message was not delivered to maintain healthy ecosystem engagement.",
                  "In order to maintain a healthy ecosystem engagement, the message failed to be delivered."),
    131050: _Kind(400, "User has stopped marketing messages", "The person has stopped marketing messages."),
    131051: _Kind(400, "Unsupported message type", "Message type is currently not supported."),
    131053: _Kind(400, "Media upload error", "The media could not be fetched or converted."),
    131056: _Kind(400, "Pair rate limit hit",
                  "Too many messages sent from this phone number to the same phone number in a short period "
                  "of time."),
    132000: _Kind(400, "Number of parameters does not match the expected number of params", ""),
    132001: _Kind(404, "Template name does not exist in the translation", ""),
    132012: _Kind(400, "Parameter format does not match format in the created template", ""),
    132015: _Kind(400, "Template is Paused", "Template is paused due to low quality"),
    132016: _Kind(400, "Template is disabled", "Template is disabled"),
    133010: _Kind(400, "Phone number not registered", "The account is not registered."),
}  # fmt: skip
_PLAIN = _Kind(400, "Error", "")


def status_of(error: GraphError) -> int:
    """The HTTP status."""
    return error.http_status or ERRORS.get(error.code, _PLAIN).http_status


def inner(error: GraphError, trace: str) -> dict[str, Any]:
    """The object under `error` (which Evolution passes on by itself)."""
    kind = ERRORS.get(error.code, _PLAIN)
    if error.code == 190:
        message = "Error validating access token: Session has expired" if error.subcode else kind.title
        body: dict[str, Any] = {"message": message, "type": "OAuthException", "code": 190}
    else:
        body = {
            "message": f"(#{error.code}) {kind.title}", "type": "OAuthException", "code": error.code,
            "error_data": {"messaging_product": "whatsapp", "details": error.details or kind.details},
        }  # fmt: skip
    if error.subcode is not None:
        body["error_subcode"] = error.subcode
    if kind.transient:
        body["is_transient"] = True
    body["fbtrace_id"] = trace
    return body


def status_error(code: int) -> dict[str, Any]:
    """One entry of `statuses[].errors`."""
    kind = ERRORS.get(code, _PLAIN)
    return {
        "code": code, "title": kind.title, "message": kind.title,
        "error_data": {"details": kind.details}, "href": HREF,
    }  # fmt: skip
