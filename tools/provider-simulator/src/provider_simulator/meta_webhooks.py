"""The bodies of Meta's webhooks. Pure."""

from typing import Any

from provider_simulator.journeys import Step
from provider_simulator.meta_errors import status_error
from provider_simulator.numbers import Number
from provider_simulator.people import Message


def status_entry(message: Message, step: Step, at_s: int) -> dict[str, Any]:
    """One entry of `statuses`."""
    entry: dict[str, Any] = {
        "id": message.id, "status": step.status, "timestamp": str(at_s), "recipient_id": message.to
    }  # fmt: skip
    if not message.to.isdigit():
        del entry["recipient_id"]
        entry["recipient_user_id"] = message.to
    if message.label is not None:
        entry["biz_opaque_callback_data"] = message.label
    if step.status == "sent":
        category = "marketing" if message.kind == "template" else "service"
        entry["pricing"] = {
            "billable": category != "service", "pricing_model": "PMP", "category": category,
            "type": "regular" if category != "service" else "free_customer_service",
        }  # fmt: skip
    if step.code is not None:
        entry["errors"] = [status_error(step.code)]
    return entry


def inbound_value(number: Number, message_id: str, at_s: int, content: dict[str, Any], name: str,
                  phone: str | None, user_id: str) -> dict[str, Any]:  # fmt: skip
    """A person's message; without a phone the person is known by the BSUID only."""
    contact: dict[str, Any] = {"profile": {"name": name}, "user_id": user_id}
    message: dict[str, Any] = {"id": message_id, "timestamp": str(at_s), "from_user_id": user_id, **content}
    if phone is not None:
        contact["wa_id"] = phone
        message["from"] = phone
    else:
        contact["profile"]["username"] = "pessoa." + user_id[-6:]
    return {
        "messaging_product": "whatsapp",
        "metadata": {"display_phone_number": number.phone, "phone_number_id": number.id},
        "contacts": [contact],
        "messages": [message],
    }
