"""One process that we start and stop by its id: its log in a file, its end awaited."""

import contextlib
import os
import shutil
import signal
import subprocess
import sys
import threading
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import psutil

LOG_TAIL_BYTES = 3_000
DYING_WITHIN_S = 0.5


@dataclass(frozen=True, slots=True)
class User:
    """The unprivileged user that a process runs as."""

    uid: int
    gid: int


def spawn(
    command: Sequence[str | Path],
    *,
    log: Path,
    env: Mapping[str, str] | None = None,
    user: User | None = None,
    die_with_parent: bool = False,
) -> psutil.Process:
    """Start `command` with its output appended to `log`.

    It gets a session of its own, so that Ctrl-C in the terminal reaches only the runner, which stops things in
    order. `die_with_parent` (tests) makes the kernel end it when we are killed: on Linux, and only from the main
    thread, because the kernel means the thread that started it.
    """
    words = [str(word) for word in command]
    setpriv = shutil.which("setpriv") if sys.platform == "linux" else None
    if die_with_parent and setpriv is not None and threading.current_thread() is threading.main_thread():
        words = [setpriv, "--pdeathsig", "INT", "--", *words]
    with log.open("ab") as output:
        child = subprocess.Popen(
            words,
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=subprocess.STDOUT,
            cwd=log.parent if user is None else "/",
            env=dict(env) if env is not None else None,
            start_new_session=True,
            user=user.uid if user is not None else None,
            group=user.gid if user is not None else None,
            extra_groups=[] if user is not None else None,
        )
    # psutil reaps it (`ended`); Popen must neither warn nor wait for it.
    child.returncode = 0
    return psutil.Process(child.pid)


def ended(process: psutil.Process, *, within_s: float) -> bool:
    """Whether the process is gone after at most `within_s`; reaps it if it is our child."""
    try:
        process.wait(timeout=within_s)
    except psutil.TimeoutExpired:
        return False
    except psutil.NoSuchProcess:
        return True
    return True


def living_pid(process: psutil.Process | None) -> int | None:
    """The id of a process that still runs, whoever ended it."""
    return process.pid if process is not None and not ended(process, within_s=0) else None


def stays(process: psutil.Process | None) -> bool:
    """Whether the process runs and goes on running: one that was just killed lives for some milliseconds more."""
    return process is not None and not ended(process, within_s=DYING_WITHIN_S)


def send(process: psutil.Process, number: signal.Signals) -> None:
    """Send a signal to exactly this process (psutil checks that the id was not given to another one)."""
    with contextlib.suppress(psutil.NoSuchProcess):
        process.send_signal(number)


def stop(process: psutil.Process, number: signal.Signals, *, within_s: float) -> None:
    """Ask the process to end; after `within_s` it is killed."""
    send(process, number)
    if not ended(process, within_s=within_s):
        send(process, signal.SIGKILL)
        ended(process, within_s=within_s)


def find(pid: int, *, having: str) -> psutil.Process | None:
    """The living process `pid` if its command line names `having`: a left-over of an earlier run."""
    try:
        process = psutil.Process(pid)
        return process if any(having in word for word in process.cmdline()) else None
    except (psutil.NoSuchProcess, psutil.AccessDenied):
        return None


def tail(log: Path) -> str:
    """The end of a log, for the message of a failed start."""
    try:
        with log.open("rb") as file:
            file.seek(max(0, log.stat().st_size - LOG_TAIL_BYTES))
            return file.read().decode(errors="replace")
    except FileNotFoundError:
        return "(no log was written)"


def inherited_environment(**more: str) -> dict[str, str]:
    """Our environment and `more`; without PG* variables, which would redirect PostgreSQL's programs."""
    kept = {name: value for name, value in os.environ.items() if not name.startswith("PG")}
    return kept | more
