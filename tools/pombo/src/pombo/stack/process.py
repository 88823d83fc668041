"""One process of the stack: started, asked whether it is ready, ended by its id."""

import signal
import sys
import time
from collections.abc import Mapping, Sequence
from pathlib import Path

import httpx
import psutil

from pombo.backing import processes
from pombo.stack.failures import ServiceFailed

POLL_S = 0.05


class StackProcess:
    """`start` after `kill` gives a new process with the same settings."""

    def __init__(
        self,
        name: str,
        arguments: Sequence[str | Path],
        *,
        log: Path,
        environment: Mapping[str, str],
        ready_url: str,
        die_with_parent: bool,
    ) -> None:
        self.name = name
        self.log = log
        self._command: list[str | Path] = [sys.executable, "-m", *arguments]
        self._environment = dict(environment)
        self._ready_url = ready_url
        self._die_with_parent = die_with_parent
        self._process: psutil.Process | None = None

    @property
    def pid(self) -> int | None:
        return processes.living_pid(self._process)

    @property
    def ended_by_itself(self) -> bool:
        """Whether it was started and is gone although nobody asked."""
        return self._process is not None and self.pid is None

    def change(self, **variables: str) -> None:
        """Other settings from the next start on."""
        self._environment |= variables

    def start(self) -> None:
        self._process = processes.spawn(
            self._command,
            log=self.log,
            env=processes.inherited_environment(**self._environment),
            die_with_parent=self._die_with_parent,
        )

    def wait_ready(self, within_s: float) -> None:
        """Raises ServiceFailed when it ends, or is not ready in time."""
        deadline = time.monotonic() + within_s
        while not self.is_ready():
            if self.pid is None:
                self._process = None
                raise ServiceFailed(self.name, "ended while starting", processes.tail(self.log))
            if time.monotonic() > deadline:
                raise ServiceFailed(self.name, f"was not ready in {within_s:.0f} s", processes.tail(self.log))
            time.sleep(POLL_S)

    def is_ready(self) -> bool:
        try:
            return httpx.get(self._ready_url, timeout=2.0, trust_env=False).status_code == 200
        except httpx.HTTPError:
            return False

    def ask_to_stop(self) -> None:
        if self._process is not None:
            processes.send(self._process, signal.SIGTERM)

    def stop(self, within_s: float) -> bool:
        """SIGTERM, and SIGKILL after the grace; whether it ended by itself."""
        if self._process is None:
            return True
        processes.send(self._process, signal.SIGTERM)
        clean = processes.ended(self._process, within_s=within_s)
        if not clean:
            processes.stop(self._process, signal.SIGKILL, within_s=5.0)
        self._process = None
        return clean

    def kill(self) -> None:
        """The end that a crash is: SIGKILL to exactly this process."""
        if self._process is not None:
            processes.stop(self._process, signal.SIGKILL, within_s=5.0)
        self._process = None
