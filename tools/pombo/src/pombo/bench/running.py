"""What every group of figures works with: the running stack, its API, numbers and campaigns made through it."""

import hashlib
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from itertools import count
from typing import Any
from zoneinfo import ZoneInfo

import psutil

from pombo.bench.arrivals import Arrivals
from pombo.bench.figures import Figure, Yardstick, cpu_s, memory_mib
from pombo.bench.measures import middle_rate
from pombo.chaos.campaigns import patiently
from pombo.chaos.stalls import Stalls
from pombo.client.api import Api
from pombo.client.simulator import Simulator
from pombo.demo.fleet import NumberPlan, PoolNumber, add_number
from pombo.demo.scenario import ENDED, TIME_ZONE, Stuck
from pombo.demo.spreadsheet import make_spreadsheet
from pombo.stack import Stack
from pombo.stack.stack import SIMULATOR

POLL_S = 0.25
WITHIN_S = 600.0
QUIET_WITHIN_S = 60.0
IDLE_LOOK_S = 2.0
IDLE_FACTOR, IDLE_CPU = 1.5, 0.1
STOP_WITHIN_S = 20.0
LATENCY_MS = 60
UNPACED_PER_S = 1000  # Meta's top tier: nothing of a figure is pacing
UNPACED_NUMBERS = 4
WARM_UP = 2500
SENT_WITHOUT_DELAY: Mapping[str, Any] = {"min_delay_seconds": 0, "max_delay_seconds": 0}
SPARE = 1.5  # a machine that others use may be faster now than when its pace was measured
WITHIN_SENT = ("delivered", "read")
WITH_VARIABLES = "Olá {{nome}}, seu cupom é {{cupom|AURA10}}."
QUIET: Mapping[str, Any] = {
    "settings": {"time_scale": 10.0, "cards": False},
    "faults": {"latency_ms": LATENCY_MS},
    "delivery": {"webhook_batch": 1},
}


@dataclass(frozen=True, slots=True)
class BenchWishes:
    """`duration_s`: of one window; `only`: groups or figures by name, all of them if empty."""

    duration_s: float = 60.0
    rows: int = 100_000
    only: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Campaign:
    id: str
    people: int
    text: str
    rows: int
    made_in_s: float

    @property
    def path(self) -> str:
        return f"/api/campaigns/{self.id}"

    @property
    def text_sha(self) -> str:
        """As the simulator's log names the text; of one without variables."""
        return hashlib.blake2b(self.text.encode(), digest_size=8).hexdigest()


