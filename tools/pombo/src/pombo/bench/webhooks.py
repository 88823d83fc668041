"""How long the webhook door takes to answer 200, which it does once the webhook is durable (G6)."""

import hashlib
import hmac
import json
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from pombo.backing import processes
from pombo.bench.figures import Figure
from pombo.bench.running import Bench
from pombo.demo.scenario import Stuck
from pombo.stack import Service

FIGURES = ("webhook_p99_ms_at_3000_rps",)
PATH = "/api/webhook/meta"
GOAL_RPS = 3000
LADDER_RPS = (250, 500, 1000, 2000)
LADDER_SHARE, GOAL_SHARE = 0.1, 0.33  # of a window
REPORTED_MAX = 2000
WITHIN_S = 240.0


def measure(bench: Bench) -> Iterator[Figure]:
    """Signed statuses of messages that were sent, told again: each is verified, kept and folded like a new one."""
    bench.pace()
    bench.settle()
    bodies = _write_bodies(bench)
    window_s = bench.wishes.duration_s
    ladder = {}
    for rps in LADDER_RPS:
        ladder[str(rps)] = _load(bench, bodies, rps, max(3.0, window_s * LADDER_SHARE))
        bench.settle()
    before = bench.cpu_by_process()[Service.WEBHOOK_INGEST]
    found = _load(bench, bodies, GOAL_RPS, max(5.0, window_s * GOAL_SHARE))
    door_s = bench.cpu_by_process()[Service.WEBHOOK_INGEST] - before
    bench.settle()
    yield bench.figure(
        FIGURES[0],
        found["p99_ms"],
        "ms",
        **found,
        statuses_each=1,
        durable_before_200=True,
        door_cpu_us_each=round(door_s * 1e6 / max(1, found["answered"])),
        at_lower_rates=ladder,
    )


def _load(bench: Bench, bodies: Path, rps: int, seconds: float) -> dict[str, Any]:
    """By a process of its own: what it costs must not delay what it measures."""
    bench.yardstick.sample()
    words = [sys.executable, "-m", "pombo.bench.webhook_load", bench.stack.addresses.webhooks, PATH, str(bodies)]
    done = subprocess.run(
        [*words, str(rps), str(seconds)],
        env=processes.inherited_environment(),
        capture_output=True,
        text=True,
        start_new_session=True,
        timeout=seconds + WITHIN_S,
        check=False,
    )
    if done.returncode != 0:
        raise Stuck(f"the webhook load ended with {done.returncode}: {done.stderr[-1000:]}")
    found: dict[str, Any] = json.loads(done.stdout)
    return found


def _write_bodies(bench: Bench) -> Path:
    """One line each: signature, a space, the body."""
    file = bench.stack.folder.path / "webhooks.txt"
    with file.open("w") as lines:
        for number in bench.simulator.numbers():
            for message in bench.simulator.messages_of(number["id"])[-REPORTED_MAX // 4 :]:
                body = _body(number, message)
                signature = hmac.new(number["app_secret"].encode(), body.encode(), hashlib.sha256).hexdigest()
                lines.write(f"sha256={signature} {body}\n")
    return file


def _body(number: dict[str, Any], message: dict[str, Any]) -> str:
    status = {
        "id": message["id"],
        "status": "read",
        "timestamp": str(int(time.time())),
        "recipient_id": message["to"],
    }
    value = {
        "messaging_product": "whatsapp",
        "metadata": {"display_phone_number": number["phone"], "phone_number_id": number["id"]},
        "statuses": [status],
    }
    change = {"field": "messages", "value": value}
    return json.dumps({"object": "whatsapp_business_account", "entry": [{"id": number["waba"], "changes": [change]}]})
