"""People an account knows (topic contacts, keyed by contact id) and where they are bound (allocations)."""

from typing import Literal
from uuid import UUID

from pydantic import BaseModel, ConfigDict

from contracts.envelope import Event
from contracts.ids import Address, PersonalText


class ContactSaved(Event):
    """Created, imported or edited: the whole current record."""

    address: Address
    name: PersonalText = ""
    external_id: str | None = None
    source: str = "manual"
    tags: tuple[str, ...] = ()
    funnel_stage: str | None = None
    custom_fields: dict[str, PersonalText] = {}


class ContactAliasLearned(Event):
    """The provider showed that these names are one person; ids merge by union, the smallest id wins."""

    address: Address
    source: str


class ContactOptedOut(Event):
    """No campaign message goes to this key any more."""

    recipient_key: PersonalText
    reason: Literal["stop_word", "manual", "provider"]


class ContactOptedIn(Event):
    recipient_key: PersonalText
    by: UUID | None = None


class ContactErased(Event):
    recipient_key: PersonalText


ContactEvent = ContactSaved | ContactAliasLearned | ContactOptedOut | ContactOptedIn | ContactErased


class ContactAllocated(Event):
    """From the scheduler: the contact is bound to this instance (sticky)."""

    instance_id: UUID
    recipient_key: PersonalText


class BoundContact(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")

    contact_id: UUID
    recipient_key: PersonalText


class ContactsAllocated(Event):
    """What ContactAllocated says, of the contacts that one page of a plan binds to this instance: at most 500."""

    instance_id: UUID
    contacts: tuple[BoundContact, ...]


class ContactMoved(Event):
    instance_id: UUID
    from_instance_id: UUID
    recipient_key: PersonalText


AllocationEvent = ContactAllocated | ContactsAllocated | ContactMoved
