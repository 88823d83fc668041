"""A run's campaigns: made and started through the API, paused, resumed and cancelled by somebody with a clock."""

import time
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any, TypeVar

import httpx

from pombo.audit.invariants import DISPATCH_COUNTS
from pombo.client.api import Api, Refused
from pombo.demo.fleet import PoolNumber
from pombo.demo.record import ClockLog
from pombo.demo.scenario import ENDED, Stuck
from pombo.demo.spreadsheet import make_spreadsheet
from pombo.stack import RunFolder

POLL_S = 0.1
PATIENCE_S = 120.0
STEPS = (
    "Olá {{nome}}, aqui é a Aura de {{ Cidade }}. Seu cupom é {{cupom|AURA10}}.",
    "{{NOME}}, o cupom {{cupom|AURA10}} vale até sexta.",
)
POLICY: dict[str, Any] = {
    "min_delay_seconds": 0,
    "max_delay_seconds": 0,
    "max_retries": 3,
    "retry_delay_seconds": 2,
}
T = TypeVar("T")


@dataclass(slots=True)
class Account:
    """`word` occurs in every text of this account and nowhere else."""

    api: Api
    account_id: str
    word: str
    pool: list[PoolNumber] = field(default_factory=list)


@dataclass(frozen=True, slots=True)
class Started:
    """One campaign under way."""

    account: Account
    campaign_id: str
    people: int
    steps: tuple[str, ...]
    policy: dict[str, Any]
    log: ClockLog

    def statistics(self) -> dict[str, Any]:
        found: dict[str, Any] = patiently(lambda: self.account.api.get(f"/api/campaigns/{self.campaign_id}/statistics"))
        return found

    @property
    def messages(self) -> int:
        return self.people * len(self.steps)

    def pending(self, statistics: dict[str, Any]) -> int:
        """Dispatches in no final state, also those that no read model has heard of yet."""
        known: int = sum(statistics["dispatches"].get(name, 0) for name in DISPATCH_COUNTS if name != "pending")
        return self.messages - known

    def is_over(self, statistics: dict[str, Any]) -> bool:
        return statistics["status"] in ENDED and not self.pending(statistics) and not statistics["pending_count"]

    def plan(self) -> dict[str, Any]:
        """As the audit reads it."""
        return {
            "campaign_id": self.campaign_id,
            "account_id": self.account.account_id,
            "people": self.people,
            "steps": list(self.steps),
            "numbers": [number.as_json() for number in self.account.pool],
            "policy": self.policy,
        }

    def pause_and_resume(self, for_s: float) -> str | None:
        """What came otherwise than asked for. Raises Stuck where no acknowledgement comes."""
        self._note("pause_requested")
        if (status := self._ask("pause", "pausing")) != "paused":
            return f"pause: the campaign was {status}"
        self._note("paused")
        time.sleep(for_s)
        self._note("resume_requested")
        status = self._ask("resume", "paused")
        self._note("resumed", status=status)
        return None

    def cancel(self) -> str | None:
        self._note("cancel_requested")
        if (status := self._ask("cancel", "cancelling")) != "cancelled":
            return f"cancel: the campaign was {status}"
        self._note("cancelled")
        return None

    def _ask(self, action: str, passing: str) -> str:
        """Ask until somebody answers, then wait while the campaign is `passing`; its status after that."""
        path = f"/api/campaigns/{self.campaign_id}"
        try:
            status = patiently(lambda: self.account.api.put(f"{path}/{action}"))["campaign"]["status"]
        except Refused:
            # Ended in the meantime, or an earlier try got through although its answer was lost.
            status = patiently(lambda: self.account.api.get(path))["status"]
        deadline_s = time.monotonic() + PATIENCE_S
        while status == passing:
            if time.monotonic() > deadline_s:
                raise Stuck(f"campaign {self.campaign_id} is {status} {PATIENCE_S:.0f} s after {action}")
            time.sleep(POLL_S)
            status = patiently(lambda: self.account.api.get(path))["status"]
        return str(status)

    def _note(self, event: str, **fields: Any) -> None:
        self.log.note(event, campaign_id=self.campaign_id, **fields)


def start_campaign(
    account: Account, folder: RunFolder, log: ClockLog, *, people: int, seed: int, at_least_once: bool
) -> Started:
    """Upload, create, start: before the faults, so once is enough."""
    file = folder.path / f"{account.word}-{seed}.csv"
    file.write_bytes(make_spreadsheet(people, seed).content)
    steps = tuple(f"{text} ({account.word} {seed})" for text in STEPS)
    policy = POLICY | ({"guarantee": "at_least_once"} if at_least_once else {})
    upload = account.api.upload(file)
    body = {
        "name": f"{account.word} {seed}",
        "is_draft": False,
        "instance_pool": [number.instance_id for number in account.pool],
        "messages": [{"content_type": "text", "content": text, "order_index": i} for i, text in enumerate(steps)],
        "upload_id": upload["id"],
        "sending_configuration": policy,
    }
    made = account.api.post("/api/campaigns", json=body)
    log.note("started", campaign_id=made["id"], people=people)
    return Started(account, made["id"], people, steps, policy, log)


def patiently(ask: Callable[[], T], within_s: float = PATIENCE_S) -> T:
    """Again while nobody answers, or only a 5xx. Raises what came last."""
    deadline_s = time.monotonic() + within_s
    while True:
        try:
            return ask()
        except (httpx.TransportError, Refused) as error:
            lasting = isinstance(error, Refused) and error.status < 500
            if lasting or time.monotonic() > deadline_s:
                raise
        time.sleep(POLL_S)
