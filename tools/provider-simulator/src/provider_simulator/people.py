"""People: the many spellings of one Brazilian phone, and what each person received. Pure but for memory."""

from collections import deque
from dataclasses import dataclass, field
from typing import Any


def digits_of(text: str) -> str:
    """Only the digits."""
    return text if text.isdigit() else "".join(filter(str.isdigit, text))


def person_key(phone: str) -> str:
    """One key for all spellings of a phone: 55 + area code + last eight digits in Brazil, else the digits."""
    if len(phone) == 13 and phone.startswith("55") and phone[4] == "9":
        return phone[:4] + phone[5:]
    return phone


def canonical_phone(phone: str) -> str:
    """The form that WhatsApp itself uses for this phone.

    Real accounts have the ninth digit or not by their age. The rule here stands for that: in area codes
    from 31 on, an even last digit means an old account, known without the ninth digit.
    """
    key = person_key(phone)
    if len(key) != 12 or not key.startswith("55") or key[4] not in "6789":
        return phone
    if int(key[2:4]) >= 31 and int(key[-1]) % 2 == 0:
        return key
    return key[:4] + "9" + key[4:]


def private_id(person: str) -> str:
    """The digits of the person's lid (private id on web sessions)."""
    return str(70_000_000_000_000 + int(person or "0") * 7919 % 29_999_999_999_999)


def business_scoped_id(person: str) -> str:
    """The person's BSUID (Meta, people without a visible phone)."""
    return f"BR.{private_id(person)}0"


@dataclass(slots=True)
class Message:
    """One message as the provider keeps it."""

    id: str
    provider: str
    number: str
    person: str
    to: str
    kind: str
    text: str
    at_ms: int
    outbound: bool = True
    label: str | None = None
    statuses: list[tuple[str, int, int | None]] = field(default_factory=list)  # status, wall ms, code
    row: str = ""  # Evolution's own id of the message

    def as_json(self) -> dict[str, Any]:
        """How /_control/messages shows it."""
        return {
            "id": self.id, "provider": self.provider, "number": self.number, "to": self.to,
            "kind": self.kind, "text": self.text, "at_ms": self.at_ms, "label": self.label,
            "direction": "out" if self.outbound else "in",
            "statuses": [{"status": s, "at_ms": at, "code": code} for s, at, code in self.statuses],
        }  # fmt: skip


class Mailbox:
    """The newest messages: by id, by person and by number. The oldest are forgotten beyond `keep`."""

    def __init__(self, keep: int) -> None:
        self._keep = keep
        self._order: deque[Message] = deque()
        self._by_id: dict[str, Message] = {}
        self._by_person: dict[str, list[Message]] = {}
        self._by_number: dict[str, deque[Message]] = {}

    def __len__(self) -> int:
        return len(self._order)

    def add(self, message: Message) -> bool:
        """Keep it. False when a message with this id is already there: the receiver sees only one."""
        if message.id in self._by_id:
            return False
        self._by_id[message.id] = message
        self._order.append(message)
        self._by_person.setdefault(message.person, []).append(message)
        recent = self._by_number.get(message.number)
        if recent is None:
            recent = self._by_number[message.number] = deque(maxlen=2000)
        recent.append(message)
        if len(self._order) > self._keep:
            self._forget(self._order.popleft())
        return True

    def _forget(self, message: Message) -> None:
        self._by_id.pop(message.id, None)
        theirs = self._by_person.get(message.person)
        if theirs is not None:
            theirs.remove(message)
            if not theirs:
                del self._by_person[message.person]

    def find(self, message_id: str) -> Message | None:
        """The message with this provider id."""
        return self._by_id.get(message_id)

    def of_person(self, phone: str) -> list[Message]:
        """Everything to and from a person, oldest first."""
        return list(self._by_person.get(person_key(phone), ()))

    def of_number(self, number: str) -> list[Message]:
        """The newest messages of a number, newest first."""
        return list(reversed(self._by_number.get(number, ())))
