"""The results file as tables of a document: what was run, what came of it, with seeds. Nothing is rounded away."""

from collections import defaultdict
from collections.abc import Iterable, Sequence
from pathlib import Path

from pombo.chaos.results import Result, read_results
from pombo.marked import replace_between

BEGIN, END = "<!-- chaos results: begin -->", "<!-- chaos results: end -->"


def write_report(results: Path, document: Path) -> None:
    """Replaces what is between the marks. Raises MarksMissing."""
    replace_between(document, BEGIN, END, tables(read_results(results)))


def tables(found: Sequence[Result]) -> str:
    """Totals, one line for each scenario, one for each run that broke a promise."""
    return "\n".join([*_totals(found), "", *_scenarios(found), "", *_broken(found), ""])


def _totals(found: Sequence[Result]) -> list[str]:
    def total(name: str) -> str:
        return f"{sum(result.tally[name] for result in found):,}"

    recoveries = sorted(result.recovery_s for result in found) or [0.0]
    kept = sum(result.holds for result in found)
    return [
        "| runs | kept every promise | messages | sends | duplicates named | duplicates unnamed | lost | unresolved |"
        " recovery median, longest |",
        "|---|---|---|---|---|---|---|---|---|",
        f"| {len(found)} | {kept} | {total('messages')} | {total('sends')} | {total('duplicates_named')} |"
        f" {total('duplicates_unnamed')} | {total('lost')} | {total('unresolved')} |"
        f" {recoveries[len(recoveries) // 2]:.1f} s, {recoveries[-1]:.1f} s |",
    ]


def _scenarios(found: Sequence[Result]) -> list[str]:
    by_name: dict[str, list[Result]] = defaultdict(list)
    for result in found:
        by_name[result.scenario].append(result)
    rows = [_scenario(name, runs) for name, runs in sorted(by_name.items())]
    return [
        "| scenario | seeds | runs | messages | duplicates named/unnamed | lost | unresolved | recovered in | held |",
        "|---|---|---|---|---|---|---|---|---|",
        *rows,
    ]


def _scenario(name: str, runs: Sequence[Result]) -> str:
    def total(field: str) -> int:
        return sum(run.tally[field] for run in runs)

    cells = (
        name,
        _seeds(runs),
        len(runs),
        f"{total('messages'):,}",
        f"{total('duplicates_named')}/{total('duplicates_unnamed')}",
        total("lost"),
        total("unresolved"),
        f"{max(run.recovery_s for run in runs):.1f} s",
        sum(run.holds for run in runs),
    )
    return "| " + " | ".join(str(cell) for cell in cells) + " |"


def _broken(found: Sequence[Result]) -> list[str]:
    broken = [result for result in found if not result.holds]
    if not broken:
        return ["No run broke a promise."]
    rows = [
        f"| {result.scenario} | {result.seed} | {result.recipients} | {result.commit} | {'; '.join(result.faults)} |"
        f" {' · '.join(f'{number}: {text[0]}' for number, text in result.broken.items())} |"
        f" {result.cause or 'not known yet'} | {result.mended_by or '–'} |"
        for result in broken
    ]
    return [
        "| broken: scenario | seed | recipients | commit | faults | what the audit found | what it was | mended by |",
        "|---|---|---|---|---|---|---|---|",
        *rows,
    ]


def _seeds(runs: Iterable[Result]) -> str:
    """Ranges where they are dense: 1–5, 9."""
    seeds = sorted({run.seed for run in runs})
    parts: list[str] = []
    for seed in seeds:
        if parts and int(parts[-1].rpartition("–")[2]) == seed - 1:
            parts[-1] = f"{parts[-1].partition('–')[0]}–{seed}"
        else:
            parts.append(str(seed))
    return ", ".join(parts)
