"""Where things are and how the ports of a data folder stay the same."""

import fcntl
import json
import os
import random
import shutil
import socket
from collections.abc import Collection, Iterator
from contextlib import contextmanager
from pathlib import Path

from pombo.backing.failures import DiskFull, PortTaken

HOST = "127.0.0.1"
# Below the range that systems give to outgoing connections, so that nobody takes the port while we restart.
PORTS = range(20_000, 32_000)
NEEDED_BYTES = 512 * 2**20


def repository_root() -> Path:
    """The checkout this package is installed from (the tools are never shipped, so there is one)."""
    for folder in Path(__file__).resolve().parents:
        if (folder / "deploy" / "postgres" / "roles.sql").is_file():
            return folder
    raise FileNotFoundError("deploy/postgres/roles.sql: pombo must be installed editable from its checkout")


def made_folder(folder: Path, *, needed_bytes: int = NEEDED_BYTES) -> Path:
    """The folder, made if need be, on a disk that has room."""
    folder.mkdir(parents=True, exist_ok=True)
    free_bytes = shutil.disk_usage(folder).free
    if free_bytes < needed_bytes:
        raise DiskFull(folder, free_bytes, needed_bytes)
    return folder.resolve()


def write_private(file: Path, text: str) -> None:
    """Nobody else can read it at any moment, and whoever reads it finds all of it."""
    scratch = file.with_name(f"{file.name}.{os.getpid()}")
    descriptor = os.open(scratch, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600)
    with os.fdopen(descriptor, "w") as handle:
        handle.write(text)
    scratch.replace(file)


def kept_port(data_dir: Path, name: str) -> int:
    """The port called `name` of this data folder: chosen once, then the same for ever."""
    ports_file = data_dir / "ports.json"
    with locked(data_dir / "ports.lock"):
        ports: dict[str, int] = json.loads(ports_file.read_text()) if ports_file.exists() else {}
        if name not in ports:
            ports[name] = free_port(avoid=set(ports.values()))
            write_private(ports_file, json.dumps(ports))
        return ports[name]


def check_port_free(port: int, data_dir: Path) -> None:
    if not _is_free(port):
        raise PortTaken(port, data_dir / "ports.json")


def free_port(avoid: Collection[int] = ()) -> int:
    """A port nobody listens on. Random, so that two runs started together rarely meet."""
    candidates = random.sample(PORTS, k=len(PORTS))
    return next(port for port in candidates if port not in avoid and _is_free(port))


@contextmanager
def locked(lock_file: Path) -> Iterator[None]:
    with lock_file.open("w") as handle:
        fcntl.flock(handle, fcntl.LOCK_EX)
        yield


def _is_free(port: int) -> bool:
    with socket.socket() as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind((HOST, port))
        except OSError:
            return False
    return True
