"""One figure: what was measured, in which unit, under which conditions."""

import json
import os
import platform
import sys
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
    """What any figure depends on; `load_1m` before the run tells whether others used the machine."""
    return {
        "cores": os.cpu_count(),
        "memory_gib": round(psutil.virtual_memory().total / 2**30),
        "python": platform.python_version(),
        "system": sys.platform,
        "everything_on_this_machine": True,
    }


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
