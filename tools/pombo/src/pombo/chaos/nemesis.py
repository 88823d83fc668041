"""Does the faults: each in a thread of its own, from its beginning to its end."""

import threading
import time
from collections.abc import Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from typing import Any, assert_never

from pombo.chaos.campaigns import Started
from pombo.chaos.faults import (
    Cancel,
    Crash,
    Fault,
    Freeze,
    Kill,
    Pause,
    Poison,
    Provider,
    Stop,
    described,
)
from pombo.chaos.keeper import Keeper
from pombo.chaos.proxies import Proxies
from pombo.client.simulator import Simulator
from pombo.demo.record import ClockLog

OPEN_WITHIN_S = 15.0
AT_ONCE_MAX = 8
POLL_S = 0.02


class Nemesis:
    """`begin` returns at once; `over` once every fault that was begun has ended and is healed."""

    def __init__(
        self,
        keeper: Keeper,
        proxies: Proxies,
        simulator: Simulator,
        usual: Mapping[str, Any],
        campaigns: Sequence[Started],
        log: ClockLog,
    ) -> None:
        self._keeper = keeper
        self._proxies = proxies
        self._simulator = simulator
        self._usual = dict(usual)  # the simulator's faults when nobody misbehaves
        self._campaigns = campaigns
        # One person decides about a campaign at a time.
        self._people = {campaign.campaign_id: threading.Lock() for campaign in campaigns}
        self._log = log
        self._threads = ThreadPoolExecutor(max_workers=AT_ONCE_MAX, thread_name_prefix="fault")
        self._running: list[Future[None]] = []
        self._misbehaviours: list[Mapping[str, Any]] = []
        self._lock = threading.Lock()
        self._turn = 0
        self._began_s = time.monotonic()
        self.notes: list[str] = []
        self.timeline: list[str] = []  # seconds of the run in which each fault was done, in the order of their ends

    def begin(self, fault: Fault) -> None:
        self._turn += 1
        campaign = self._campaigns[self._turn % len(self._campaigns)]
        self._running.append(self._threads.submit(self._do, fault, campaign))

    @property
    def over(self) -> bool:
        return all(done.done() for done in self._running)

    def close(self) -> None:
        """Heals everything. Raises what a fault's thread raised."""
        self._threads.shutdown(wait=True)
        self._keeper.thaw_all()
        self._proxies.heal_all()
        self._simulator.set_faults(**self._usual)
        for done in self._running:
            done.result()

    def _do(self, fault: Fault, campaign: Started) -> None:
        self._log.note("fault_began", fault=described(fault))
        began_s = time.monotonic() - self._began_s
        match fault:
            case Kill():
                self._kill(fault)
            case Stop(target):
                with self._keeper.only(target):
                    self._keeper.stop(target)
                    self._keeper.start(target)
            case Freeze(target, for_s):
                with self._keeper.only(target):
                    self._keeper.freeze(target)
                    time.sleep(for_s)
                    self._keeper.thaw(target)
            case Crash(service, point, nth):
                with self._keeper.only(service):
                    if not self._keeper.crash(service, point, nth):
                        self._say(f"{described(fault)}: not reached")
            case Poison(link, toxic, for_s):
                self._proxies.poison(link, toxic)
                time.sleep(for_s)
                self._proxies.heal(link)
            case Provider(_, shares, for_s):
                self._misbehave(shares, for_s)
            case Pause(for_s):
                with self._people[campaign.campaign_id]:
                    self._say_if(campaign.pause_and_resume(for_s))
            case Cancel():
                with self._people[campaign.campaign_id]:
                    self._say_if(campaign.cancel())
            case never:
                assert_never(never)
        self._log.note("fault_ended", fault=described(fault))
        self.timeline.append(f"{began_s:.1f}–{time.monotonic() - self._began_s:.1f}")

    def _kill(self, fault: Kill) -> None:
        with self._keeper.only(fault.target):
            for _ in range(fault.times):
                if fault.while_open and not self._wait_open():
                    self._say(f"{described(fault)}: no request was open")
                self._keeper.kill(fault.target)
                time.sleep(fault.down_s)
                self._keeper.start(fault.target)
                time.sleep(1.0 if fault.times > 1 else 0.0)

    def _wait_open(self) -> bool:
        deadline_s = time.monotonic() + OPEN_WITHIN_S
        while time.monotonic() < deadline_s:
            if self._simulator.open_requests() > 0:
                return True
            time.sleep(POLL_S)
        return False

    def _misbehave(self, shares: Mapping[str, Any], for_s: float) -> None:
        """Several at a time are laid over each other."""
        with self._lock:
            self._misbehaviours.append(shares)
            self._tell_simulator()
        time.sleep(for_s)
        with self._lock:
            self._misbehaviours.remove(shares)
            self._tell_simulator()

    def _tell_simulator(self) -> None:
        together = dict(self._usual)
        for shares in self._misbehaviours:
            together |= shares
        self._simulator.set_faults(**together)

    def _say(self, note: str) -> None:
        self.notes.append(note)

    def _say_if(self, note: str | None) -> None:
        if note is not None:
            self.notes.append(note)
