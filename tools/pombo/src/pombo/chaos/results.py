"""A run's line: as JSON in the results file, as text on the terminal."""

import json
import os
import platform
import subprocess
from collections.abc import Iterable
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import psutil

from pombo.audit.finding import Finding
from pombo.audit.several import Tally
from pombo.backing.folders import repository_root
from pombo.chaos.schedule import Scenario

HOLDS = "holds"


@dataclass(frozen=True, slots=True)
class Result:
    """What one run was and what came of it. `notes`: faults that came too late or were not reached.

    `timeline`: seconds of the run in which the faults were done, in the order of their ends.

    `cause` and `mended_by` are written into the line of a broken run by who looked into it: what it was, which commit.

    `stalled_s`: how long the machine was others' (they stopped us, or used it); the bound of recovery is longer by
    what of it fell into the recovery. `moved`: when, of the recovery, each kind of thing was last on its way.
    """

    at: str
    commit: str
    scenario: str
    seed: int
    recipients: int
    campaigns: int
    guarantee: str
    faults: list[str]
    tally: dict[str, int]
    died: dict[str, int]
    recovery_s: float
    bound_s: float
    took_s: float
    broken: dict[str, list[str]]
    rss_mib: dict[str, int]
    stalled_s: float = 0.0
    moved: dict[str, float] = field(default_factory=dict)
    timeline: list[str] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)
    machine: dict[str, Any] = field(default_factory=dict)
    cause: str = ""
    mended_by: str = ""

    @property
    def holds(self) -> bool:
        return not self.broken

    @property
    def verdict(self) -> str:
        return HOLDS if self.holds else "BROKEN " + ",".join(self.broken)

    def line(self) -> str:
        """For people."""
        told = self.tally
        faults = "; ".join(self.faults) or "no faults"
        duplicates = f"{told['duplicates_named']}/{told['duplicates_unnamed']}"
        return (
            f"seed {self.seed}  {self.scenario}: {faults}  |  {told['messages']} messages"
            f"  duplicates named/unnamed {duplicates}  lost {told['lost']}  unresolved {told['unresolved']}"
            f"  recovery {self.recovery_s:.1f} s  {self.verdict}"
        )

    def as_json(self) -> str:
        return json.dumps(asdict(self) | {"verdict": self.verdict}, ensure_ascii=False)


def broken(findings: list[Finding]) -> dict[str, list[str]]:
    return {finding.number: list(finding.violations) for finding in findings if not finding.holds}


def append(file: Path, result: Result) -> None:
    file.parent.mkdir(parents=True, exist_ok=True)
    with file.open("a") as handle:
        handle.write(result.as_json() + "\n")


def read_results(file: Path) -> list[Result]:
    if not file.exists():
        return []
    found = []
    for line in file.read_text().splitlines():
        data = json.loads(line)
        data.pop("verdict", None)
        found.append(Result(**data))
    return found


def known(results: Iterable[Result]) -> set[tuple[str, int, int]]:
    """What need not be played again: a run that broke a promise must."""
    return {(result.scenario, result.seed, result.recipients) for result in results if result.holds}


def of_scenario(scenario: Scenario, tally: Tally | None) -> dict[str, Any]:
    """The fields that the scenario knows by itself."""
    empty = Tally(scenario.recipients, 0, 0, 0, 0, 0, 0)
    return {
        "commit": commit(),
        "scenario": scenario.name,
        "seed": scenario.seed,
        "recipients": scenario.recipients,
        "campaigns": scenario.campaigns,
        "guarantee": "at_least_once" if scenario.at_least_once else "at_most_once",
        "faults": scenario.told(),
        "tally": asdict(tally or empty),
        "machine": {
            "cores": os.cpu_count(),
            "memory_gib": round(psutil.virtual_memory().total / 2**30),
            "python": platform.python_version(),
            "load_1m": round(os.getloadavg()[0], 1),
        },
    }


def commit() -> str:
    """Of the checkout; with a plus sign where it has changes that are not committed."""
    words = ["git", "-C", str(repository_root()), "describe", "--always", "--dirty=+", "--exclude=*"]
    done = subprocess.run(words, capture_output=True, text=True, check=False)
    return done.stdout.strip() or "unknown"
