"""Kafka on this machine: one KRaft node, started from plain jars, its data and port kept in a folder."""

import os
import signal
import socket
import struct
import subprocess
import time
import uuid
from base64 import urlsafe_b64encode
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import psutil

from pombo.backing import processes
from pombo.backing.failures import StartFailed
from pombo.backing.folders import HOST, check_port_free, kept_port, made_folder
from pombo.backing.jars import java, kafka_jars, log_configuration

READY_WITHIN_S = 60.0
STOP_WITHIN_S = 20.0
HEAP_DEFAULT = "384m"
# Without the second compiler it starts in 3.0 s instead of 6.1, and the first 120,000 records cost 27 µs of CPU each
# instead of 44 (Java 17, two cores).
JVM_OPTIONS_DEFAULT = "-XX:+UseSerialGC -XX:TieredStopAtLevel=1"


@dataclass(frozen=True, slots=True)
class Door:
    """One more listener: the broker listens on `port` and tells those who come in there that it is on `told_port`
    (a client goes on with the address that it is told, so a proxy must be the one)."""

    port: int
    told_port: int


class LocalKafka:
    """A broker process. `start` again after `stop` or `kill` finds the same data on the same port.

    `doors`: further listeners by name (capital letters).
    """

    def __init__(
        self, data_dir: Path, *, die_with_parent: bool = False, doors: Mapping[str, Door] | None = None
    ) -> None:
        self.data_dir = made_folder(data_dir)
        self.port = kept_port(self.data_dir, "kafka")
        self._controller_port = kept_port(self.data_dir, "kafka_controller")
        self._die_with_parent = die_with_parent
        self._doors = dict(doors or {})
        self._process: psutil.Process | None = None

    @property
    def bootstrap(self) -> str:
        return f"{HOST}:{self.port}"

    @property
    def pid(self) -> int | None:
        return processes.living_pid(self._process)

    @property
    def log(self) -> Path:
        return self.data_dir / "kafka.log"

    def start(self) -> None:
        """Start, or take over what an earlier run left running here; returns when it answers requests."""
        if processes.stays(self._process):
            return
        self._process = self._left_over()
        if self._process is None:
            properties = self._write_properties()
            libs = kafka_jars()
            self._format(libs, properties)
            for port in (self.port, self._controller_port):
                check_port_free(port, self.data_dir)
            self._process = self._spawn(libs, properties)
        self._wait_until_ready(self._process)

    def stop(self) -> None:
        """A clean end: the broker writes its snapshots and leaves."""
        if self._process is not None:
            processes.stop(self._process, signal.SIGTERM, within_s=STOP_WITHIN_S)
        self._process = None
        self._pid_file.unlink(missing_ok=True)

    def kill(self) -> None:
        """The end that a crash is: SIGKILL, nothing is written."""
        if self._process is not None:
            processes.stop(self._process, signal.SIGKILL, within_s=STOP_WITHIN_S)
        self._process = None

    def remove(self) -> None:
        """Nothing is outside the data folder."""

    @property
    def _pid_file(self) -> Path:
        return self.data_dir / "kafka.pid"

    def _left_over(self) -> psutil.Process | None:
        try:
            pid = int(self._pid_file.read_text())
        except (FileNotFoundError, ValueError):
            return None
        return processes.find(pid, having=str(self.data_dir / "server.properties"))

    def _write_properties(self) -> Path:
        properties = self.data_dir / "server.properties"
        properties.write_text(
            server_properties(
                self.data_dir / "kafka", port=self.port, controller_port=self._controller_port, doors=self._doors
            )
        )
        return properties

    def _format(self, libs: Path, properties: Path) -> None:
        """Once per data folder: the tool wants an empty one, so what it wrote is kept with its cluster id."""
        if (self.data_dir / "kafka" / "meta.properties").exists():
            return
        words = [*_java_words(libs), "kafka.tools.StorageTool", "format"]
        words += ["-t", _new_cluster_id(), "-c", str(properties)]
        done = subprocess.run(words, capture_output=True, text=True, check=False)
        if done.returncode != 0:
            raise StartFailed("Kafka's storage could not be formatted", done.stdout + done.stderr)

    def _spawn(self, libs: Path, properties: Path) -> psutil.Process:
        heap = os.environ.get("POMBO_KAFKA_HEAP", HEAP_DEFAULT)
        words = [*_java_words(libs), f"-Xmx{heap}", "kafka.Kafka", str(properties)]
        process = processes.spawn(words, log=self.log, die_with_parent=self._die_with_parent)
        self._pid_file.write_text(str(process.pid))
        return process

    def _wait_until_ready(self, process: psutil.Process) -> None:
        deadline = time.monotonic() + READY_WITHIN_S
        while not answers_metadata(HOST, self.port):
            if processes.ended(process, within_s=0.05):
                raise StartFailed("Kafka ended while starting", processes.tail(self.log))
            if time.monotonic() > deadline:
                self.stop()
                raise StartFailed(f"Kafka was not ready in {READY_WITHIN_S} s", processes.tail(self.log))


