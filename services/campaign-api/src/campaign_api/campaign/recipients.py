"""A campaign's audience: rows made recipients, each person once, cut into chunks that fit a record. Pure."""

from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import NamedTuple
from uuid import UUID

import orjson

from campaign_api.campaign.variables import IDS, NAMES, PHONES
from campaign_api.upload.tables import Contact, Rejected
from contracts import ids

CHUNK_ROWS_MAX = 500
CHUNK_BYTES_MAX = 512 * 1024
RECIPIENT_MAX_BYTES = 64 * 1024
_HEAD_BYTES = 40  # of the chunk around its rows


class Chunk(NamedTuple):
    """A RecipientsAdded as it will be published. Built as JSON: a model per row would cost more than all the rest."""

    number: int
    value: bytes


@dataclass(slots=True)
class Audience:
    """Takes contacts one by one; holds one chunk and the keys of everybody seen, nothing else.

    `opted_out`: recipient keys that get no campaign. `first_chunk`: the number that no audience before has used.
    """

    account_id: UUID
    campaign_id: UUID
    opted_out: frozenset[str] = frozenset()
    first_chunk: int = 0
    recipient_count: int = 0
    chunk_count: int = 0
    duplicates: int = 0
    opted_out_count: int = 0
    _seen: set[str] = field(default_factory=set)
    _shapes: Counter[tuple[bool, tuple[str, ...]]] = field(default_factory=Counter)  # has a name, fields with a value
    _pending: list[bytes] = field(default_factory=list)
    _pending_bytes: int = _HEAD_BYTES

    def add(self, contact: Contact) -> Chunk | Rejected | None:
        """A full chunk when this contact did not fit into it any more; Rejected if it is not taken."""
        key = ids.phone_key(contact.phone)
        if key in self._seen:
            self.duplicates += 1
            return Rejected(contact.row, "the same person is in the list already", (contact.external_id, contact.phone))
        row = self._row(contact, key)
        if len(row) > RECIPIENT_MAX_BYTES:
            return Rejected(contact.row, "the row's fields are too long", (contact.external_id, contact.phone))
        self._seen.add(key)
        if key in self.opted_out:
            self.opted_out_count += 1
            return Rejected(contact.row, "opted out", (contact.external_id, contact.phone))
        full = None
        if len(self._pending) >= CHUNK_ROWS_MAX or self._pending_bytes + len(row) + 1 > CHUNK_BYTES_MAX:
            full = self.cut()
        self._pending.append(row)
        self._pending_bytes += len(row) + 1
        self.recipient_count += 1
        self._shapes[bool(contact.name), tuple([name for name, value in contact.custom_fields.items() if value])] += 1
        return full

    def cut(self) -> Chunk | None:
        """What is pending as a chunk; None if nothing is. Nobody at all is told as well, by a chunk of its own."""
        replaced_by_nobody = self.first_chunk > 0 and self.chunk_count == 0
        if not self._pending and not replaced_by_nobody:
            return None
        number, first, rows = self.first_chunk + self.chunk_count, self.first_chunk, b",".join(self._pending)
        chunk = Chunk(number, b'{"chunk":%d,"first_chunk":%d,"recipients":[%s]}' % (number, first, rows))
        self.chunk_count += 1
        self._pending, self._pending_bytes = [], _HEAD_BYTES
        return chunk

    def filled(self) -> Counter[str]:
        """Lower-case variable -> recipients that have a value for it."""
        found: Counter[str] = Counter()
        for (named, fields), count in self._shapes.items():
            for name in {name.strip().lower() for name in fields} | PHONES | IDS | (NAMES if named else frozenset()):
                found[name] += count
        return found

    def _row(self, contact: Contact, key: str) -> bytes:
        return orjson.dumps(
            {
                "recipient_id": ids.recipient_id(self.campaign_id, key),
                "contact_id": ids.contact_id(self.account_id, key),
                "external_id": contact.external_id,
                "phone": contact.phone,
                "name": contact.name,
                "custom_fields": contact.custom_fields,
            }
        )


def contacts_of(chunk: Chunk, first_row: int) -> list[Contact]:
    """The rows of a chunk again, counted on from `first_row`."""
    rows = orjson.loads(chunk.value)["recipients"]
    return [
        Contact(number, row["external_id"], row["phone"], row["name"], row["custom_fields"])
        for number, row in enumerate(rows, start=first_row)
    ]


def chunks(audience: Audience, contacts: Iterable[Contact]) -> tuple[list[Chunk], list[Rejected]]:
    """All of a list that is in memory anyway, as a request's body is."""
    cut: list[Chunk] = []
    rejected: list[Rejected] = []
    for contact in contacts:
        match audience.add(contact):
            case Chunk() as chunk:
                cut.append(chunk)
            case Rejected() as row:
                rejected.append(row)
            case None:
                pass
    last = audience.cut()
    return ([*cut, last] if last else cut), rejected
