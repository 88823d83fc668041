"""What people see while a campaign runs: a bar and one line of figures; plain lines where there is no terminal."""

import time
from types import TracebackType
from typing import Any

from rich.console import Console
from rich.progress import BarColumn, Progress, TaskID, TextColumn, TimeElapsedColumn
from rich.table import Column

PLAIN_EVERY_S = 5.0
_FIGURES = ("sent_count", "delivered", "read", "failed_count", "skipped", "unresolved", "pending_count")


def done_count(statistics: dict[str, Any]) -> int:
    """Recipients that nothing more will happen to."""
    return int(statistics["total_contacts"]) - int(statistics["pending_count"])


def described(statistics: dict[str, Any], *, zeros: bool = True) -> str:
    names = {"sent_count": "sent", "failed_count": "failed", "pending_count": "pending"}
    return " · ".join(f"{names.get(name, name)} {statistics[name]}" for name in _FIGURES if zeros or statistics[name])


class Progressing:
    """`show` as often as you like; `say` for what happens beside the counting."""

    def __init__(self, console: Console) -> None:
        self._console = console
        self._bar = Progress(
            TextColumn("[bold]{task.fields[status]:<10}", table_column=Column(min_width=10, no_wrap=True)),
            BarColumn(bar_width=20),
            TextColumn("{task.completed}/{task.total}", table_column=Column(min_width=7, no_wrap=True)),
            TimeElapsedColumn(),
            # On a narrow terminal the last figures give way, never the bar.
            TextColumn("{task.fields[figures]}", table_column=Column(ratio=1, no_wrap=True, overflow="ellipsis")),
            console=console,
            expand=True,
        )
        self._task: TaskID | None = None
        self._said_s = 0.0
        self._started_s = time.monotonic()

    def __enter__(self) -> "Progressing":
        if self._console.is_terminal:
            self._bar.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._console.is_terminal:
            self._bar.stop()

    def say(self, text: str) -> None:
        self._console.print(
            f"[dim]{time.monotonic() - self._started_s:6.1f} s[/]  {text}", highlight=False, soft_wrap=True
        )

    def show(self, statistics: dict[str, Any]) -> None:
        if self._console.is_terminal:
            if self._task is None:
                self._task = self._bar.add_task("", total=1, status="", figures="")
            self._bar.update(
                self._task,
                total=statistics["total_contacts"],
                completed=done_count(statistics),
                status=statistics["status"],
                figures=described(statistics, zeros=False),
            )
        elif time.monotonic() - self._said_s > PLAIN_EVERY_S:
            self._said_s = time.monotonic()
            self.say(f"{statistics['status']}: {described(statistics)}")
