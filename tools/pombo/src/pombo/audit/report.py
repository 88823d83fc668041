"""The audit's edge: reads a run's folder, prints the table, answers an exit code."""

import json

from rich.console import Console
from rich.table import Table

from pombo.audit.audit import audit
from pombo.audit.finding import Finding
from pombo.audit.promises import read_answers, read_plan
from pombo.audit.witness import read_pauses, read_witness
from pombo.stack.folder import RunFolder


class Incomplete(Exception):
    """The folder lacks something that the audit needs: the run did not come to its end."""


def audit_folder(folder: RunFolder) -> list[Finding]:
    """Raises Incomplete."""
    needed = (folder.plan, folder.answers, folder.witness, folder.clock)
    if missing := [file.name for file in needed if not file.exists()]:
        raise Incomplete(f"{folder.path} has no {', '.join(missing)}: the run did not come to its end")
    plan = read_plan(json.loads(folder.plan.read_text()))
    answers = read_answers(json.loads(folder.answers.read_text()), plan)
    with folder.witness.open() as lines:
        witness = read_witness(lines)
    with folder.clock.open() as lines:
        pauses = read_pauses(lines)
    return audit(plan, answers, witness, pauses)


def print_findings(findings: list[Finding], console: Console) -> None:
    table = Table(title="Audit", title_justify="left", show_lines=False)
    for name in ("", "invariant", "counted", ""):
        table.add_column(name)
    for finding in findings:
        verdict = "[green]holds[/]" if finding.holds else "[bold red]BROKEN[/]"
        table.add_row(finding.number, finding.title, finding.counted, verdict)
    console.print(table)
    for finding in findings:
        for violation in finding.violations:
            console.print(f"[red]{finding.number} {finding.title}:[/] {violation}", highlight=False)
        for note in finding.notes:
            console.print(f"[yellow]{finding.number} {finding.title}:[/] {note}", highlight=False)


def exit_code(findings: list[Finding]) -> int:
    return 0 if findings and all(finding.holds for finding in findings) else 1
