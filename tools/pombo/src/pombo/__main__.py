"""`pombo`: brings the system up on one machine, runs campaigns through its API, audits and measures it."""

import sys
from pathlib import Path
from typing import Annotated

import httpx
import typer
from rich.console import Console

from pombo import campaigns
from pombo.audit.report import Incomplete, audit_folder, exit_code, print_findings
from pombo.backing import BackingUnavailable
from pombo.client.api import Refused
from pombo.demo.scenario import Stuck
from pombo.login import NotSignedIn
from pombo.stack import RunFolder, StackFailed

app = typer.Typer(no_args_is_help=True, add_completion=False, pretty_exceptions_enable=False, help=__doc__)
payloads_app = typer.Typer(no_args_is_help=True, help="Provider payloads.")
app.add_typer(payloads_app, name="payloads")
app.add_typer(campaigns.app, name="campaign")
app.command("login")(campaigns.login)
EXPECTED = (BackingUnavailable, StackFailed, Stuck, Refused, Incomplete, NotSignedIn, httpx.ConnectError)
INTERRUPTED = 130


@app.command()
def up() -> None:
    """Everything in one terminal: backing, five services, the simulator; logs merged, one line each."""
    from pombo.up import up as run_up

    raise typer.Exit(run_up(Console()))


@app.command()
def demo(
    recipients: Annotated[int, typer.Option(min=20, help="people in the generated spreadsheet")] = 2000,
    seed: Annotated[int, typer.Option(help="of the spreadsheet and of the simulator's chance")] = 1,
    keep_data: Annotated[bool, typer.Option(help="keep Kafka's and PostgreSQL's data folders")] = False,
) -> None:
    """A campaign from a spreadsheet to its end, with faults on the way, and its audit."""
    from pombo.demo.demo import DemoWishes
    from pombo.demo.demo import demo as run_demo

    raise typer.Exit(run_demo(DemoWishes(recipients, seed, keep_data=keep_data), Console()))


@app.command()
def audit(folder: Annotated[Path, typer.Argument(help="a run's folder, as the demo names it")]) -> None:
    """The invariants, checked again from what a run wrote down."""
    findings = audit_folder(RunFolder(folder))
    print_findings(findings, Console())
    raise typer.Exit(exit_code(findings))


@app.command()
def bench(
    messages: Annotated[int, typer.Option(min=100, help="sent end to end")] = 5000,
    rows: Annotated[int, typer.Option(min=100, help="imported and planned")] = 100_000,
) -> None:
    """One JSON line per figure: name, value, unit, conditions."""
    from pombo.bench.bench import bench as run_bench

    raise typer.Exit(run_bench(messages, rows, Console(stderr=True)))


@payloads_app.command("check")
def check_payloads(
    folder: Annotated[Path, typer.Argument(help="folder of payloads and what is expected of them")],
) -> None:
    """Read provider payloads and compare them with what their files expect."""
    from pombo.payloads import main as run_check

    raise typer.Exit(run_check(folder))


def main() -> None:
    """What is expected to fail says so in one paragraph with its remedy; everything else is a traceback."""
    try:
        app(standalone_mode=True)
    except EXPECTED as failure:
        Console(stderr=True).print(f"[bold red]pombo:[/] {failure}", highlight=False, soft_wrap=True)
        sys.exit(1)
    except KeyboardInterrupt:
        sys.exit(INTERRUPTED)


if __name__ == "__main__":
    main()
