"""A small run that kept every promise, as the files of its folder; tests doctor one thing and look at the verdict."""

import hashlib
import json
from copy import deepcopy
from dataclasses import dataclass, field
from typing import Any
from uuid import UUID

from contracts import ids
from pombo.audit.audit import audit
from pombo.audit.finding import Finding
from pombo.audit.promises import read_answers, read_plan
from pombo.audit.witness import read_pauses, read_witness

CAMPAIGN = UUID("11111111-2222-4333-8444-555555555555")
STEPS = ("Olá {{nome}} de {{ Cidade }}, cupom {{cupom|AURA10}}", "{{NOME}}, até {{dia| sexta}}. {{telefone}}")
PEOPLE = (
    ("5511987654321", "José", {"Cidade": "São Paulo"}),
    ("553188887777", "Inês", {"cidade": "Betim", "Cupom": "X9"}),
)
TEXTS = (
    ("Olá José de São Paulo, cupom AURA10", "José, até sexta. 5511987654321"),
    ("Olá Inês de Betim, cupom X9", "Inês, até sexta. 553188887777"),
)
SECOND_NS = 1_000_000_000
NOON_MS = 1_790_000_000_000  # 2026-09-21 12:53:20 in São Paulo


def message_id(person: int, step: int) -> str:
    return f"wamid.{person}.{step}"


@dataclass(slots=True)
class WitnessedRun:
    """Facts as they are written; `verdicts` reads them back through the parsers."""

    witness: list[dict[str, Any]] = field(default_factory=list)
    clock: list[dict[str, Any]] = field(default_factory=list)
    plan: dict[str, Any] = field(default_factory=dict)
    answers: dict[str, Any] = field(default_factory=dict)

    def findings(self) -> dict[str, Finding]:
        plan = read_plan(self.plan)
        found = audit(
            plan,
            read_answers(json.loads(json.dumps(self.answers)), plan),
            read_witness(json.dumps(fact) for fact in self.witness),
            read_pauses(json.dumps(fact) for fact in self.clock),
        )
        return {finding.number: finding for finding in found}

    def broken(self) -> set[str]:
        """Numbers of the invariants that do not hold."""
        return {number for number, finding in self.findings().items() if not finding.holds}

    def sends(self, person: int | None = None, step: int | None = None) -> list[dict[str, Any]]:
        wanted = [fact for fact in self.witness if fact["event"] == "request_open"]
        if person is not None and step is not None:
            wanted = [fact for fact in wanted if fact["message_id"] == message_id(person, step)]
        return wanted

    def send_again(self, person: int, step: int, /, **changes: Any) -> dict[str, Any]:
        copy = deepcopy(self.sends(person, step)[0]) | changes
        self.witness.append(copy)
        return copy


def kept_promises() -> WitnessedRun:
    """Two people, two steps, one Meta number, one pause between the steps; the second person's first try throttled."""
    run = WitnessedRun()
    recipients = []
    for person, (phone, name, fields) in enumerate(PEOPLE):
        known = ids.recipient_id(CAMPAIGN, ids.phone_key(phone))
        recipients.append(_row(known, phone, name, fields))
        for step in range(len(STEPS)):
            at_ns = (1 + person + 20 * step) * SECOND_NS
            run.witness.append(_send(person, step, known, phone, at_ns))
            run.witness += [_webhook(person, step, status) for status in ("sent", "delivered", "read")]
    throttled = deepcopy(run.sends(1, 0)[0])
    throttled |= {"accepted": False, "fate": "throttled", "code": 130429, "message_id": None}
    run.witness.insert(0, throttled | {"mono_ns": SECOND_NS // 2})
    run.clock = [
        {"event": "paused", "campaign_id": str(CAMPAIGN), "mono_ns": 10 * SECOND_NS},
        {"event": "resume_requested", "campaign_id": str(CAMPAIGN), "mono_ns": 15 * SECOND_NS},
    ]
    run.plan = _plan()
    run.answers = {
        "statistics": _statistics(),
        "recipients": recipients,
        "raw_counts": {message_id(person, step): 3 for person in range(2) for step in range(2)},
        "compared": [{"table": "recipient", "equal": True, "live": {"rows": 2}, "rebuilt": {"rows": 2}}],
        "isolation": {"calls": 10, "crossings": []},
    }
    return run


def _plan() -> dict[str, Any]:
    number = {"number": "1001", "kind": "meta_cloud", "per_second": 2, "pair_per_minute": 10, "pair_burst": 3}
    return {
        "campaign_id": str(CAMPAIGN),
        "people": 2,
        "steps": list(STEPS),
        "numbers": [number | {"unique_24h": 2}],
        "policy": {
            "allowed_hours_start": "11:00:00",
            "allowed_hours_end": "14:00:00",
            "time_zone": "America/Sao_Paulo",
        },
    }


def _statistics() -> dict[str, Any]:
    names = ("failed_count", "skipped", "expired", "cancelled", "unresolved", "pending_count")
    dispatches = dict.fromkeys(("failed", "skipped", "expired", "cancelled", "unresolved", "pending"), 0)
    return {"total_contacts": 2, "sent_count": 2, **dict.fromkeys(names, 0), "dispatches": dispatches | {"sent": 4}}


def _row(known: UUID, phone: str, name: str, fields: dict[str, str]) -> dict[str, Any]:
    return {
        "recipient_id": str(known),
        "phone_number": phone,
        "name": name,
        "custom_fields": fields,
        "state": "accepted",
    }


def _send(person: int, step: int, known: UUID, phone: str, at_ns: int) -> dict[str, Any]:
    return {
        "event": "request_open",
        "at_ms": NOON_MS + at_ns // 1_000_000,
        "mono_ns": at_ns,
        "request": 10 * person + step,
        "provider": "meta",
        "number": "1001",
        "person": ids.phone_key(phone),
        "label": ids.attempt_label(ids.dispatch_id(known, step), 1),
        "text_sha": hashlib.blake2b(TEXTS[person][step].encode(), digest_size=8).hexdigest(),
        "fate": "accepted",
        "code": None,
        "accepted": True,
        "message_id": message_id(person, step),
    }


def _webhook(person: int, step: int, status: str) -> dict[str, Any]:
    items = [[message_id(person, step), status]]
    return {"event": "webhook", "at_ms": 0, "mono_ns": 0, "provider": "meta", "items": items, "http_status": 200}
