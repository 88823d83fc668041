"""PostgreSQL on this machine: the binaries of a wheel, started directly, data and port kept in a folder."""

import contextlib
import hashlib
import os
import secrets
import shutil
import signal
import socket
import sys
import time
from pathlib import Path

import psutil

from pombo.backing import processes
from pombo.backing.failures import StartFailed
from pombo.backing.folders import HOST, check_port_free, kept_port, made_folder, write_private
from pombo.backing.processes import User
from pombo.backing.unprivileged import OPEN_FOLDER, check_ours, postgres_binaries, reachable, unprivileged_user

READY_WITHIN_S = 60.0
STOP_WITHIN_S = 20.0
ADMIN = "postgres"
# A unix socket's path may have 107 letters; the file name takes up to 17 of them.
SOCKET_FOLDER_LETTERS_MAX = 88

SETTINGS = {
    # Durable as in production: what the chaos tests show must hold there too.
    "fsync": "on",
    "synchronous_commit": "on",
    "full_page_writes": "on",
    "shared_buffers": "256MB",
    "max_connections": "200",
    # A crash is recovered from the last checkpoint on, 200 MB of WAL a second: half of this, in one to two seconds.
    "max_wal_size": "512MB",
    # Before that every file is made durable: one by one the two thousand of five schemas took 0.9 to 3.8 s, so 0.1 s.
    **({"recovery_init_sync_method": "syncfs"} if sys.platform == "linux" else {}),
    "checkpoint_timeout": "15min",
    "wal_compression": "on",
    "random_page_cost": "1.1",
    "timezone": "UTC",
    "password_encryption": "scram-sha-256",
    "log_min_messages": "warning",
    # Test databases are dropped in seconds: statistics of the whole server are not worth a process.
    "max_worker_processes": "8",
    "autovacuum_naptime": "30s",
}


