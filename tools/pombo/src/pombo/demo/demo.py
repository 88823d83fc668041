"""`pombo demo`: everything from an empty folder to the audit's verdict."""

from dataclasses import dataclass, field
from datetime import datetime

from rich.console import Console

from pombo.audit.finding import Finding
from pombo.audit.report import audit_folder, exit_code, print_findings
from pombo.client.api import Api
from pombo.client.simulator import Simulator
from pombo.demo import settings
from pombo.demo.account import EMAIL, make_account, signed_in
from pombo.demo.collect import collect
from pombo.demo.fleet import NumberPlan, four_kinds
from pombo.demo.isolation import plant_canary
from pombo.demo.progress import Progressing, described
from pombo.demo.record import ClockLog
from pombo.demo.scenario import Faults, Run, add_pool, create_campaign, finish_rebuild, play, settle
from pombo.demo.spreadsheet import make_spreadsheet
from pombo.stack import RunFolder, Stack, Wishes
from pombo.stack.folder import fresh_run, marked_running

OTHER_EMAIL = "other@pombo.example"
SECONDS_A_PERSON = 0.12
PATIENCE_S = 180.0


@dataclass(frozen=True, slots=True)
class DemoWishes:
    recipients: int = 2000
    seed: int = 1
    faults: Faults = field(default_factory=Faults)
    trace_everything: bool = False
    keep_data: bool = False


def demo(wishes: DemoWishes, console: Console) -> int:
    """0 if every invariant holds. Raises what its parts raise, each with its remedy."""
    folder = fresh_run("demo", datetime.now().astimezone().strftime("%Y%m%d-%H%M%S"))
    console.print(f"Everything of this run is in {folder.path}")
    with marked_running(folder), Progressing(console) as show:
        stack = Stack(folder, stack_wishes(wishes), show.say)
        try:
            run_campaign(stack, wishes, show)
        finally:
            stack.stop()
            if not wishes.keep_data:
                stack.remove_data()
    return conclude(folder, console)


def stack_wishes(wishes: DemoWishes) -> Wishes:
    return Wishes(
        settings=settings.SERVICES,
        simulator=settings.SIMULATOR,
        seed=wishes.seed,
        time_scale=settings.TIME_SCALE,
        trace_everything=wishes.trace_everything,
    )


def run_campaign(stack: Stack, wishes: DemoWishes, show: Progressing, plans: list[NumberPlan] | None = None) -> None:
    """Starts the stack, plays one campaign, and gathers what the audit needs."""
    stack.start()
    show.say(f"API {stack.addresses.api}/api/docs · simulator {stack.addresses.simulator}/_control/stats")
    login = make_account(stack, "Aura", EMAIL)
    other = make_account(stack, "Outra", OTHER_EMAIL)
    with signed_in(stack, login) as api, signed_in(stack, other) as stranger:
        canary = plant_canary(stranger)
        run = Run(stack, api, Simulator(stack.addresses.simulator), login, show, ClockLog(stack.folder.clock))
        add_pool(run, plans if plans is not None else four_kinds(wishes.recipients))
        create_campaign(run, make_spreadsheet(wishes.recipients, wishes.seed))
        play(run, wishes.faults, PATIENCE_S + wishes.recipients * SECONDS_A_PERSON)
        statistics = settle(run)
        finish_rebuild(run)
        show.say(f"{statistics['status']}: {described(statistics)}")
        show.say(
            "collecting what the audit reads: the API's answers, the raw topic, a fresh rebuild beside the live one"
        )
        collect(run, stranger, canary)
        close(api, run)


def close(api: Api, run: Run) -> None:
    run.log.note("ended")
    run.simulator.close()
    api.close()


def conclude(folder: RunFolder, console: Console) -> int:
    findings: list[Finding] = audit_folder(folder)
    print_findings(findings, console)
    rebuilt = next(finding for finding in findings if finding.number == "5")
    console.print(f"rebuilt == live: {'yes' if rebuilt.holds else 'NO'} ({rebuilt.counted})", highlight=False)
    code = exit_code(findings)
    console.print("[bold green]Every invariant holds.[/]" if code == 0 else "[bold red]The audit found violations.[/]")
    return code
