"""One status inside a webhook of the Cloud API: what became of a message of ours."""

from collections.abc import Mapping
from typing import Any

from providers.address import Address
from providers.events import Ignored, StatusSeen, WebhookEvent
from providers.failures import Failure
from providers.meta_cloud.codes import STATUSES, classify
from providers.meta_cloud.message import read_person
from providers.wire import flag, milliseconds, obj, objects, text, whole


def read_status(status: Mapping[str, Any], channel: str | None) -> WebhookEvent:
    wamid = text(status.get("id"))
    word = text(status.get("status")) or ""
    delivery = STATUSES.get(word)
    if wamid is None or delivery is None:
        key = f"ignored|meta|status|{wamid}|{word}"
        return Ignored(key=key, raw=status, channel=channel, reason=f"status_{word or 'missing'}")
    participant = read_person(status.get("recipient_participant_id"), None)
    peer = (
        Address(group=text(status.get("recipient_id")))
        if status.get("recipient_type") == "group"
        else read_person(status.get("recipient_id"), status.get("recipient_user_id"))
    )
    failure, code, detail = _read_failure(status) if delivery == "failed" else (None, None, "")
    pricing = obj(status.get("pricing"))
    who = participant.phone or participant.bsuid
    return StatusSeen(
        key=f"status|{wamid}|{word}|{who}" if who else f"status|{wamid}|{word}",
        raw=status,
        channel=channel,
        at_ms=milliseconds(status.get("timestamp")),
        id=wamid,
        status=delivery,
        peer=peer or None,
        participant=participant or None,
        client_ref=text(status.get("biz_opaque_callback_data")),
        failure=failure,
        error_code=code,
        error_text=detail,
        billable=flag(pricing.get("billable")),
        category=text(pricing.get("category")),
    )


def _read_failure(status: Mapping[str, Any]) -> tuple[Failure, int | None, str]:
    """The failure, Meta's code for it and what it says."""
    error = obj(next(iter(objects(status.get("errors"))), None))
    code = whole(error.get("code"))
    detail = text(obj(error.get("error_data")).get("details")) or text(error.get("title")) or ""
    return classify(code if code is not None else -1), code, detail
