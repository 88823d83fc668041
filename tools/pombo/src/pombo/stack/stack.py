"""Starts everything in order, stops it in the reverse one."""

import importlib.util
import json
import shutil
import subprocess
import sys
from collections.abc import Callable, Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from typing import Any

from pombo.backing import Backing, Door, prepare_database, processes, start_backing
from pombo.backing.folders import kept_port
from pombo.stack.failures import PythonMissing, ServiceFailed
from pombo.stack.folder import RunFolder
from pombo.stack.process import StackProcess
from pombo.stack.secrets import Secrets, kept_secrets
from pombo.stack.services import PROCESSES, Addresses, Service, environment, migration_environment

READY_WITHIN_S = 90.0
STOP_WITHIN_S = 20.0
MIGRATED_WITHIN_S = 120.0
SIMULATOR = "simulator"
EVOLUTION_KEY = "evolution-global-key"

Tell = Callable[[str], None]
Environment = Mapping[str, str]


@dataclass(frozen=True, slots=True)
class Wishes:
    """What one run wants otherwise than another: settings by service, the simulator's configuration.

    `kafka_doors`: further listeners of a local Kafka. `reroute`: last word on what a service is told (proxies).
    `die_with_parent`: the kernel ends our processes when we are killed (Linux; from the main thread only).
    """

    settings: Mapping[Service, Mapping[str, str]] = field(default_factory=dict)
    simulator: Mapping[str, Any] = field(default_factory=dict)
    seed: int = 1
    time_scale: float = 1.0
    trace_everything: bool = False
    die_with_parent: bool = True
    kafka_doors: Mapping[str, Door] = field(default_factory=dict)
    reroute: Callable[[Service, Environment], Environment] = lambda _, told: told


