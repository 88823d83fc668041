"""`pombo`: brings the system up on one machine, runs campaigns through its API, audits and measures it."""

import sys
from enum import StrEnum
from pathlib import Path
from typing import Annotated

import httpx
import typer
from rich.console import Console

from pombo import campaigns, queue, why
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
app.add_typer(queue.app, name="queue")
app.add_typer(queue.holds_app, name="hold")
app.add_typer(why.app, name="why")
app.command("login")(campaigns.login)
EXPECTED = (BackingUnavailable, StackFailed, Stuck, Refused, Incomplete, NotSignedIn, httpx.ConnectError)
INTERRUPTED = 130


class Matrix(StrEnum):
    DRAWN = "drawn"
    SHORT = "short"
    FULL = "full"


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
    from pombo.chaos.verdict import audit_run, is_chaos_run

    written = RunFolder(folder)
    findings = audit_run(written)[0] if is_chaos_run(written) else audit_folder(written)
    print_findings(findings, Console())
    raise typer.Exit(exit_code(findings))


@app.command()
def bench(
    duration: Annotated[float, typer.Option(min=5, help="seconds of one window")] = 60,
    rows: Annotated[int, typer.Option(min=100, help="imported and planned")] = 100_000,
    only: Annotated[list[str] | None, typer.Option(help="groups or figures by name, may be repeated")] = None,
) -> None:
    """One JSON line per figure: name, value, unit, conditions."""
    from pombo.bench.bench import bench as run_bench
    from pombo.bench.running import BenchWishes

    raise typer.Exit(run_bench(BenchWishes(duration, rows, tuple(only or ())), Console(stderr=True)))


@app.command("bench-report")
def bench_report(
    results: Annotated[Path, typer.Argument(exists=True, help="JSON lines of `pombo bench`")],
    into: Annotated[Path, typer.Argument(exists=True, help="Markdown file with the marks of the table")],
) -> None:
    """The table of a document, made anew from a run's JSON lines."""
    from pombo.bench.report import write_report

    write_report(results, into)


@app.command()
def chaos(
    matrix: Annotated[Matrix, typer.Option(help="short: what CI plays; full: each fault alone, all main pairs")] = (
        Matrix.DRAWN
    ),
    runs: Annotated[int, typer.Option(min=1, help="of the drawn matrix: one for each seed from --seed on")] = 5,
    seed: Annotated[int, typer.Option(help="of schedules, people and the simulator's chance")] = 1,
    recipients: Annotated[int, typer.Option(min=20, help="people of one run, in all its campaigns")] = 1000,
    only: Annotated[str, typer.Option(help="scenarios with this in their name")] = "",
    results: Annotated[Path | None, typer.Option(help="JSON lines are appended; default: in .pombo")] = None,
    keep_data: Annotated[bool, typer.Option(help="keep Kafka's and PostgreSQL's data folders")] = False,
    until_runs: Annotated[int, typer.Option(min=0, help="drawn runs until the results file has so many")] = 0,
    until_messages: Annotated[int, typer.Option(min=0, help="and so many messages")] = 0,
    within_s: Annotated[float, typer.Option(min=0, help="begin no run after so many seconds; 0: all of them")] = 0,
) -> None:
    """Faults by the seed on a running system, and the audit after every run; one line for each."""
    from pombo.chaos.chaos import ChaosWishes
    from pombo.chaos.chaos import chaos as run_chaos

    wishes = ChaosWishes(matrix, runs, seed, recipients, only, results, keep_data, until_runs, until_messages, within_s)
    raise typer.Exit(run_chaos(wishes, Console()))


@app.command("chaos-report")
def chaos_report(
    results: Annotated[Path, typer.Option(exists=True, help="JSON lines of chaos runs")],
    into: Annotated[Path, typer.Option(exists=True, help="Markdown file with the marks of the report")],
) -> None:
    """The tables of a document, made anew from the results file."""
    from pombo.chaos.report import write_report

    write_report(results, into)


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
