"""The contact: what is known of a person, how events change it. No I/O, no clock."""

import re
import unicodedata
from collections.abc import Iterable
from dataclasses import dataclass, replace
from typing import Literal, assert_never
from uuid import UUID

from contracts import ids
from contracts.contacts import (
    ContactAliasLearned,
    ContactErased,
    ContactEvent,
    ContactOptedIn,
    ContactOptedOut,
    ContactSaved,
)
from contracts.ids import Address

EMPTY = Address()
_PUNCTUATION = re.compile(r"[^\w\s]")
STOP_TEXT_MAX_CHARS = 40  # a stop word inside a long message is conversation


@dataclass(frozen=True, slots=True)
class Contact:
    address: Address = EMPTY
    name: str = ""
    external_id: str | None = None
    source: str = "manual"
    tags: tuple[str, ...] = ()
    funnel_stage: str | None = None
    custom_fields: tuple[tuple[str, str], ...] = ()
    saved: bool = False
    opted_out: bool = False
    erased: bool = False

    @property
    def key(self) -> str:
        return ids.recipient_key(self.address)


INITIAL = Contact()


def evolve(contact: Contact, event: ContactEvent) -> Contact:
    match event:
        case ContactSaved():
            return replace(
                contact,
                address=joined(contact.address, event.address),
                name=event.name,
                external_id=event.external_id,
                source=event.source,
                tags=event.tags,
                funnel_stage=event.funnel_stage,
                custom_fields=tuple(sorted(event.custom_fields.items())),
                saved=True,
                erased=False,
            )
        case ContactAliasLearned():
            return replace(contact, address=joined(contact.address, event.address))
        case ContactOptedOut():
            return replace(contact, opted_out=True)
        case ContactOptedIn():
            return replace(contact, opted_out=False)
        case ContactErased():
            return replace(INITIAL, opted_out=contact.opted_out, erased=True)
        case _:
            assert_never(event)


def joined(known: Address, told: Address) -> Address:
    """What was told last wins name by name; what was known stays."""
    return Address(
        phone=told.phone or known.phone,
        lid=told.lid or known.lid,
        bsuid=told.bsuid or known.bsuid,
        group=told.group or known.group,
    )


def save(contact: Contact, wanted: ContactSaved) -> list[ContactEvent]:
    return [] if contact.saved and evolve(contact, wanted) == contact else [wanted]


def bring_in(
    contact: Contact,
    *,
    phone: str,
    name: str,
    external_id: str | None,
    source: str,
    tags: Iterable[str] = (),
    custom_fields: dict[str, str],
) -> list[ContactEvent]:
    """An imported row on top of what is known: an empty cell erases nothing, tags are added."""
    wanted = ContactSaved(
        address=joined(contact.address, Address(phone=contact.address.phone or phone)),
        name=name or contact.name,
        external_id=external_id or contact.external_id,
        source=contact.source if contact.saved else source,
        tags=tuple(sorted({*contact.tags, *tags})),
        funnel_stage=contact.funnel_stage,
        custom_fields=dict(contact.custom_fields) | custom_fields,
    )
    return save(contact, wanted)


def learn(contact: Contact, address: Address, source: str) -> list[ContactEvent]:
    if joined(contact.address, address) == contact.address:
        return []
    return [ContactAliasLearned(address=address, source=source)]


def opt_out(contact: Contact, *, key: str, reason: Literal["stop_word", "manual", "provider"]) -> list[ContactEvent]:
    return [] if contact.opted_out else [ContactOptedOut(recipient_key=key, reason=reason)]


def opt_in(contact: Contact, *, key: str, by: UUID | None) -> list[ContactEvent]:
    return [ContactOptedIn(recipient_key=key, by=by)] if contact.opted_out else []


def erase(contact: Contact, *, key: str) -> list[ContactEvent]:
    return [] if contact.erased else [ContactErased(recipient_key=key)]


def is_stop_word(text: str, stop_words: Iterable[str]) -> bool:
    """The whole message, without case, accents and punctuation, is one of the words."""
    if len(text) > STOP_TEXT_MAX_CHARS:
        return False
    plain = _plain(text)
    return bool(plain) and any(plain == _plain(word) for word in stop_words)


def _plain(text: str) -> str:
    letters = unicodedata.normalize("NFKD", text.casefold())
    without = "".join(letter for letter in letters if not unicodedata.combining(letter))
    return " ".join(_PUNCTUATION.sub(" ", without).split())
