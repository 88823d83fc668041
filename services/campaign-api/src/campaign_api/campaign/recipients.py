"""A campaign's audience: rows made recipients, each person once, cut into chunks that fit a record. Pure."""

from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass, field
from uuid import UUID

import orjson

from campaign_api.campaign.variables import IDS, NAMES, PHONES
from campaign_api.upload.tables import Contact, Rejected
from contracts import ids
from contracts.campaigns import Recipient, RecipientsAdded

CHUNK_ROWS_MAX = 500
CHUNK_BYTES_MAX = 512 * 1024
ROW_OVERHEAD_BYTES = 260  # two ids, member names, braces
RECIPIENT_MAX_BYTES = 64 * 1024


@dataclass(slots=True)
class Audience:
    """Takes contacts one by one; holds one chunk and the keys of everybody seen, nothing else.

    `opted_out`: recipient keys that get no campaign. `filled`: lower-case variable -> recipients that have it.
    """

    account_id: UUID
    campaign_id: UUID
    opted_out: frozenset[str] = frozenset()
    recipient_count: int = 0
    chunk_count: int = 0
    duplicates: int = 0
    opted_out_count: int = 0
    filled: Counter[str] = field(default_factory=Counter)
    _seen: set[str] = field(default_factory=set)
    _pending: list[Recipient] = field(default_factory=list)
    _pending_bytes: int = 0

    def add(self, contact: Contact) -> RecipientsAdded | Rejected | None:
        """A full chunk when this contact did not fit into it any more; Rejected if it is not taken."""
        key = ids.phone_key(contact.phone)
        if key in self._seen:
            self.duplicates += 1
            return Rejected(contact.row, "the same person is in the list already", (contact.external_id, contact.phone))
        size = _size(contact)
        if size > RECIPIENT_MAX_BYTES:
            return Rejected(contact.row, "the row's fields are too long", (contact.external_id, contact.phone))
        self._seen.add(key)
        if key in self.opted_out:
            self.opted_out_count += 1
            return Rejected(contact.row, "opted out", (contact.external_id, contact.phone))
        full = None
        if len(self._pending) >= CHUNK_ROWS_MAX or self._pending_bytes + size > CHUNK_BYTES_MAX:
            full = self.cut()
        self._pending.append(self._recipient(contact, key))
        self._pending_bytes += size
        self.recipient_count += 1
        self._count(contact)
        return full

    def cut(self) -> RecipientsAdded | None:
        """What is pending as a chunk; None if nothing is."""
        if not self._pending:
            return None
        chunk = RecipientsAdded(chunk=self.chunk_count, recipients=tuple(self._pending))
        self.chunk_count += 1
        self._pending, self._pending_bytes = [], 0
        return chunk

    def _recipient(self, contact: Contact, key: str) -> Recipient:
        return Recipient(
            recipient_id=ids.recipient_id(self.campaign_id, key),
            contact_id=ids.contact_id(self.account_id, key),
            external_id=contact.external_id,
            phone=contact.phone,
            name=contact.name,
            custom_fields=contact.custom_fields,
        )

    def _count(self, contact: Contact) -> None:
        self.filled.update({name.strip().lower() for name, value in contact.custom_fields.items() if value})
        self.filled.update(PHONES | IDS)
        if contact.name:
            self.filled.update(NAMES)


def _size(contact: Contact) -> int:
    texts = (contact.external_id, contact.phone, contact.name, contact.custom_fields)
    return ROW_OVERHEAD_BYTES + len(orjson.dumps(texts))


def chunks(audience: Audience, contacts: Iterable[Contact]) -> tuple[list[RecipientsAdded], list[Rejected]]:
    """All of a list that is in memory anyway, as a request's body is."""
    cut: list[RecipientsAdded] = []
    rejected: list[Rejected] = []
    for contact in contacts:
        match audience.add(contact):
            case RecipientsAdded() as chunk:
                cut.append(chunk)
            case Rejected() as row:
                rejected.append(row)
            case None:
                pass
    last = audience.cut()
    return ([*cut, last] if last else cut), rejected
