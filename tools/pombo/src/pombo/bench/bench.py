"""`pombo bench`: every figure on a fresh stack, measured from outside; one group's trouble is not another's."""

import contextlib
import signal
import subprocess
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any

import httpx
import psutil
from rich.console import Console

from pombo.backing import BackingUnavailable
from pombo.bench import (
    fairness,
    pacing,
    pausing,
    planning,
    rebuilding,
    recovery,
    sending,
    stage,
    starting,
    watching,
    webhooks,
)
from pombo.bench.baselines import comparing
from pombo.bench.figures import Figure
from pombo.bench.running import QUIET, Bench, BenchWishes
from pombo.chaos.stalls import Stalls
from pombo.client.api import Api, Refused
from pombo.client.simulator import Simulator
from pombo.demo.account import EMAIL, make_account, signed_in
from pombo.demo.scenario import Stuck
from pombo.stack import Stack, StackFailed, Wishes
from pombo.stack.folder import fresh_run, marked_running

TIME_SCALE = 10.0
READY_WITHIN_S = 60.0
# Of one group: the others are measured all the same.
FAILURES = (
    Stuck,
    StackFailed,
    BackingUnavailable,
    Refused,
    httpx.HTTPError,
    psutil.Error,
    subprocess.SubprocessError,
    OSError,
    LookupError,
    ValueError,
    ExceptionGroup,
)


@dataclass(frozen=True, slots=True)
class Group:
    """Figures that are measured together. The rebuild comes early, while the log is short; what stops services last."""

    figures: Sequence[str]
    measure: Callable[[Bench], Iterator[Figure]]


GROUPS = {
    "sending": Group(sending.FIGURES, sending.measure),
    "rebuilding": Group(rebuilding.FIGURES, rebuilding.measure),
    "watching": Group(watching.FIGURES, watching.measure),
    "starting": Group(starting.FIGURES, starting.measure),
    "pausing": Group(pausing.FIGURES, pausing.measure),
    "pacing": Group(pacing.FIGURES, pacing.measure),
    "fairness": Group(fairness.FIGURES, fairness.measure),
    "planning": Group(planning.FIGURES, planning.measure),
    "webhooks": Group(webhooks.FIGURES, webhooks.measure),
    "recovery": Group(recovery.FIGURES, recovery.measure),
    "stage": Group(stage.FIGURES, stage.measure),
    "baselines": Group(comparing.FIGURES, comparing.measure),
}


class UnknownName(Stuck):
    """No group and no figure is called so."""

    def __init__(self, name: str) -> None:
        known = "\n".join(f"  {group}: {', '.join(found.figures)}" for group, found in GROUPS.items())
        super().__init__(f"There is no group or figure {name}. There are:\n{known}")


def chosen(only: Sequence[str]) -> list[str]:
    """Groups by their names or by those of their figures; all of them if none is named. Raises UnknownName."""
    found = {
        name: [group for group, which in GROUPS.items() if name == group or name in which.figures] for name in only
    }
    for name, groups in found.items():
        if not groups:
            raise UnknownName(name)
    wanted = {group for groups in found.values() for group in groups}
    return [group for group in GROUPS if not only or group in wanted]


def bench(wishes: BenchWishes, console: Console) -> int:
    """Prints a line for each figure as soon as it is known, progress to `console` (stderr); 1 if a group failed."""
    groups = chosen(wishes.only)
    signal.signal(signal.SIGTERM, _interrupt)
    folder = fresh_run("bench", datetime.now().astimezone().strftime("%Y%m%d-%H%M%S"))
    began_s = time.monotonic()

    def tell(text: str) -> None:
        console.print(f"{time.monotonic() - began_s:6.0f} s  {text}", highlight=False, soft_wrap=True)

    failed = []
    with marked_running(folder), (folder.path / "figures.jsonl").open("w") as kept:
        stack = Stack(folder, Wishes(simulator=QUIET, time_scale=TIME_SCALE), tell)
        try:
            stack.start()
            running = _running(stack, wishes, tell)
            for name in groups:
                tell(name)
                try:
                    for figure in _measure(running, name):
                        for output in (None, kept):
                            print(figure.line(), file=output, flush=True)
                except FAILURES as failure:
                    failed.append(name)
                    tell(f"[bold red]{name}:[/] {type(failure).__name__}: {failure}")
                    _mend(running)
        finally:
            stack.stop()
            stack.remove_data()
            folder.witness.unlink(missing_ok=True)
    tell(f"failed: {', '.join(failed)}" if failed else f"done; the figures are also in {folder.path}/figures.jsonl")
    return 1 if failed else 0


def _measure(running: Bench, name: str) -> Iterator[Figure]:
    """The group's figures; then everything that it started is ended, unless it stopped the services itself."""
    before_s = running.stalls.total_s
    for figure in GROUPS[name].measure(running):
        figure.conditions["lost_to_others_s"] = round(running.stalls.total_s - before_s, 1)
        yield figure
    if running.services_run():
        running.settle()


def _mend(running: Bench) -> None:
    """What a failed group left: services that ended are started again, its campaigns are cancelled."""
    with contextlib.suppress(*FAILURES):
        for name in running.stack.ended():
            running.stack.processes[name].start()
            running.stack.processes[name].wait_ready(READY_WITHIN_S)
        if running.services_run():
            running.settle()


def _running(stack: Stack, wishes: BenchWishes, tell: Callable[[str], None]) -> Bench:
    with signed_in(stack, make_account(stack, "Aura", EMAIL)) as person:
        key: dict[str, Any] = person.post("/api/api-keys", json={"name": "bench", "role": "admin"})
    # A key does not end, and is not renewed by several threads at once.
    api = Api(stack.addresses.api)
    api.access_token = key["key"]
    return Bench(stack, api, Simulator(stack.addresses.simulator), wishes, tell, Stalls())


def _interrupt(*_: object) -> None:
    """Asked to end: as by Ctrl-C, with everything stopped that was started."""
    raise KeyboardInterrupt