class LocalPostgres:
    """A server process. `start` again after `stop` or `kill` finds the same data on the same port.

    `durable=False` does without fsync: a killed server still loses nothing, a machine without power may; a test's
    database is then cloned in 20 ms instead of 165.
    """

    def __init__(self, data_dir: Path, *, die_with_parent: bool = False, durable: bool = True) -> None:
        self.data_dir = made_folder(data_dir)
        self.port = kept_port(self.data_dir, "postgres")
        self._die_with_parent = die_with_parent
        self._durable = durable
        self._user = unprivileged_user() if os.geteuid() == 0 else None
        self.home = _home(self.data_dir, self._user)
        self._process: psutil.Process | None = None

    @property
    def admin_dsn(self) -> str:
        return f"postgresql://{ADMIN}:{self._password()}@{HOST}:{self.port}/postgres"

    @property
    def pid(self) -> int | None:
        return processes.living_pid(self._process)

    @property
    def log(self) -> Path:
        return self.data_dir / "postgres.log"

    def start(self) -> None:
        """Start, or take over what an earlier run left running here; returns when it takes connections."""
        if processes.stays(self._process):
            return
        self._process = self._left_over()
        if self._process is None:
            binaries = postgres_binaries(self._user)
            self._initialise(binaries)
            self._await_orphans()
            check_port_free(self.port, self.data_dir)
            self._process = self._spawn(binaries)
        self._wait_until_ready(self._process)

    def stop(self) -> None:
        """A clean and quick end (`fast`): sessions are ended, a checkpoint is written."""
        if self._process is not None:
            processes.stop(self._process, signal.SIGINT, within_s=STOP_WITHIN_S)
        self._process = None

    def kill(self) -> None:
        """The end that a crash is: SIGKILL to the postmaster; its children notice and leave by themselves."""
        if self._process is not None:
            processes.stop(self._process, signal.SIGKILL, within_s=STOP_WITHIN_S)
        self._process = None

    def remove(self) -> None:
        """Remove what lies outside the data folder, for the end of a test session."""
        if not self.home.is_relative_to(self.data_dir):
            shutil.rmtree(self.home, ignore_errors=True)

    @property
    def _cluster(self) -> Path:
        return self.home / "cluster"

    def _password(self) -> str:
        return (self.data_dir / "postgres.password").read_text().strip()

    def _left_over(self) -> psutil.Process | None:
        try:
            pid = int((self._cluster / "postmaster.pid").read_text().split("\n")[0])
        except (FileNotFoundError, ValueError):
            return None
        return processes.find(pid, having=str(self._cluster))

    def _await_orphans(self) -> None:
        """Children of a killed postmaster take a second or two to notice; a new one refuses to start beside them."""
        orphans = []
        for process in psutil.process_iter():
            with contextlib.suppress(psutil.NoSuchProcess, psutil.AccessDenied):
                if process.name() == "postgres" and process.cwd() == str(self._cluster):
                    orphans.append(process)
        psutil.wait_procs(orphans, timeout=STOP_WITHIN_S)

    def _initialise(self, binaries: Path) -> None:
        """Once per data folder: `initdb` beside and rename, so that half a cluster is never taken for one."""
        if (self._cluster / "PG_VERSION").exists():
            return
        password_file = self.data_dir / "postgres.password"
        if not password_file.exists():
            write_private(password_file, secrets.token_urlsafe(24))
        fresh = self.home / "cluster.fresh"
        shutil.rmtree(fresh, ignore_errors=True)
        handed = self.home / "initdb.password"
        write_private(handed, password_file.read_text())
        if self._user is not None:
            os.chown(handed, self._user.uid, self._user.gid)
        command: list[str | Path] = [binaries / "initdb", "-D", fresh, "-U", ADMIN, f"--pwfile={handed}"]
        command += ["--auth=scram-sha-256", "--encoding=UTF8", "--locale-provider=builtin", "--locale=C.UTF-8"]
        process = processes.spawn(command, log=self.log, env=_environment(), user=self._user)
        ended = processes.ended(process, within_s=READY_WITHIN_S)
        handed.unlink(missing_ok=True)
        if not ended or not (fresh / "global" / "pg_control").exists():
            raise StartFailed("PostgreSQL's data folder could not be made", processes.tail(self.log))
        fresh.rename(self._cluster)

    def _spawn(self, binaries: Path) -> psutil.Process:
        sockets = _socket_folder(self.home)
        settings = SETTINGS | {
            "listen_addresses": HOST,
            "port": str(self.port),
            "fsync": "on" if self._durable else "off",
            "unix_socket_directories": str(sockets) if sockets is not None else "",
        }
        words: list[str | Path] = [binaries / "postgres", "-D", self._cluster]
        for name, value in settings.items():
            words += ["-c", f"{name}={value}"]
        return processes.spawn(
            words, log=self.log, env=_environment(), user=self._user, die_with_parent=self._die_with_parent
        )

    def _wait_until_ready(self, process: psutil.Process) -> None:
        deadline = time.monotonic() + READY_WITHIN_S
        while not self._accepts():
            if processes.ended(process, within_s=0.02):
                raise StartFailed("PostgreSQL ended while starting", processes.tail(self.log))
            if time.monotonic() > deadline:
                self.stop()
                raise StartFailed(f"PostgreSQL was not ready in {READY_WITHIN_S} s", processes.tail(self.log))

    def _accepts(self) -> bool:
        """Whether the postmaster says `ready` in its own file and the port is open (recovery ends in between)."""
        try:
            lines = (self._cluster / "postmaster.pid").read_text().splitlines()
            if len(lines) < 8 or lines[7].strip() != "ready":
                return False
            with socket.create_connection((HOST, self.port), timeout=1.0):
                return True
        except OSError:
            return False


def _environment() -> dict[str, str]:
    return processes.inherited_environment(LC_ALL="C.UTF-8", TZ="UTC")


def _home(data_dir: Path, user: User | None) -> Path:
    """Where the cluster lies: in the data folder, or beside it in the open when that user cannot get there."""
    home = data_dir / "postgres"
    if user is not None and not reachable(data_dir):
        home = OPEN_FOLDER / f"pombo-{hashlib.sha256(str(data_dir).encode()).hexdigest()[:12]}"
    home.mkdir(mode=0o700, exist_ok=True)
    if user is not None:
        check_ours(home, user)
        os.chown(home, user.uid, user.gid)
    return home


def _socket_folder(home: Path) -> Path | None:
    return home if len(str(home)) <= SOCKET_FOLDER_LETTERS_MAX else None
