"""One figure: what was measured, in which unit, under which conditions."""

import json
import os
import platform
import statistics
import sys
import time
from dataclasses import dataclass
from typing import Any

import psutil


@dataclass(frozen=True, slots=True)
class Figure:
    name: str
    value: float
    unit: str
    conditions: dict[str, Any]

    def line(self) -> str:
        shown = {"name": self.name, "value": round(self.value, 2), "unit": self.unit}
        return json.dumps(shown | {"conditions": self.conditions | machine()}, ensure_ascii=False)


def machine() -> dict[str, Any]:
    """What any figure depends on."""
    return {
        "cores": os.cpu_count(),
        "memory_gib": round(psutil.virtual_memory().total / 2**30),
        "python": platform.python_version(),
        "system": sys.platform,
        "everything_on_this_machine": True,
    }


class Yardstick:
    """How fast this machine was meanwhile: CPU µs of one small piece of Python, sampled during a measurement.

    A shared machine runs the same code two to three times slower at one minute than at another: figures of two runs
    may be compared only where their yardsticks agree.
    """

    def __init__(self) -> None:
        self._samples_us: list[float] = []

    def sample(self) -> None:
        began_s = time.thread_time()
        for _ in range(20):
            for number in range(1000):
                number * 2
        self._samples_us.append((time.thread_time() - began_s) / 20 * 1e6)

    def conditions(self) -> dict[str, float]:
        """The median of the samples taken since the last call."""
        samples, self._samples_us = self._samples_us, []
        return {"yardstick_us": round(statistics.median(samples), 1)} if samples else {}


def memory_mib(pid: int) -> float:
    """Of a process and its children, shared pages counted once; what the system does not tell counts in full."""
    total = 0
    process = psutil.Process(pid)
    for one in (process, *process.children(recursive=True)):
        try:
            total += one.memory_full_info().pss
        except psutil.NoSuchProcess:
            continue
        except (psutil.AccessDenied, AttributeError):
            total += one.memory_info().rss
    return total / 2**20


def cpu_s(pids: list[int]) -> float:
    """User and system time of the processes and of their children (PostgreSQL has one for each connection)."""
    total = 0.0
    for pid in pids:
        try:
            process = psutil.Process(pid)
            for one in (process, *process.children(recursive=True)):
                times = one.cpu_times()
                total += times.user + times.system
        except psutil.NoSuchProcess:
            continue
    return total