def server_properties(
    log_dir: Path, *, port: int, controller_port: int, doors: Mapping[str, Door] | None = None
) -> str:
    """One node that is broker and controller. Topics are made by us, never by a typing error."""
    doors = doors or {}
    listeners = {"PLAINTEXT": port, **{name: door.port for name, door in doors.items()}}
    told = {"PLAINTEXT": port, **{name: door.told_port for name, door in doors.items()}}
    return "\n".join(
        [
            "process.roles=broker,controller",
            "node.id=1",
            f"controller.quorum.voters=1@{HOST}:{controller_port}",
            f"listeners={_addresses(listeners)},CONTROLLER://{HOST}:{controller_port}",
            f"advertised.listeners={_addresses(told)}",
            "listener.security.protocol.map=" + ",".join(f"{name}:PLAINTEXT" for name in (*listeners, "CONTROLLER")),
            "controller.listener.names=CONTROLLER",
            f"log.dirs={log_dir}",
            "num.partitions=1",
            "auto.create.topics.enable=false",
            # One node holds every replica; 50 partitions of bookkeeping would only be opened and closed.
            "offsets.topic.replication.factor=1",
            "offsets.topic.num.partitions=8",
            "transaction.state.log.replication.factor=1",
            "transaction.state.log.min.isr=1",
            "transaction.state.log.num.partitions=4",
            "share.coordinator.state.topic.replication.factor=1",
            "share.coordinator.state.topic.min.isr=1",
            "group.initial.rebalance.delay.ms=0",
            "group.min.session.timeout.ms=1000",
            # After kill -9 the node waits until its former self is declared dead (9 s by default).
            "broker.session.timeout.ms=3000",
            "broker.heartbeat.interval.ms=500",
            # The cleaner takes its buffer from the heap at once, 128 MB by default.
            "log.cleaner.dedupe.buffer.size=8388608",
            "",
        ]
    )


def _addresses(ports: Mapping[str, int]) -> str:
    return ",".join(f"{name}://{HOST}:{port}" for name, port in ports.items())


def answers_metadata(host: str, port: int) -> bool:
    """Whether a broker answers a Metadata request (version 1, no topics) and names itself as alive."""
    body = struct.pack(">hhih5si", 3, 1, 1, 5, b"pombo", 0)
    try:
        with socket.create_connection((host, port), timeout=2.0) as connection:
            connection.sendall(struct.pack(">i", len(body)) + body)
            with connection.makefile("rb") as answer:
                length = struct.unpack(">i", answer.read(4))[0]
                _correlation, brokers = struct.unpack(">ii", answer.read(length)[:8])
    except (OSError, struct.error):
        return False
    return bool(brokers >= 1)


def _java_words(libs: Path) -> list[str]:
    options = os.environ.get("POMBO_KAFKA_JVM_OPTIONS", JVM_OPTIONS_DEFAULT).split()
    log_setting = f"-Dlog4j2.configurationFile={log_configuration()}"
    return [str(java()), *options, log_setting, "-cp", f"{libs}/*"]


def _new_cluster_id() -> str:
    """Kafka's own form: a random UUID as 22 letters, never starting with a dash (it would read as an option)."""
    while (text := urlsafe_b64encode(uuid.uuid4().bytes)[:22].decode()).startswith("-"):
        continue
    return text
