"""`pombo bench`: imports, plans and sends on a fresh stack, measured from outside through the API."""

import os
import time
from collections.abc import Callable, Iterator
from datetime import datetime, timedelta
from typing import Any
from zoneinfo import ZoneInfo

import psutil
from rich.console import Console

from pombo.bench.figures import Figure, Yardstick, cpu_s
from pombo.client.api import Api
from pombo.client.simulator import Simulator
from pombo.demo.account import EMAIL, make_account, signed_in
from pombo.demo.fleet import NumberPlan, add_number
from pombo.demo.scenario import TIME_ZONE, Stuck
from pombo.demo.spreadsheet import make_spreadsheet
from pombo.stack import Service, Stack, Wishes
from pombo.stack.folder import fresh_run, marked_running
from pombo.stack.stack import SIMULATOR

POLL_S = 0.25
WITHIN_S = 600.0
NUMBERS = 4
WARM_UP = 1000
LATENCY_MS = 60
SENT_WITHOUT_DELAY = {"min_delay_seconds": 0, "max_delay_seconds": 0}
QUIET = {
    "settings": {"time_scale": 10.0, "cards": False},
    "faults": {"latency_ms": LATENCY_MS},
    "delivery": {"webhook_batch": 1},
}


def bench(messages: int, rows: int, console: Console) -> int:
    """Prints one line for each figure as soon as it is known; progress goes to `console` (stderr)."""
    folder = fresh_run("bench", datetime.now().astimezone().strftime("%Y%m%d-%H%M%S"))
    load = round(os.getloadavg()[0], 1)
    with marked_running(folder):
        stack = Stack(folder, Wishes(simulator=QUIET, time_scale=10.0), lambda text: console.print(text))
        try:
            stack.start()
            with signed_in(stack, make_account(stack, "Aura", EMAIL)) as api:
                pool = _add_numbers(stack, api)
                for figure in _figures(stack, api, pool, messages, rows):
                    figure.conditions["load_1m_before"] = load
                    print(figure.line(), flush=True)
        finally:
            stack.stop()
            stack.remove_data()
    return 0


def _figures(stack: Stack, api: Api, pool: list[str], messages: int, rows: int) -> Iterator[Figure]:
    yardstick = Yardstick()
    yield from _send(stack, api, pool, messages, yardstick)
    yield from _import(stack, api, pool, rows, yardstick)


def _add_numbers(stack: Stack, api: Api) -> list[str]:
    """Numbers of Meta's top tier: 1,000 messages a second each, so that nothing of the figure is pacing."""
    simulator = Simulator(stack.addresses.simulator)
    plans = [
        NumberPlan("meta_cloud", f"10000000000010{index}", f"551198888100{index}", per_second=1000, unique_24h=None)
        for index in range(NUMBERS)
    ]
    found = [add_number(plan, api, simulator, stack.addresses).instance_id for plan in plans]
    simulator.close()
    return found


def _send(stack: Stack, api: Api, pool: list[str], messages: int, yardstick: Yardstick) -> Iterator[Figure]:
    """From the request to start until the last `read` is in the read model; a first campaign warms everything up."""
    warm_up = _create(stack, api, pool, WARM_UP, SENT_WITHOUT_DELAY)
    api.post(f"/api/campaigns/{warm_up}/start")
    _until(api, yardstick, warm_up, lambda found: bool(found["read"] >= WARM_UP))
    yardstick.conditions()
    campaign = _create(stack, api, pool, messages, SENT_WITHOUT_DELAY)
    before_s, began_s = _cpu_by_process(stack), time.monotonic()
    api.post(f"/api/campaigns/{campaign}/start")
    _until(api, yardstick, campaign, lambda found: bool(found["read"] >= messages))
    took_s, after_s = time.monotonic() - began_s, _cpu_by_process(stack)
    used_s = {name: (after_s[name] - before_s[name]) * 1000 / messages for name in before_s}
    simulator_s = used_s.pop(SIMULATOR)
    conditions: dict[str, Any] = yardstick.conditions() | {
        "messages": messages,
        "statuses_each": 3,
        "numbers": NUMBERS,
        "provider_latency_ms": LATENCY_MS,
        "warm_up_messages": WARM_UP,
    }
    yield Figure("end_to_end_messages_per_second", messages / took_s, "messages/s", dict(conditions))
    conditions["by_process"] = {name: round(value, 2) for name, value in used_s.items()}
    conditions["simulator_beside"] = round(simulator_s, 2)
    yield Figure("cpu_seconds_per_1000_messages", sum(used_s.values()), "CPU s", conditions)


def _cpu_by_process(stack: Stack) -> dict[str, float]:
    """Seconds of CPU that each part has used since it was started."""
    pids = {name: process.pid for name, process in stack.processes.items()} | stack.backing.pids
    return {name: cpu_s([pid]) for name, pid in pids.items() if pid is not None}


def _import(stack: Stack, api: Api, pool: list[str], rows: int, yardstick: Yardstick) -> Iterator[Figure]:
    """A spreadsheet to a draft, and its start to a plan that everybody sees; nothing is sent in these hours."""
    later = datetime.now(ZoneInfo(TIME_ZONE)) + timedelta(hours=6)
    closed = {
        "allowed_hours_start": later.strftime("%H:%M:00"),
        "allowed_hours_end": (later + timedelta(hours=1)).strftime("%H:%M:00"),
        "time_zone": TIME_ZONE,
    }
    door = psutil.Process(stack.process(Service.CAMPAIGN_API).pid)
    began_s = time.monotonic()
    campaign = _create(stack, api, pool, rows, SENT_WITHOUT_DELAY | closed)
    took_s = time.monotonic() - began_s
    rss_mib = round(door.memory_info().rss / 2**20)
    conditions = {"rows": rows, "format": "csv", "rss_mib_after": rss_mib}
    yield Figure("import_rows_per_second", rows / took_s, "rows/s", conditions)
    began_s = time.monotonic()
    api.post(f"/api/campaigns/{campaign}/start")
    _until(api, yardstick, campaign, lambda found: bool(found["dispatches"].get("pending", 0) >= rows))
    took_s = time.monotonic() - began_s
    conditions = yardstick.conditions() | {"dispatches": rows, "numbers": NUMBERS, "until": "visible in the statistics"}
    yield Figure("plan_dispatches_per_second", rows / took_s, "dispatches/s", conditions)
    api.put(f"/api/campaigns/{campaign}/cancel")


def _create(stack: Stack, api: Api, pool: list[str], people: int, policy: dict[str, Any]) -> str:
    file = stack.folder.path / f"{people}.csv"
    file.write_bytes(make_spreadsheet(people, people).content)
    upload = api.upload(file)
    body = {
        "name": f"{people}",
        "instance_pool": pool,
        "messages": [{"content": "Olá {{nome}}, seu cupom é {{cupom|AURA10}}."}],
        "upload_id": upload["id"],
        "sending_configuration": policy,
    }
    made: dict[str, Any] = api.post("/api/campaigns", json=body)
    return str(made["id"])


def _until(api: Api, yardstick: Yardstick, campaign: str, reached: Callable[[dict[str, Any]], bool]) -> None:
    deadline_s = time.monotonic() + WITHIN_S
    while not reached(found := api.get(f"/api/campaigns/{campaign}/statistics")):
        if time.monotonic() > deadline_s:
            raise Stuck(f"not reached in {WITHIN_S:.0f} s: {found}")
        yardstick.sample()
        time.sleep(POLL_S)
