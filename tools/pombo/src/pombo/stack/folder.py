"""What a run leaves on disk, and where: one folder for everything of it."""

import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from pombo.backing.folders import repository_root

RUNS_KEPT = 5


@dataclass(frozen=True, slots=True)
class RunFolder:
    """`data` (Kafka, PostgreSQL) may be thrown away after a run; the rest is what the audit reads."""

    path: Path

    @property
    def data(self) -> Path:
        return self.path / "data"

    @property
    def logs(self) -> Path:
        return self.path / "logs"

    @property
    def spans(self) -> Path:
        return self.path / "spans"

    @property
    def witness(self) -> Path:
        """The simulator's append-only log."""
        return self.path / "witness.jsonl"

    @property
    def clock(self) -> Path:
        """What the CLI itself did and saw, with its own clock."""
        return self.path / "clock.jsonl"

    @property
    def plan(self) -> Path:
        """What the run promised: people, steps, limits, hours."""
        return self.path / "plan.json"

    @property
    def answers(self) -> Path:
        """What the public API answered at the end."""
        return self.path / "answers.json"

    def make(self) -> "RunFolder":
        for folder in (self.path, self.data, self.logs, self.spans):
            folder.mkdir(parents=True, exist_ok=True)
        self.path.chmod(0o711)  # PostgreSQL may run as another user and must be able to walk through
        return self


def runs_folder() -> Path:
    return repository_root() / ".pombo"


def fresh_run(kind: str, stamp: str) -> RunFolder:
    """A folder for one run of this kind; older ones are removed but for the last few."""
    parent = runs_folder() / "runs"
    parent.mkdir(parents=True, exist_ok=True)
    for old in sorted(parent.glob(f"{kind}-*"))[: -RUNS_KEPT + 1]:
        if not (old / "running").exists():
            shutil.rmtree(old, ignore_errors=True)
    return RunFolder(parent / f"{kind}-{stamp}").make()


@contextmanager
def marked_running(folder: RunFolder) -> Iterator[None]:
    mark = folder.path / "running"
    mark.touch()
    try:
        yield
    finally:
        mark.unlink(missing_ok=True)
