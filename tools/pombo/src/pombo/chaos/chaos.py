"""`pombo chaos`: one run after the other on a stack that stays up, a line for each, and the folder of what failed."""

import shutil
import signal
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from datetime import datetime
from itertools import count
from pathlib import Path

from rich.console import Console

from pombo.audit.finding import Finding
from pombo.backing.folders import repository_root
from pombo.chaos import results, schedule, settings
from pombo.chaos.campaigns import STEPS
from pombo.chaos.event_log import EventLog
from pombo.chaos.fleet import make_accounts
from pombo.chaos.keeper import Keeper
from pombo.chaos.links import Detours
from pombo.chaos.proxies import Proxies
from pombo.chaos.results import Result
from pombo.chaos.run import Played, System, measure_pace, play
from pombo.chaos.schedule import Scenario
from pombo.chaos.verdict import audit_run
from pombo.client.simulator import Simulator
from pombo.demo.scenario import Stuck
from pombo.stack import RunFolder, Stack, StackFailed, Wishes
from pombo.stack.folder import fresh_run, marked_running, runs_folder

# A stack is renewed after so many messages: rebuilding the read models for the audit reads all of them.
MESSAGES_PER_STACK = 40_000
STACKS_LOST_MAX = 3  # in a row; then something is wrong that another attempt does not mend
CALM_PEOPLE = 100
# What one run broke of these the next ones on the same stack would find again.
LASTING = frozenset({"stuck", "I1", "I8", "I9", "I13"})
RESULTS = Path("docs") / "chaos-results.jsonl"


@dataclass(frozen=True, slots=True)
class ChaosWishes:
    """`runs`: of drawn schedules; with `until_runs` or `until_messages` as many as the results file lacks of those.

    `only`: scenarios with this in their name. `within_s`: no run is begun later than that; the results file says what
    is left. 0: all are played.
    """

    matrix: str = "drawn"
    runs: int = 5
    seed: int = 1
    recipients: int = 1000
    only: str = ""
    results: Path | None = None
    keep_data: bool = False
    until_runs: int = 0
    until_messages: int = 0
    within_s: float = 0.0


def chaos(wishes: ChaosWishes, console: Console) -> int:
    """0 if every run kept every promise."""
    signal.signal(signal.SIGTERM, _interrupt)
    file = wishes.results or repository_root() / ".pombo" / "chaos-results.jsonl"
    failed, lost, began_s = 0, 0, time.monotonic()
    waiting = list(scenarios(wishes, results.read_results(file)))
    console.print(f"{len(waiting)} runs; results go to {file}", highlight=False)
    while waiting:
        try:
            for result in _on_one_stack(waiting, wishes, console):
                lost = 0
                results.append(file, result)
                console.print(result.line(), style="" if result.holds else "bold red", highlight=False, soft_wrap=True)
                for invariant, violations in result.broken.items():
                    for violation in violations:
                        console.print(f"  {invariant}: {violation}", style="red", highlight=False, soft_wrap=True)
                failed += not result.holds
                if wishes.within_s and time.monotonic() - began_s > wishes.within_s:
                    console.print(f"{len(waiting)} runs are left for another time", highlight=False)
                    waiting.clear()
        except (Stuck, StackFailed) as failure:
            # No run was under way: a stack that could not be set up costs no more than itself.
            lost += 1
            if lost == STACKS_LOST_MAX:
                raise
            console.print(f"[red]a stack was lost before its first run: {failure}[/]", highlight=False, soft_wrap=True)
    console.print("[bold green]Every promise was kept.[/]" if not failed else f"[bold red]{failed} runs failed.[/]")
    return 1 if failed else 0


def _interrupt(*_: object) -> None:
    """Asked to end: as by Ctrl-C, with everything stopped that was started."""
    raise KeyboardInterrupt


def scenarios(wishes: ChaosWishes, before: Sequence[Result]) -> Iterator[Scenario]:
    """What is to be played, without what the results file has already where a whole matrix is asked for."""
    done = results.known(before)
    match wishes.matrix:
        case "short":
            for name, faults in schedule.short().items():
                if wishes.only in name:
                    yield schedule.fixed(name, faults, wishes.seed, wishes.recipients)
        case "full":
            for name, faults in (schedule.singles() | schedule.pairs()).items():
                if wishes.only in name and (name, wishes.seed, wishes.recipients) not in done:
                    yield schedule.fixed(name, faults, wishes.seed, wishes.recipients)
        case _:
            yield from _drawn(wishes, before)


