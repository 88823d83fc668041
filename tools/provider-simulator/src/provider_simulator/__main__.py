"""python -m provider_simulator: parse the command line, run, print the address once ready."""

import argparse
import asyncio
import gc
import json
import signal
import sys
from pathlib import Path
from typing import Any

import uvloop

from provider_simulator.app import Launch, run
from provider_simulator.fixtures import read_config
from provider_simulator.settings import SettingRefused, Settings


def _launch(arguments: list[str]) -> Launch:
    parser = argparse.ArgumentParser(prog="provider-simulator", description="Plays the WhatsApp providers.")
    parser.add_argument("--host", default="127.0.0.1")
    parser.add_argument("--port", type=int, default=0, help="0: any free port")
    parser.add_argument("--log", type=Path, help="the witness log, appended to")
    parser.add_argument("--seed", type=int, help="of all chance")
    parser.add_argument("--time-scale", type=float, help="simulated seconds per real second")
    parser.add_argument("--config", type=Path, help="JSON: settings, delivery, faults, numbers")
    parser.add_argument("--plain-host", action="append", help="http is as good as https there")
    given = parser.parse_args(arguments)
    overrides: dict[str, Any] = {
        name: value for name, value in (("seed", given.seed), ("time_scale", given.time_scale))
        if value is not None
    }  # fmt: skip
    if given.plain_host:
        overrides["plain_hosts"] = (*Settings().plain_hosts, *given.plain_host)
    return Launch(given.host, given.port, given.log, read_config(given.config), overrides)


async def _serve(launch: Launch) -> None:
    stop = asyncio.Event()
    loop = asyncio.get_running_loop()
    for name in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(name, stop.set)
    await run(launch, lambda url: print(json.dumps({"listening": url}), flush=True), stop)


def main() -> int:
    """Run until a signal; 2 when the configuration is refused."""
    try:
        launch = _launch(sys.argv[1:])
        gc.freeze()
        gc.set_threshold(50_000, 20, 50)  # many short-lived objects, hardly a cycle
        uvloop.run(_serve(launch))
    except (SettingRefused, OSError, ValueError) as refused:
        return _refuse(refused)
    except ExceptionGroup as group:  # of the task group that runs the doors
        ours, rest = group.split((SettingRefused, OSError))
        if ours is None or rest is not None:
            raise
        return _refuse(ours.exceptions[0])
    return 0


def _refuse(why: Exception) -> int:
    print(f"provider-simulator: {why}", file=sys.stderr)
    return 2


if __name__ == "__main__":
    sys.exit(main())