class Stack:
    """The running system of one folder. Use as a context manager, or `start` and `stop`."""

    def __init__(self, folder: RunFolder, wishes: Wishes, tell: Tell = lambda _: None) -> None:
        self.folder = folder.make()
        self.wishes = wishes
        self._tell = tell
        self.secrets: Secrets = kept_secrets(folder.path / "secrets.json")
        self._backing: Backing | None = None
        self._addresses: Addresses | None = None
        self.processes: dict[str, StackProcess] = {}

    @property
    def backing(self) -> Backing:
        assert self._backing is not None, "not started"
        return self._backing

    @property
    def addresses(self) -> Addresses:
        assert self._addresses is not None, "not started"
        return self._addresses

    def start(self) -> None:
        """Raises BackingUnavailable or StackFailed, each with its remedy; then nothing of it is left running."""
        check_packages()
        try:
            self._tell("starting Kafka and PostgreSQL")
            self._backing = start_backing(
                self.folder.data,
                die_with_parent=self.wishes.die_with_parent,
                kafka_doors=self.wishes.kafka_doors,
            )
            roles = prepare_database(self.backing.postgres_dsn_admin, self.secrets.database_password)
            self._addresses = self._choose_addresses(roles)
            self._make_processes()
            self.processes[SIMULATOR].start()
            self._tell("migrating five schemas")
            self._migrate()
            self._tell("starting five services")
            for process in self.processes.values():
                if process.pid is None:
                    process.start()
            for process in self.processes.values():
                process.wait_ready(READY_WITHIN_S)
        except BaseException:
            self.stop()
            raise

    def stop(self) -> None:
        """SIGTERM to all services at once, SIGKILL after the grace, then the backing."""
        # The simulator last, so that requests under way get their answers.
        services = [process for name, process in self.processes.items() if name != SIMULATOR]
        for process in services:
            process.ask_to_stop()
        for process in services:
            if not process.stop(STOP_WITHIN_S):
                self._tell(f"{process.name} did not stop in {STOP_WITHIN_S:.0f} s and was killed")
        if SIMULATOR in self.processes:
            self.processes[SIMULATOR].stop(STOP_WITHIN_S)
        if self._backing is not None:
            self._backing.stop()
            self._backing = None

    def remove_data(self) -> None:
        """Throw away what Kafka and PostgreSQL stored, also what lies outside the folder. Only after `stop`."""
        from pombo.backing import kafka_server, postgres_server

        postgres_server(self.folder.data).remove()
        kafka_server(self.folder.data).remove()
        shutil.rmtree(self.folder.data, ignore_errors=True)

    def __enter__(self) -> "Stack":
        self.start()
        return self

    def __exit__(self, *_: object) -> None:
        self.stop()

    def process(self, service: Service) -> StackProcess:
        return self.processes[service.value]

    def restart(self, service: Service) -> None:
        """A new process of a service whose last one ended, ready again when this returns."""
        process = self.process(service)
        if process.pid is not None:
            process.stop(STOP_WITHIN_S)
        process.start()
        process.wait_ready(READY_WITHIN_S)

    def add_process(self, service: Service, name: str, command: str = "serve") -> StackProcess:
        """A process of a service, not started: another member of its groups, stopped with the others."""
        port = kept_port(self.folder.data, f"{name} health")
        variables = self._environment(service) | {"KAFKA__GROUP_INSTANCE_ID": f"{name}-0", "HEALTH__PORT": str(port)}
        if self.wishes.trace_everything:
            variables["TELEMETRY__SPANS_FILE"] = str(self.folder.spans / f"{name}.jsonl")
        self.processes[name] = StackProcess(
            name,
            [service.module, command],
            log=self.folder.logs / f"{name}.log",
            environment=variables,
            ready_url=f"http://127.0.0.1:{port}/ready",
            die_with_parent=self.wishes.die_with_parent,
        )
        return self.processes[name]

    def ended(self) -> list[str]:
        """Names of processes that are gone although nobody asked."""
        return [name for name, process in self.processes.items() if process.ended_by_itself]

    def run_command(
        self, service: Service, *arguments: str, stdin: str = "", within_s: float = 120.0
    ) -> subprocess.CompletedProcess[str]:
        """A command of a service's own `__main__`, with that service's settings, until its end."""
        variables = self._environment(service) | {"KAFKA__GROUP_INSTANCE_ID": f"{service.value}-{arguments[0]}"}
        return subprocess.run(
            [sys.executable, "-m", service.module, *arguments],
            env=processes.inherited_environment(**variables),
            input=stdin,
            capture_output=True,
            start_new_session=True,
            text=True,
            timeout=within_s,
            check=False,
        )

    def background_command(self, service: Service, *arguments: str) -> "subprocess.Popen[str]":
        """The same without waiting; its output is the caller's to read."""
        variables = self._environment(service) | {"KAFKA__GROUP_INSTANCE_ID": f"{service.value}-{arguments[0]}"}
        log = (self.folder.logs / f"{service.value}-{arguments[0]}.log").open("a")
        return subprocess.Popen(
            [sys.executable, "-m", service.module, *arguments],
            env=processes.inherited_environment(**variables),
            stdin=subprocess.DEVNULL,
            stdout=log,
            stderr=subprocess.STDOUT,
            start_new_session=True,
            text=True,
        )

    def _environment(self, service: Service) -> dict[str, str]:
        found = environment(service, self.addresses, self.secrets, EVOLUTION_KEY)
        found["TELEMETRY__SAMPLE_RATIO"] = "1" if self.wishes.trace_everything else "0"
        return dict(self.wishes.reroute(service, found | dict(self.wishes.settings.get(service, {}))))

    def _choose_addresses(self, roles: Mapping[str, str]) -> Addresses:
        def port(name: str) -> int:
            return kept_port(self.folder.data, name)

        return Addresses(
            kafka_bootstrap=self.backing.kafka_bootstrap,
            roles=roles,
            api_port=port("campaign-api"),
            webhook_port=port("webhook-ingest"),
            simulator_port=port(SIMULATOR),
        )

    def _make_processes(self) -> None:
        configuration = self.folder.path / "simulator.json"
        configuration.write_text(json.dumps(self.wishes.simulator))
        words: list[str] = ["provider_simulator", "--port", str(self.addresses.simulator_port)]
        words += ["--log", str(self.folder.witness), "--config", str(configuration)]
        words += ["--seed", str(self.wishes.seed), "--time-scale", str(self.wishes.time_scale)]
        self.processes[SIMULATOR] = StackProcess(
            SIMULATOR,
            words,
            log=self.folder.logs / "simulator.log",
            environment={},
            ready_url=f"{self.addresses.simulator}/_control/health",
            die_with_parent=self.wishes.die_with_parent,
        )
        for name, (service, command) in PROCESSES.items():
            self.add_process(service, name, command)

    def _migrate(self) -> None:
        """Side by side: the schemas share nothing."""
        with ThreadPoolExecutor(max_workers=len(Service)) as threads:
            list(threads.map(self._migrate_one, Service))

    def _migrate_one(self, service: Service) -> None:
        variables = migration_environment(service, self.addresses)
        log = self.folder.logs / f"{service.value}-migrate.log"
        with log.open("ab") as output:
            ended = subprocess.run(
                [sys.executable, "-m", service.module, "migrate"],
                env=processes.inherited_environment(**variables),
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=subprocess.STDOUT,
                start_new_session=True,  # Ctrl-C reaches only us
                timeout=MIGRATED_WITHIN_S,
                check=False,
            )
        if ended.returncode != 0:
            raise ServiceFailed(service.value, "could not migrate its schema", processes.tail(log))


def check_packages() -> None:
    """Raises PythonMissing: a clear word instead of five tracebacks."""
    for package in (*(service.module for service in Service), "provider_simulator", "chassis", "contracts"):
        if importlib.util.find_spec(package) is None:
            raise PythonMissing(package)
