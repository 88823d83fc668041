"""The composition root: builds the world and the doors, and runs them until told to stop."""

import asyncio
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from provider_simulator.control import Control
from provider_simulator.door import Door, Request
from provider_simulator.fixtures import add_number, delivery_from, settings_from
from provider_simulator.gateways import Gateways
from provider_simulator.settings import Settings, overlay
from provider_simulator.witness import Witness
from provider_simulator.world import World

DRAIN_S = 5.0


@dataclass(frozen=True, slots=True)
class Launch:
    """How to start."""

    host: str
    port: int
    log: Path | None
    config: dict[str, Any]
    overrides: dict[str, Any]  # settings from the command line, over the file's


class App:
    """Routes requests by path: /_control, Graph versions, Evolution, Z-API."""

    def __init__(self, world: World) -> None:
        self.world = world
        self.gateways = Gateways(world)
        self._control = Control(world, self.gateways)
        self.door = Door(self.handle)

    def handle(self, request: Request) -> None:
        """One request. Whatever breaks in a handler is answered and logged, and the next one is served."""
        try:
            self._route(request)
        except Exception as error:  # noqa: BLE001
            self.world.witness.note("crashed", path=request.path, error=repr(error))
            request.answer(500, {"error": "simulator", "details": repr(error)})

    def _route(self, request: Request) -> None:
        parts = [part for part in request.path.split("/") if part]
        first = parts[0] if parts else ""
        if first == "_control":
            self._control.handle(request, parts[1:])
        elif not self.gateways.handle(request, first, parts):
            request.answer(404, {"status": 404, "error": "Not Found", "response": {
                "message": [f"Cannot {request.method} {request.path}"]}})  # fmt: skip


def build(launch: Launch, spawn: Callable[..., object], loop: asyncio.AbstractEventLoop) -> App:
    """Make everything by hand, from the configuration."""
    settings = settings_from(Settings(), {**launch.config.get("settings", {}), **launch.overrides})
    delivery = delivery_from(launch.config.get("delivery", {}))
    world = World(settings, delivery, Witness(launch.log, loop), spawn, loop)
    world.faults = overlay(world.faults, launch.config.get("faults", {}))
    for fixture in launch.config.get("numbers", ()):
        add_number(world, fixture)
    return App(world)


async def run(launch: Launch, ready: Callable[[str], None], stop: asyncio.Event) -> None:
    """Serve until `stop` is set, then drain."""
    loop = asyncio.get_running_loop()
    async with asyncio.TaskGroup() as tasks:
        app = build(launch, tasks.create_task, loop)
        world = app.world
        url = await app.door.open(launch.host, launch.port)
        app.gateways.set_base_url(url)
        world.witness.note("started", url=url, seed=world.settings.seed, time_scale=world.settings.time_scale)
        ready(url)
        sweeper = tasks.create_task(_sweep(world))
        await stop.wait()
        await app.door.close(DRAIN_S)
        sweeper.cancel()
        world.stop()
        world.witness.note("stopped", retrying=world.callbacks.retrying)
        world.witness.close()


async def _sweep(world: World) -> None:
    while True:
        await asyncio.sleep(1.0)
        world.postman.sweep()
