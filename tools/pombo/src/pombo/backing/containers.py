"""The same two servers in containers, for machines with Docker: same ports, same settings.

The data lives in the container: `stop` and `kill` keep it for the next `start`, `remove` throws it away.
"""

import secrets
import time
from collections.abc import Callable
from pathlib import Path

import asyncpg
from docker.errors import DockerException
from testcontainers.core.container import DockerContainer

from pombo.backing import kafka
from pombo.backing.databases import run_apart
from pombo.backing.failures import DockerMissing, StartFailed
from pombo.backing.folders import HOST, free_port, kept_port, made_folder
from pombo.backing.jars import kafka_version
from pombo.backing.postgres import ADMIN, SETTINGS

POSTGRES_IMAGE = "postgres:18.4"
KAFKA_IMAGE = "apache/kafka"
READY_WITHIN_S = 120.0
STOP_WITHIN_S = 20


class KeptContainer:
    """A container that is started again with its data instead of being made anew."""

    def __init__(self, container: DockerContainer, what: str, answers: Callable[[], bool]) -> None:
        self._container = container
        self._what = what
        self._answers = answers
        self._made = False

    @property
    def pid(self) -> int | None:
        """The id of its process as this machine sees it."""
        if not self._made:
            return None
        wrapped = self._container.get_wrapped_container()
        wrapped.reload()
        return int(wrapped.attrs["State"]["Pid"]) or None

    def start(self) -> None:
        if self._made:
            self._container.get_wrapped_container().start()
        else:
            self._container.start()
            self._made = True
        deadline = time.monotonic() + READY_WITHIN_S
        while not self._answers():
            if time.monotonic() > deadline:
                log = self._container.get_wrapped_container().logs(tail=30).decode(errors="replace")
                raise StartFailed(f"{self._what} in Docker was not ready in {READY_WITHIN_S} s", log)
            time.sleep(0.1)

    def stop(self) -> None:
        if self._made:
            self._container.get_wrapped_container().stop(timeout=STOP_WITHIN_S)

    def kill(self) -> None:
        if self._made:
            self._container.get_wrapped_container().kill()

    def remove(self) -> None:
        if self._made:
            self._container.stop()
        self._made = False


def docker_kafka(data_dir: Path) -> "DockerKafka":
    try:
        return DockerKafka(data_dir)
    except DockerException as failure:
        raise DockerMissing(str(failure)) from failure


def docker_postgres(data_dir: Path) -> "DockerPostgres":
    try:
        return DockerPostgres(data_dir)
    except DockerException as failure:
        raise DockerMissing(str(failure)) from failure


class DockerKafka(KeptContainer):
    """The broker of `LocalKafka` in the image of the same version."""

    def __init__(self, data_dir: Path) -> None:
        port = kept_port(made_folder(data_dir), "kafka")
        self.bootstrap = f"{HOST}:{port}"
        container = DockerContainer(f"{KAFKA_IMAGE}:{kafka_version()}").with_bind_ports(port, port)
        container.with_envs(**container_settings(port, controller_port=free_port({port})))
        super().__init__(container, "Kafka", lambda: kafka.answers_metadata(HOST, port))


class DockerPostgres(KeptContainer):
    """The server of `LocalPostgres` in the image of the same version."""

    def __init__(self, data_dir: Path) -> None:
        port = kept_port(made_folder(data_dir), "postgres")
        password = secrets.token_urlsafe(24)
        self.admin_dsn = f"postgresql://{ADMIN}:{password}@{HOST}:{port}/postgres"
        settings = " ".join(f"-c {name}={value}" for name, value in SETTINGS.items())
        container = DockerContainer(POSTGRES_IMAGE).with_bind_ports(5432, port).with_env("POSTGRES_PASSWORD", password)
        container.with_command(f"postgres {settings}")
        super().__init__(container, "PostgreSQL", lambda: run_apart(_takes_connections(self.admin_dsn)))


def container_settings(port: int, *, controller_port: int) -> dict[str, str]:
    """The node's settings as the image takes them: listening on all of the container, named by the machine's port."""
    text = kafka.server_properties(Path("/var/lib/kafka/data"), port=port, controller_port=controller_port)
    named = dict(line.split("=", 1) for line in text.splitlines())
    named["listeners"] = f"PLAINTEXT://0.0.0.0:{port},CONTROLLER://{HOST}:{controller_port}"
    return {f"KAFKA_{name.upper().replace('.', '_')}": value for name, value in named.items()}


async def _takes_connections(dsn: str) -> bool:
    try:
        connection = await asyncpg.connect(dsn, timeout=2.0)
    except (OSError, TimeoutError, asyncpg.PostgresError):
        return False
    await connection.close()
    return True
