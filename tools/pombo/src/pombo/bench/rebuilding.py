"""The read models made anew from the log (G12)."""

import json
from collections.abc import Iterator

from pombo.bench.figures import Figure
from pombo.bench.running import Bench
from pombo.demo.scenario import Stuck
from pombo.stack import Service

FIGURES = ("projection_rebuild_events_per_second",)
WITHIN_S = 600.0
MESSAGES_MIN = 2000


def measure(bench: Bench) -> Iterator[Figure]:
    """Of all that was published until now; the live read models stay up, and have nothing to do meanwhile."""
    bench.pace()  # so that there is something to rebuild
    bench.settle()
    done = bench.stack.run_command(Service.PROJECTIONS, "rebuild", within_s=WITHIN_S)
    if done.returncode != 0:
        raise Stuck(f"the rebuild failed: {done.stdout}{done.stderr}")
    bench.wait(0)
    rebuilt = json.loads(done.stdout.strip().splitlines()[-1])
    yield bench.figure(
        FIGURES[0],
        rebuilt["events"] / rebuilt["seconds"],
        "events/s",
        events=rebuilt["events"],
        seconds=round(rebuilt["seconds"], 1),
        standstill_s=round(rebuilt["standstill_s"], 2),
    )
