"""Work that comes round again and again, until the process stops."""

import asyncio
from collections.abc import Awaitable, Callable

from chassis.lifecycle import pause
from chassis.telemetry import log


async def repeat(
    work: Callable[[], Awaitable[object]], each_s: float, stopping: asyncio.Event, *, interrupted: str
) -> None:
    """A round that fails is logged as `interrupted`; the next one tries again. `each_s`: the pause between rounds."""
    while not stopping.is_set():
        try:
            await work()
        except Exception as error:  # noqa: BLE001  the edge of the loop
            log.warning(interrupted, error=f"{type(error).__name__}: {error}")
        await pause(stopping, each_s)