@dataclass(slots=True)
class Bench:
    stack: Stack
    api: Api
    simulator: Simulator
    wishes: BenchWishes
    tell: Callable[[str], None]
    stalls: Stalls
    yardstick: Yardstick = field(default_factory=Yardstick)
    measured: dict[str, float] = field(default_factory=dict)
    _turns: "count[int]" = field(default_factory=lambda: count(1))
    _started: list[Campaign] = field(default_factory=list)
    _unpaced: list[PoolNumber] = field(default_factory=list)
    _pace: float | None = None
    _idle_cpu: float = 0.2
    _speed: dict[str, float] = field(default_factory=dict)

    def figure(self, name: str, value: float, unit: str, **conditions: Any) -> Figure:
        """With how fast the machine was since the last figure; kept for the ratios of later ones."""
        self.measured[name] = value
        self._speed = self.yardstick.conditions() or self._speed
        return Figure(name, value, unit, self._speed | conditions)

    def arrivals(self) -> Arrivals:
        """What comes from now on."""
        self.simulator.stats()
        arrivals = Arrivals(self.stack.folder.witness)
        arrivals.skip()
        return arrivals

    def add_numbers(self, numbers: int, per_second: float) -> list[PoolNumber]:
        """Numbers of Meta, and instances for them."""
        made = []
        for _ in range(numbers):
            turn = next(self._turns)
            plan = NumberPlan(
                "meta_cloud",
                f"1000000000{turn:05d}",
                f"55119888{turn:05d}",
                per_second=per_second,
                unique_24h=None,
                title=f"Aura {turn}",
            )
            made.append(add_number(plan, self.api, self.simulator, self.stack.addresses))
        return made

    def unpaced(self) -> list[PoolNumber]:
        if not self._unpaced:
            self._unpaced = self.add_numbers(UNPACED_NUMBERS, UNPACED_PER_S)
        return self._unpaced

    def pace(self) -> float:
        """Messages a second that this machine carries end to end, roughly: what everything else is sized by.

        Found by a campaign that warms everything up, and better by a longer one (`learn_pace`).
        """
        if self._pace is None:
            self._idle_cpu = self._cpu_for(IDLE_LOOK_S)
            campaign = self.draft(WARM_UP, self.unpaced())
            samples = self.run(campaign)
            whole = WARM_UP / (samples[-1][0] - samples[0][0])
            self._pace = max(whole, middle_rate(samples, WARM_UP) or 0.0)
            self.tell(f"this machine carries about {self._pace:.0f} messages a second end to end")
        return self._pace

    def learn_pace(self, per_second: float) -> None:
        self._pace = per_second

    def run(self, campaign: Campaign) -> list[tuple[float, int]]:
        """From its start to its last `read`: when (monotonic seconds) how many were read."""
        samples = [(time.monotonic(), 0)]
        self.start(campaign)
        self.until(campaign, lambda found: self._is_read(campaign, found, samples))
        return samples

    def _is_read(self, campaign: Campaign, found: dict[str, Any], samples: list[tuple[float, int]]) -> bool:
        samples.append((time.monotonic(), found["read"]))
        return bool(found["read"] >= campaign.people)

    def draft(
        self,
        people: int,
        pool: Sequence[PoolNumber],
        *,
        fixed_text: bool = False,
        policy: Mapping[str, Any] = SENT_WITHOUT_DELAY,
    ) -> Campaign:
        """People that no other campaign has. `fixed_text`: one that tells the campaign in the provider's log."""
        turn = next(self._turns)
        sheet = make_spreadsheet(people, turn)
        file = self.stack.folder.path / "bench.csv"
        file.write_bytes(sheet.content)
        text = f"Campanha {turn}: seu cupom é AURA10." if fixed_text else WITH_VARIABLES
        began_s = time.monotonic()
        body = {
            "name": f"bench {turn}",
            "instance_pool": [number.instance_id for number in pool],
            "messages": [{"content": text}],
            "upload_id": self.api.upload(file)["id"],
            "sending_configuration": dict(policy),
        }
        made = self.api.post("/api/campaigns", json=body)
        return Campaign(str(made["id"]), people, text, sheet.rows, time.monotonic() - began_s)

    def start(self, campaign: Campaign) -> None:
        self._started.append(campaign)
        self.api.post(f"{campaign.path}/start")

    def statistics(self, campaign: Campaign) -> dict[str, Any]:
        found: dict[str, Any] = self.api.get(f"{campaign.path}/statistics")
        return found

    def until(
        self, campaign: Campaign, reached: Callable[[dict[str, Any]], bool], within_s: float = WITHIN_S
    ) -> dict[str, Any]:
        """Raises Stuck."""
        deadline_s = time.monotonic() + within_s
        while not reached(found := self.statistics(campaign)):
            if time.monotonic() > deadline_s:
                raise Stuck(f"not reached in {within_s:.0f} s: {found}; logs: {self.stack.folder.logs}")
            self.wait(POLL_S)
        return found

    def until_planned(self, campaign: Campaign) -> None:
        """Every dispatch is in the read model: from here on nothing but sending costs anything. Raises Stuck."""
        self.until(campaign, lambda found: planned_count(found) >= campaign.people)

    def wait(self, seconds: float) -> None:
        """Sleeps, sampling the yardstick, while all processes live. Raises Stuck."""
        until_s = time.monotonic() + seconds
        while True:
            self.yardstick.sample()
            if ended := self.stack.ended():
                raise Stuck(f"{', '.join(ended)} ended by itself; logs: {self.stack.folder.logs}")
            left_s = until_s - time.monotonic()
            if left_s <= 0:
                return
            time.sleep(min(left_s, 1.0))

    def services_run(self) -> bool:
        return all(process.pid is not None for process in self.stack.processes.values())

    def stop_services(self) -> None:
        """All but the simulator, for the rest of the run."""
        services = [process for name, process in self.stack.processes.items() if name != SIMULATOR]
        for process in services:
            process.ask_to_stop()
        for process in services:
            process.stop(STOP_WITHIN_S)

    def settle(self) -> None:
        """End what was started, and wait until the provider has nothing more to tell."""
        while self._started:
            self._end(self._started.pop().path)
        deadline_s = time.monotonic() + QUIET_WITHIN_S
        while time.monotonic() < deadline_s:
            stats = self.simulator.stats()
            hooks = stats["webhooks"]
            if not (stats["open_requests"] or stats["planned"] or hooks["open"] or hooks["waiting"]):
                break
            time.sleep(POLL_S)
        self.wait_idle()

    def _end(self, path: str) -> None:
        if patiently(lambda: self.api.get(path))["status"] not in ENDED:
            patiently(lambda: self.api.put(f"{path}/cancel"))

    def wait_idle(self) -> None:
        """Until the services have worked off what they were told: they use little more than before anything began."""
        deadline_s = time.monotonic() + QUIET_WITHIN_S
        while time.monotonic() < deadline_s and self._cpu_for(1.0) > IDLE_FACTOR * self._idle_cpu + IDLE_CPU:
            continue

    def _cpu_for(self, seconds: float) -> float:
        """CPU that everything uses together, in cores."""
        before_s, began_s = sum(self.cpu_by_process().values()), time.monotonic()
        time.sleep(seconds)
        return (sum(self.cpu_by_process().values()) - before_s) / (time.monotonic() - began_s)

    def pids(self) -> dict[str, int]:
        pids = {name: process.pid for name, process in self.stack.processes.items()} | self.stack.backing.pids
        return {name: pid for name, pid in pids.items() if pid is not None}

    def cpu_by_process(self) -> dict[str, float]:
        """Seconds of CPU that each part has used since it was started."""
        return {name: cpu_s([pid]) for name, pid in self.pids().items()}

    def memory_by_process(self) -> dict[str, int]:
        """MiB; the simulator is no part of the system."""
        return {name: round(memory_mib(pid)) for name, pid in self.pids().items() if name != SIMULATOR}

    def process_rss_mib(self, name: str) -> int:
        return round(psutil.Process(self.pids()[name]).memory_info().rss / 2**20)


def planned_count(statistics: dict[str, Any]) -> int:
    """Dispatches that the read model knows. `delivered` and `read` are among those that were sent."""
    return sum(count for name, count in statistics["dispatches"].items() if name not in WITHIN_SENT)


def closed_hours() -> dict[str, Any]:
    """A policy under which nothing is sent now: everything is planned and waits."""
    later = datetime.now(ZoneInfo(TIME_ZONE)) + timedelta(hours=6)
    return {
        **SENT_WITHOUT_DELAY,
        "allowed_hours_start": later.strftime("%H:%M:00"),
        "allowed_hours_end": (later + timedelta(hours=1)).strftime("%H:%M:00"),
        "time_zone": TIME_ZONE,
    }
