"""Derived identities: the same facts give the same ids everywhere, so everything is idempotent without a query."""

from hashlib import sha1
from typing import Annotated, Any, get_args
from uuid import NAMESPACE_URL, UUID, SafeUUID

from pydantic import BaseModel, ConfigDict

_new, _set = object.__new__, object.__setattr__  # without the checks of UUID's arguments
_VARIABLE, _VERSION_5 = (0xF << 76) | (0x3 << 62), (5 << 76) | (2 << 62)


def uuid5(namespace: UUID, name: str) -> UUID:
    """RFC 9562, version 5: the standard library's at half its cost, because some dozen are made for each message."""
    number = int.from_bytes(sha1(namespace.bytes + name.encode(), usedforsecurity=False).digest()[:16])
    return _make(number & ~_VARIABLE | _VERSION_5)


def read_uuid(text: bytes) -> UUID:
    """What `str` makes of a UUID: read at half the cost of UUID's own reading. Raises ValueError."""
    if len(text) != 36:
        raise ValueError("badly formed UUID")
    return _make(int(text.replace(b"-", b""), 16))


def _make(number: int) -> UUID:
    made = _new(UUID)
    _set(made, "int", number)
    _set(made, "is_safe", SafeUUID.unknown)
    return made


_NAMESPACE = uuid5(NAMESPACE_URL, "urn:pombo")


class PersonalData:
    """Marks a field that tells something about a person (crypto-shredding and log redaction need to know)."""


PERSONAL = PersonalData()
PersonalText = Annotated[str, PERSONAL]


def personal_fields(model: type[BaseModel]) -> frozenset[str]:
    """Dotted paths of the fields marked Personal, through nested models; '*' stands for a list's or mapping's items."""
    found: set[str] = set()
    for name, field in model.model_fields.items():
        if PERSONAL in field.metadata:
            found.add(name)
        found |= {f"{name}{path}" for path in _personal_paths(field.annotation)}
    return frozenset(found)


def _personal_paths(annotation: Any) -> set[str]:
    if isinstance(annotation, type) and issubclass(annotation, BaseModel):
        return {f".{path}" for path in personal_fields(annotation)}
    if PERSONAL in getattr(annotation, "__metadata__", ()):
        return {""}
    items = ".*" if getattr(annotation, "__origin__", None) in (tuple, list, dict) else ""
    return {items + path for inner in get_args(annotation) for path in _personal_paths(inner)}


class Address(BaseModel):
    """How a provider names a chat: any of E.164 digits, WhatsApp LID, Meta's business-scoped user id, group id."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    phone: PersonalText | None = None
    lid: PersonalText | None = None
    bsuid: PersonalText | None = None
    group: str | None = None


def recipient_key(address: Address) -> str:
    """One key per person as far as the address can tell; '' if the address is empty.

    Brazilian mobile numbers with and without the ninth digit are the same person, so they are keyed by
    55 + area code + last 8 digits.
    """
    if address.phone:
        return phone_key(address.phone)
    return address.bsuid or address.lid or address.group or ""


def phone_key(phone: str) -> str:
    """`phone` is E.164 digits without '+'."""
    if phone.startswith("55") and len(phone) in (12, 13):
        return phone[:4] + phone[-8:]
    return phone


def contact_id(account_id: UUID, key: str) -> UUID:
    """Of the first canonical alias seen; later aliases are joined by events."""
    return uuid5(account_id, f"contact:{key}")


def recipient_id(campaign_id: UUID, key: str) -> UUID:
    return uuid5(campaign_id, f"recipient:{key}")


def dispatch_id(recipient: UUID, step: int) -> UUID:
    """`recipient` is itself derived from (campaign, recipient key); `step` is the index in the campaign's order."""
    return uuid5(recipient, f"step:{step}")


def answer_dispatch_id(answer_event_id: UUID) -> UUID:
    """A person's answer is one dispatch per AnswerWritten event."""
    return uuid5(answer_event_id, "dispatch")


def message_id(instance_id: UUID, provider_message_id: str) -> UUID:
    return uuid5(instance_id, f"message:{provider_message_id}")


def chat_id(instance_id: UUID, address: Address) -> UUID:
    """The conversation's id: one instance and one chat as the provider names it."""
    return uuid5(instance_id, f"chat:{recipient_key(address)}")


def event_id(source: str, key: str, kind: str) -> UUID:
    """A replay of the same fact gives the same event id."""
    return uuid5(_NAMESPACE, f"{source}|{key}|{kind}")


def attempt_label(dispatch: UUID, attempt: int) -> str:
    """The label a provider gives back on statuses (Meta: biz_opaque_callback_data, at most 512 characters)."""
    return f"{dispatch}:{attempt}"


def read_attempt_label(label: str) -> tuple[UUID, int] | None:
    """None if the label is not one of ours."""
    dispatch, _, attempt = label.rpartition(":")
    try:
        return UUID(dispatch), int(attempt)
    except ValueError:
        return None
