"""A running stack with one account, and what people do there with its numbers: all through the public API.

What happens outside (somebody scans a QR code, a gateway forgets, WhatsApp bans) is the simulator's control API.
"""

import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any, TypeVar

from pombo.client.api import Api
from pombo.client.simulator import Simulator
from pombo.demo import settings
from pombo.demo.account import make_account, signed_in
from pombo.stack import RunFolder, Service, Stack, Wishes

T = TypeVar("T")
POLL_S = 0.1
WITHIN_S = 30.0
# Area codes: as many people, each of whom gets the message, and reads it.
AREAS = (11, 21, 31, 41, 51, 61)


@dataclass(frozen=True, slots=True)
class Town:
    """One account of a running stack."""

    stack: Stack
    api: Api
    simulator: Simulator

    def make_instance(self, name: str, provider: str, **fields: Any) -> str:
        body = {
            "name": name,
            "provider": provider,
            "server_url": self.stack.addresses.simulator,
            "limits": {"messages_per_second": 20, "target_per_second": 20},
            **fields,
        }
        return str(self.api.post("/api/instances", json=body)["id"])

    def connect(self, name: str) -> dict[str, Any]:
        answer: dict[str, Any] = self.api.post("/api/instance/connect", json={"instanceName": name})
        return answer

    def status(self, name: str) -> dict[str, Any]:
        answer: dict[str, Any] = self.api.get("/api/instance/status", params={"instanceName": name})
        return answer

    def wait_status(self, name: str, wanted: str) -> dict[str, Any]:
        return self.wait(lambda: self.status(name), lambda status: status["status"] == wanted)

    def wait_qr_code(self, name: str, other_than: str | None = None) -> str:
        shown = self.wait(lambda: self.status(name), lambda status: status["qrCode"] not in (None, other_than))
        assert shown["status"] == "connecting"
        return str(shown["qrCode"])

    def disconnect(self, name: str) -> None:
        assert self.api.call("DELETE", "/api/instance/disconnect", params={"instanceName": name}).json()["success"]

    def start_campaign(self, name: str, pool: Sequence[str], people: int = 3, delay_s: float = 0) -> str:
        """One text to so many people, as fast as the number may if there is no delay between them."""
        body = {
            "name": name,
            "is_draft": False,
            "instance_pool": list(pool),
            "messages": [{"content_type": "text", "content": f"{name}: olá {{{{nome}}}}"}],
            "contacts": [{"phone_number": f"55{area}999660000", "name": f"Ana {area}"} for area in AREAS[:people]],
            "sending_configuration": {
                **settings.POLICY,
                "min_delay_seconds": delay_s,
                "max_delay_seconds": delay_s,
            },
        }
        return str(self.api.post("/api/campaigns", json=body)["id"])

    def campaign(self, campaign_id: str) -> dict[str, Any]:
        found: dict[str, Any] = self.api.get(f"/api/campaigns/{campaign_id}")
        return found

    def statistics(self, campaign_id: str) -> dict[str, Any]:
        found: dict[str, Any] = self.api.get(f"/api/campaigns/{campaign_id}/statistics")
        return found

    def wait_figures(self, campaign_id: str, **figures: Any) -> dict[str, Any]:
        return self.wait(
            lambda: self.statistics(campaign_id), lambda found: figures.items() <= found.items(), f"{figures}"
        )

    def wait_reason(self, campaign_id: str, reason: str) -> dict[str, Any]:
        """Until explaining the campaign names this reason."""

        def ask() -> list[dict[str, Any]]:
            found: list[dict[str, Any]] = self.api.get(
                "/api/whatsapp/queue/explain", params={"campaign_id": campaign_id}
            )["reasons"]
            return found

        reasons = self.wait(ask, lambda found: any(each["reason"] == reason for each in found), reason)
        return next(each for each in reasons if each["reason"] == reason)

    def number(self, number: str) -> dict[str, Any]:
        """As the provider has it."""
        return next((each for each in self.simulator.numbers() if each["id"] == number), {})

    def scan(self, number: str) -> None:
        """Somebody points the phone at the QR code."""
        self.simulator.change_number(number, state="open")

    def wait(self, look: Callable[[], T], enough: Callable[[T], bool], what: str = "") -> T:
        deadline_s = time.monotonic() + WITHIN_S
        while not enough(found := look()):
            assert time.monotonic() < deadline_s, f"waited {WITHIN_S:.0f} s for {what}; last: {found}"
            time.sleep(POLL_S)
        return found

    @contextmanager
    def nobody_scans_by_chance(self) -> Iterator[None]:
        """Whoever shows a QR code now finds the simulated person far away: an hour off, not three seconds."""
        self.simulator.change_settings(time_scale=0.001)
        yield
        self.simulator.change_settings(time_scale=settings.TIME_SCALE)


@contextmanager
def running_town(folder: RunFolder, grace_s: float) -> Iterator[Town]:
    """`grace_s`: how long a campaign may be without any usable number."""
    services = dict(settings.SERVICES)
    services[Service.SCHEDULER] = {**services[Service.SCHEDULER], "PACING__BLOCKED_GRACE_S": str(grace_s)}
    wishes = Wishes(settings=services, simulator={"settings": {"time_scale": settings.TIME_SCALE}})
    stack = Stack(folder, wishes)
    try:
        stack.start()
        login = make_account(stack, "Aura", "numbers@pombo.example")
        simulator = Simulator(stack.addresses.simulator)
        with signed_in(stack, login) as api:
            yield Town(stack, api, simulator)
        simulator.close()
    finally:
        stack.stop()
        stack.remove_data()
