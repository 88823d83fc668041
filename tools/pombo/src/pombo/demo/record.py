"""What the CLI itself did and saw, written as it happens: the audit believes this and the simulator, nobody else."""

import json
import time
from pathlib import Path
from typing import Any


class ClockLog:
    """JSON lines with both clocks: `at_ms` (wall) and `mono_ns` (monotonic, the same as the simulator's)."""

    def __init__(self, file: Path) -> None:
        self._file = file

    def note(self, event: str, **fields: Any) -> None:
        line = {"event": event, "at_ms": time.time_ns() // 1_000_000, "mono_ns": time.monotonic_ns(), **fields}
        with self._file.open("a") as handle:
            handle.write(json.dumps(line) + "\n")
