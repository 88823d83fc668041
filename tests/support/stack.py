"""A whole running system for a test module: the runner that `pombo up` and the demo use, in a folder of the session."""

import os
import shutil
from collections.abc import Iterator
from contextlib import contextmanager

from rich.console import Console

from pombo.audit.finding import Finding
from pombo.audit.report import audit_folder
from pombo.demo.demo import DemoWishes, run_campaign, stack_wishes
from pombo.demo.fleet import four_kinds
from pombo.demo.progress import Progressing
from pombo.stack import RunFolder, Stack
from pombo.stack.folder import runs_folder

POLL_S = 0.2


@contextmanager
def run_folder(name: str) -> Iterator[RunFolder]:
    """Removed at the end, unless something failed: then its logs are what one wants to read."""
    folder = RunFolder(runs_folder() / f"test-{os.getpid()}-{name}").make()
    yield folder
    shutil.rmtree(folder.path, ignore_errors=True)


def play_campaign(folder: RunFolder, wishes: DemoWishes) -> dict[str, Finding]:
    """The demo's campaign with the demo's faults, small; the audit's findings by number."""
    stack = Stack(folder, stack_wishes(wishes))
    try:
        with Progressing(Console()) as show:
            run_campaign(stack, wishes, show, four_kinds(wishes.recipients))
    finally:
        stack.stop()
        stack.remove_data()
    return {finding.number: finding for finding in audit_folder(folder)}
