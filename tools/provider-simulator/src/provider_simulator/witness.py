"""The witness: an append-only log of everything the simulator saw and did. README.md is its contract.

Lines are gathered for a few milliseconds and written with one call to a descriptor opened with O_APPEND.
"""

import asyncio
import os
import time
from pathlib import Path
from typing import Any

import orjson

FLUSH_S = 0.02
FLUSH_BYTES = 128 * 1024


class Witness:
    """Writes one JSON object per line; `path` None keeps nothing."""

    def __init__(self, path: Path | None, loop: asyncio.AbstractEventLoop) -> None:
        self._descriptor: int | None = None
        if path is not None:
            path.parent.mkdir(parents=True, exist_ok=True)
            self._descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o644)
        self._loop = loop
        self._lines: list[bytes] = []
        self._bytes = 0
        self._armed = False
        self.seen = 0

    def note(self, event: str, **fields: Any) -> None:
        """One line, stamped now."""
        self.note_at(event, time.time_ns() // 1_000_000, time.monotonic_ns(), fields)

    def note_at(self, event: str, at_ms: int, mono_ns: int, fields: dict[str, Any]) -> None:
        """One line, stamped by the caller (arrivals carry the time at which the kernel got them)."""
        self.seen += 1
        if self._descriptor is None:
            return
        line = orjson.dumps({"event": event, "at_ms": at_ms, "mono_ns": mono_ns, **fields})
        self._lines.append(line)
        self._bytes += len(line)
        if self._bytes >= FLUSH_BYTES:
            self.flush()
        elif not self._armed:
            self._armed = True
            self._loop.call_later(FLUSH_S, self._on_timer)

    def _on_timer(self) -> None:
        self._armed = False
        self.flush()

    def flush(self) -> None:
        """Write what is gathered."""
        if self._descriptor is None or not self._lines:
            return
        self._lines.append(b"")
        data = memoryview(b"\n".join(self._lines))
        self._lines = []
        self._bytes = 0
        while data:
            data = data[os.write(self._descriptor, data) :]

    def close(self) -> None:
        """Write the rest and close."""
        self.flush()
        if self._descriptor is not None:
            os.close(self._descriptor)
            self._descriptor = None
