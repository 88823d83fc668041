"""What a run promised (its plan) and what the public API said at the end, as values."""

import hashlib
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import time
from typing import Any
from uuid import UUID
from zoneinfo import ZoneInfo

from contracts import ids

_VARIABLE = re.compile(r"\{\{\s*([^{}|]*?)\s*(?:\|([^{}]*))?\}\}")


@dataclass(frozen=True, slots=True)
class NumberLimits:
    """What one number may send: messages in any second, to one person (GCRA), people in any 24 h (None = any).

    Numbers of one `portfolio` share the last of these.
    """

    number: str
    kind: str
    per_second: float
    pair_per_minute: float
    pair_burst: int
    unique_24h: int | None
    portfolio: str | None = None


@dataclass(frozen=True, slots=True)
class AllowedHours:
    """Local times; a window that ends before it starts goes over midnight."""

    start: time
    end: time
    zone: ZoneInfo

    def holds(self, local: time) -> bool:
        if self.start <= self.end:
            return self.start <= local < self.end
        return local >= self.start or local < self.end


@dataclass(frozen=True, slots=True)
class Plan:
    """`people`: how many the spreadsheet really holds, known from making it."""

    campaign_id: UUID
    people: int
    steps: tuple[str, ...]
    numbers: tuple[NumberLimits, ...]
    hours: AllowedHours | None
    at_least_once: bool


@dataclass(frozen=True, slots=True)
class Recipient:
    """As `GET /api/campaigns/{id}/recipients` shows it."""

    id: UUID
    phone: str
    state: str
    dispatches: tuple[UUID, ...]
    text_shas: tuple[str, ...]

    @property
    def person(self) -> str:
        return ids.phone_key(self.phone)


@dataclass(frozen=True, slots=True)
class Answers:
    """`raw_counts`: how many records of the raw topic name a message id. `compared`: lines of the check of rebuilds.

    `crossings`: calls that showed one account something of the other; `calls`: how many were made.
    """

    statistics: Mapping[str, Any]
    recipients: tuple[Recipient, ...]
    raw_counts: Mapping[str, int]
    compared: tuple[Mapping[str, Any], ...]
    crossings: tuple[str, ...]
    calls: int


def read_plan(data: Mapping[str, Any]) -> Plan:
    policy = data["policy"]
    hours = None
    if policy.get("allowed_hours_start") and policy.get("allowed_hours_end"):
        start, end = (time.fromisoformat(policy[f"allowed_hours_{edge}"]) for edge in ("start", "end"))
        hours = AllowedHours(start, end, ZoneInfo(policy["time_zone"]))
    return Plan(
        campaign_id=UUID(data["campaign_id"]),
        people=data["people"],
        steps=tuple(data["steps"]),
        numbers=tuple(
            NumberLimits(
                number["number"],
                number["kind"],
                number["per_second"],
                number["pair_per_minute"],
                number["pair_burst"],
                number["unique_24h"],
                number.get("portfolio"),
            )
            for number in data["numbers"]
        ),
        hours=hours,
        at_least_once=policy.get("guarantee") == "at_least_once",
    )


def read_answers(data: Mapping[str, Any], plan: Plan) -> Answers:
    return Answers(
        statistics=data["statistics"],
        recipients=tuple(_recipient(row, plan) for row in data["recipients"]),
        raw_counts=data["raw_counts"],
        compared=tuple(data["compared"]),
        crossings=tuple(data["isolation"]["crossings"]),
        calls=data["isolation"]["calls"],
    )


def _recipient(row: Mapping[str, Any], plan: Plan) -> Recipient:
    known = UUID(row["recipient_id"])
    values = {name.casefold(): str(value) for name, value in (row.get("custom_fields") or {}).items()}
    values |= dict.fromkeys(("nome", "name"), row.get("name") or "")
    values |= dict.fromkeys(("telefone", "phone"), row["phone_number"])
    texts = [written(step, values) for step in plan.steps]
    return Recipient(
        id=known,
        phone=row["phone_number"],
        state=row["state"],
        dispatches=tuple(ids.dispatch_id(known, step) for step in range(len(plan.steps))),
        text_shas=tuple(hashlib.blake2b(text.encode(), digest_size=8).hexdigest() for text in texts),
    )


def written(step: str, values: Mapping[str, str]) -> str:
    """The text as the person should read it: a reading of its own, not the scheduler's."""

    def value(found: re.Match[str]) -> str:
        return values.get(found[1].casefold()) or (found[2] or "").strip()

    return _VARIABLE.sub(value, step)


def by_dispatch(recipients: Sequence[Recipient]) -> dict[UUID, tuple[Recipient, int]]:
    return {
        dispatch: (recipient, step) for recipient in recipients for step, dispatch in enumerate(recipient.dispatches)
    }