def _drawn(wishes: ChaosWishes, before: Sequence[Result]) -> Iterator[Scenario]:
    if not wishes.until_runs and not wishes.until_messages:
        for seed in range(wishes.seed, wishes.seed + wishes.runs):
            yield schedule.drawn(seed, wishes.recipients)
        return
    kept = [result for result in before if result.holds]
    runs, messages = len(kept), sum(result.tally["messages"] for result in kept)
    done = results.known(kept)
    for seed in count(wishes.seed):
        if runs >= wishes.until_runs and messages >= wishes.until_messages:
            return
        if ("drawn", seed, wishes.recipients) not in done:
            runs, messages = runs + 1, messages + wishes.recipients * len(STEPS)
            yield schedule.drawn(seed, wishes.recipients)


def _on_one_stack(waiting: list[Scenario], wishes: ChaosWishes, console: Console) -> Iterator[Result]:
    """Plays from the front of the list until the stack is to be renewed. It is kept if a run of it failed."""
    folder = fresh_run("chaos", datetime.now().astimezone().strftime("%Y%m%d-%H%M%S"))
    failed: list[Scenario] = []
    with marked_running(folder):
        detours = Detours(folder.data)
        stack = Stack(folder, _stack_wishes(detours, waiting[0].seed))
        proxies = Proxies(detours.links, waiting[0].seed)
        try:
            proxies.start()
            stack.start()
            system = _system(stack, proxies, detours)
            system.pace = measure_pace(system, RunFolder(folder.path / "calm").make(), CALM_PEOPLE)
            sound = True
            while waiting and sound and system.messages < MESSAGES_PER_STACK:
                scenario = waiting.pop(0)
                run_folder = RunFolder(folder.path / f"run-{scenario.seed}-{len(waiting)}").make()
                result = _one_run(system, scenario, run_folder)
                sound = not LASTING & result.broken.keys()
                if result.holds:
                    shutil.rmtree(run_folder.path, ignore_errors=True)
                else:
                    failed.append(scenario)
                yield result
        finally:
            stack.stop()
            proxies.stop()
            if not failed and not wishes.keep_data:
                stack.remove_data()
    if failed:
        _keep(folder, failed, console)


def _one_run(system: System, scenario: Scenario, folder: RunFolder) -> Result:
    """A run that cannot be brought to its end is a broken one."""
    try:
        played = play(system, scenario, folder)
        findings, tally = audit_run(folder)
    except (Stuck, StackFailed) as failure:
        fields = results.of_scenario(scenario, None)
        now = datetime.now().astimezone().isoformat(timespec="seconds")
        return Result(
            now, died={}, recovery_s=0, bound_s=0, took_s=0, broken={"stuck": [str(failure)]}, rss_mib={}, **fields
        )
    return _result(played, findings, results.of_scenario(scenario, tally), system)


def _result(played: Played, findings: Sequence[Finding], fields: dict[str, object], system: System) -> Result:
    return Result(
        played.at,
        died=played.died,
        stalled_s=played.stalled_s,
        timeline=played.timeline,
        recovery_s=played.recovery.took_s,
        bound_s=played.recovery.bound_s,
        moved=dict(played.recovery.moved),
        took_s=round(played.took_s, 1),
        broken=results.broken(list(findings)),
        rss_mib=system.keeper.rss_mib(),
        notes=played.notes,
        **fields,  # type: ignore[arg-type]
    )


def _stack_wishes(detours: Detours, seed: int) -> Wishes:
    return Wishes(
        settings=settings.SERVICES,
        simulator=settings.SIMULATOR,
        seed=seed,
        time_scale=settings.TIME_SCALE,
        kafka_doors=detours.doors,
        reroute=detours.reroute,
    )


def _system(stack: Stack, proxies: Proxies, detours: Detours) -> System:
    if len(stack.backing.pids) < 2:
        raise StackFailed("Chaos needs Kafka and PostgreSQL as processes of this machine: unset their addresses.")
    simulator = Simulator(stack.addresses.simulator)
    accounts, canary = make_accounts(stack, detours.seen_from_outside(stack.addresses), simulator)
    words = {account.account_id: account.word.encode() for account in accounts}
    return System(stack, proxies, Keeper(stack), simulator, accounts, canary, EventLog(words))


def _keep(folder: RunFolder, failed: Sequence[Scenario], console: Console) -> None:
    kept = runs_folder() / "failed" / folder.path.name
    kept.parent.mkdir(parents=True, exist_ok=True)
    shutil.move(folder.path, kept)
    console.print(f"[red]kept in {kept}; again:[/]", highlight=False, soft_wrap=True)
    for one in failed:
        again = f"pombo chaos --matrix {_matrix_of(one)} --seed {one.seed} --recipients {one.recipients}"
        again += " --runs 1" if one.name == "drawn" else f" --only '{one.name}'"
        console.print(f"[red]  {again}[/]", highlight=False, soft_wrap=True)


def _matrix_of(scenario: Scenario) -> str:
    if scenario.name == "drawn":
        return "drawn"
    return "short" if scenario.name in schedule.short() else "full"
