"""People: contact records are joined by the aliases they share; the smallest id is the person's.

`contact_record` folds each contact's stream, `contact_alias` holds who was seen under which name (it only grows), and
`person` is made anew, for each group of records that share aliases, from those two.
"""

from collections.abc import Iterable, Mapping, Sequence
from datetime import datetime
from typing import Any, Final
from uuid import UUID

from contracts import contacts as events
from contracts.envelope import Envelope, Event
from contracts.ids import Address, phone_key
from projections.registers import Fact, Row, version_key

TABLE: Final = "contact_record"
EMPTY: Final[Row] = {
    "person_id": None,
    "name": "",
    "external_id": None,
    "source": None,
    "tags": [],
    "funnel_stage": None,
    "custom_fields": {},
    "phone": None,
    "lid": None,
    "bsuid": None,
    "group_id": None,
    "opted_out": False,
    "opt_out_reason": None,
    "erased": False,
    "created_at": None,
    "updated_at": None,
    "keys": {},
}
_PERSONAL: Final = ("name", "external_id", "tags", "funnel_stage", "custom_fields", "phone", "lid", "bsuid", "group_id")
_SHOWN: Final = (*_PERSONAL, "source")


def read_fact(envelope: Envelope, event: Event) -> Fact | None:
    """What an event of a contact's stream says about its record; None for any other."""
    if envelope.account_id is None:
        return None
    time = envelope.time.isoformat()
    firsts: dict[str, Any] = {"created_at": time, "person_id": envelope.subject}
    values: dict[str, Any]
    match event:
        case events.ContactSaved():
            values = event.model_dump(mode="json", exclude={"address"}) | _names(event.address)
        case events.ContactAliasLearned():
            values = {}
        case events.ContactOptedOut():
            values = {"opted_out": True, "opt_out_reason": event.reason}
        case events.ContactOptedIn():
            values = {"opted_out": False, "opt_out_reason": None}
        case events.ContactErased():
            values = {"erased": True, **{name: EMPTY[name] for name in _PERSONAL}}
        case _:
            return None
    values["updated_at"] = time
    return Fact(envelope.account_id, UUID(envelope.subject), version_key(envelope), values, firsts)


def read_aliases(event: Event) -> list[str]:
    """Every name under which the event shows its contact; phones with and without the ninth digit are one."""
    if not isinstance(event, events.ContactSaved | events.ContactAliasLearned):
        return []
    address = event.address
    phone = None if address.phone is None else phone_key(address.phone)
    named = (("phone", phone), ("lid", address.lid), ("bsuid", address.bsuid), ("group", address.group))
    return [f"{kind}:{name}" for kind, name in named if name]


def group(shared: Iterable[tuple[str, UUID]]) -> list[list[UUID]]:
    """Contact ids that share an alias, directly or through others: connected components, each sorted."""
    leader: dict[UUID, UUID] = {}

    def find(contact: UUID) -> UUID:
        while leader[contact] != contact:
            leader[contact] = leader[leader[contact]]
            contact = leader[contact]
        return contact

    first_of: dict[str, UUID] = {}
    for alias, contact in shared:
        leader.setdefault(contact, contact)
        one, other = find(first_of.setdefault(alias, contact)), find(contact)
        leader[max(one, other)] = min(one, other)
    groups: dict[UUID, list[UUID]] = {}
    for contact in sorted(leader):
        groups.setdefault(find(contact), []).append(contact)
    return list(groups.values())


def merge(records: Sequence[Row], aliases: Iterable[str]) -> Row:
    """The person of one group: the smallest id, of each field the newest that says anything, the newest opt-out."""
    newest_first = sorted(records, key=lambda row: (_told(row, "updated_at"), row["id"]), reverse=True)
    shown = {name: next((row[name] for row in newest_first if row[name]), EMPTY[name]) for name in _SHOWN}
    decided = max(records, key=lambda row: (_told(row, "opted_out"), row["id"]))
    created = [row["created_at"] for row in records if row["created_at"]]
    return {
        "account_id": records[0]["account_id"],
        "id": min(row["id"] for row in records),
        **shown,
        "aliases": sorted(set(aliases)),
        "contact_ids": sorted(row["id"] for row in records),
        "opted_out": decided["opted_out"],
        "opt_out_reason": decided["opt_out_reason"],
        "created_at": min(created, key=datetime.fromisoformat, default=None),
        "updated_at": newest_first[0]["updated_at"],
    }


def _names(address: Address) -> dict[str, str | None]:
    return {"phone": address.phone, "lid": address.lid, "bsuid": address.bsuid, "group_id": address.group}


def _told(row: Mapping[str, Any], name: str) -> str:
    """When the field was last set, across streams: the key without the stream's version."""
    key: str = row["keys"].get(name, "")
    return key.partition("|")[2]
