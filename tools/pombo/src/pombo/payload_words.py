"""What our providers read, said in the neutral words of an `expected.json`."""

from collections.abc import Mapping, Sequence
from typing import Any, Final, assert_never

import orjson

from providers import events as seen
from providers.address import Address
from providers.calls import CallAnswer, CallDone, CallFailed, NumbersChecked, StateAnswered
from providers.protocol import Accepted, Ambiguous, NotSent, Provider, Rejected, SendOutcome, Throttled

_ADDRESS_NAMES: Final = (
    ("pn", "phone"),
    ("lid", "lid"),
    ("bsuid", "bsuid"),
    ("group", "group"),
    ("newsletter", "newsletter"),
    ("broadcast", "broadcast"),
)


def _unwrap(content: Mapping[str, Any]) -> bytes:
    """The body of a wrapped file as bytes; what is not wrapped is the body itself, without our own `_` fields."""
    if "body" in content and any(name.startswith("_") for name in content):
        body = content["body"]
        return body.encode() if isinstance(body, str) else orjson.dumps(body)
    return orjson.dumps({name: value for name, value in content.items() if not name.startswith("_")})


def describe_webhook(provider: Provider, content: object) -> list[dict[str, Any]]:
    """The events of a webhook in the neutral form of expected.json."""
    if isinstance(content, list):
        return [event for part in content for event in describe_webhook(provider, part)]
    body = _unwrap(content) if isinstance(content, dict) else orjson.dumps(content)
    try:
        return [describe_event(event) for event in provider.read_webhook(body)]
    except seen.UnreadablePayload as error:
        return [{"kind": "unreadable", "reason": error.reason}]


def describe_answer(provider: Provider, content: Mapping[str, Any]) -> dict[str, Any]:
    """What an HTTP answer means: first as a send; where it is plainly the answer to another call, as that."""
    status = int(content["_http_status"])
    given = content.get("_headers")
    headers = {str(name): str(value) for name, value in given.items()} if isinstance(given, dict) else {}
    body = _unwrap(content)
    outcome = provider.read_response(status, headers, body)
    if not isinstance(outcome, Accepted):
        answer = _describe_call(provider.read_call(status, headers, body), outcome)
        if answer is not None:
            return answer
    return _describe_outcome(outcome)


def _describe_call(answer: CallAnswer, outcome: SendOutcome) -> dict[str, Any] | None:
    match answer:
        case StateAnswered():
            return {"send": "not_a_send", "state": answer.state}
        case NumbersChecked():
            numbers = [{"exists": number.exists, **_address(number.address)} for number in answer.numbers]
            return {"send": "not_a_send", "check": numbers}
        case CallFailed() | CallDone():
            succeeded = not isinstance(answer, CallFailed) or 200 <= answer.status < 300
            if succeeded and isinstance(outcome, Ambiguous) and answer != CallDone({}):
                return {"send": "not_a_send"}
            return None
        case _:
            return {"send": "not_a_send"}


def _describe_outcome(outcome: SendOutcome) -> dict[str, Any]:
    match outcome:
        case Accepted():
            return {"send": "enqueued" if outcome.enqueued else "accepted", "id": outcome.provider_message_id}
        case NotSent():
            return {"send": "not_sent", "action": "retry"}
        case Throttled() | Rejected():
            described: dict[str, Any] = {"send": "rejected", "action": outcome.failure.action}
            if outcome.code.isdigit():
                described["code"] = int(outcome.code)
            return described
        case Ambiguous():
            return {"send": "ambiguous", "action": "reconcile"}
        case _:
            assert_never(outcome)


_KINDS: Final[Mapping[type, str]] = {
    seen.MessageSeen: "message",
    seen.ReactionSeen: "reaction",
    seen.EditSeen: "edit",
    seen.DeleteSeen: "delete",
    seen.PlaceholderSeen: "placeholder",
    seen.SystemSeen: "system",
    seen.StatusSeen: "status",
    seen.ConnectionSeen: "connection",
    seen.QrSeen: "qr",
    seen.PresenceSeen: "presence",
    seen.ContactSeen: "contact",
    seen.GroupSeen: "group",
    seen.CallSeen: "call",
    seen.HistorySeen: "history",
    seen.PreferenceSeen: "preference",
    seen.AccountSeen: "account",
    seen.LimitSeen: "limit",
    seen.TemplateSeen: "template",
    seen.ChannelErrorSeen: "channel_error",
    seen.NotificationSeen: "notification",
    seen.Ignored: "ignored",
}
# Field of expected.json -> attribute of our events, where they are plain values.
_PLAIN: Final = (
    ("channel", "channel"), ("id", "id"), ("target", "target"), ("status", "status"), ("error_code", "error_code"),
    ("client_ref", "client_ref"), ("dir", "direction"), ("origin", "origin"), ("type", "type"), ("text", "text"),
    ("voice", "voice"), ("reply_to", "reply_to"), ("emoji", "emoji"), ("profile", "profile"),
    ("new_pn", "new_phone"), ("name", "name"), ("ts", "at_ms"), ("state", "state"), ("event", "event"),
    ("tier", "tier"), ("billable", "billable"), ("category", "category"),
)  # fmt: skip


def describe_event(event: seen.WebhookEvent) -> dict[str, Any]:
    kind = _KINDS[type(event)]
    if isinstance(event, seen.Ignored):
        return {"kind": kind}
    described: dict[str, Any] = {"kind": kind}
    for field, attribute in _PLAIN:
        value = getattr(event, attribute, None)
        if value is not None:
            described[field] = value
    for field in ("peer", "participant"):
        address = getattr(event, field, None)
        if address:
            described[field] = _address(address)
    if isinstance(event, seen.EditSeen):
        described["new"] = {} if event.text is None else {"text": event.text}
    if isinstance(event, seen.StatusSeen) and event.failure is not None:
        described["error_class"] = event.failure.error_class
    if isinstance(event, seen.MessageSeen):
        described |= _content(event)
    return described


def _content(event: seen.MessageSeen) -> dict[str, Any]:
    described: dict[str, Any] = {}
    if event.media is not None:
        described["media"] = _present(event.media, ("mime_type", "id", "filename"))
    if event.location is not None:
        described["location"] = _present(event.location, ("latitude", "longitude", "name", "address"))
    return described


def _address(address: Address) -> dict[str, str]:
    named = ((name, getattr(address, attribute)) for name, attribute in _ADDRESS_NAMES)
    return {name: value for name, value in named if value}


def _present(value: object, names: Sequence[str]) -> dict[str, Any]:
    return {name: getattr(value, name) for name in names if getattr(value, name) is not None}
