"""The processes that faults are done to: killed, frozen, started again; one that ended by itself is started anew."""

import queue
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator
from concurrent.futures import Future
from contextlib import contextmanager

import psutil

from pombo.chaos.faults import KAFKA, POSTGRES
from pombo.stack import PROCESSES, Stack

RESTART_EVERY_S = 1.0
CRASHED_WITHIN_S = 25.0
POLL_S = 0.05
STOP_WITHIN_S = 20.0


class Keeper:
    """Faults call it from their threads; `tick`, from the main thread, does what must be done there.

    A process started by the main thread ends with it, whatever happens to us.
    """

    def __init__(self, stack: Stack) -> None:
        self._stack = stack
        self._asked: queue.Queue[tuple[Callable[[], None], Future[None]]] = queue.Queue()
        self._locks = {target: threading.Lock() for target in (*PROCESSES, KAFKA, POSTGRES)}
        self._down: set[str] = set()
        self._frozen: dict[str, list[psutil.Process]] = {}
        self._started_s: dict[str, float] = {}
        self.died: Counter[str] = Counter()  # ended by themselves, and were started again

    def tick(self) -> None:
        """Start what was asked for, and what ended by itself."""
        while True:
            try:
                work, done = self._asked.get_nowait()
            except queue.Empty:
                break
            try:
                work()
            except BaseException as error:  # noqa: BLE001  it belongs to the fault that asked
                done.set_exception(error)
            else:
                done.set_result(None)
        for name in self._stack.ended():
            recent = time.monotonic() - self._started_s.get(name, 0.0) < RESTART_EVERY_S
            if name not in self._down and not recent:
                self.died[name] += 1
                self._spawn(name)

    @contextmanager
    def only(self, target: str) -> Iterator[None]:
        """One fault at a time for each process."""
        with self._locks[target]:
            yield

    def kill(self, target: str) -> None:
        self._down.add(target)
        match target:
            case "kafka":
                self._stack.backing.kafka.kill()
            case "postgres":
                self._stack.backing.postgres.kill()
            case _:
                self._stack.processes[target].kill()

    def stop(self, target: str) -> None:
        """SIGTERM, and SIGKILL after the grace."""
        self._down.add(target)
        self._stack.processes[target].stop(STOP_WITHIN_S)

    def start(self, target: str) -> None:
        """Started when this returns; Kafka and PostgreSQL also answer then."""
        self._on_main_thread(lambda: self._spawn(target))
        self._down.discard(target)

    def crash(self, service: str, point: str, nth: int) -> bool:
        """Start it so that it ends itself at that point; whether it got there. It runs as usual afterwards."""
        process = self._stack.processes[service]
        process.change(CRASH_AT=f"{point}:{nth}")
        try:
            self.stop(service)
            self._on_main_thread(lambda: self._spawn(service))
            deadline_s = time.monotonic() + CRASHED_WITHIN_S
            while process.pid is not None and time.monotonic() < deadline_s:
                time.sleep(POLL_S)
            reached = process.pid is None
        finally:
            process.change(CRASH_AT="")
        self.stop(service)
        self.start(service)
        return reached

    def freeze(self, target: str) -> None:
        """SIGSTOP, for PostgreSQL with all its children. Returns once they stand: the signal does its work later."""
        pid = self._pid(target)
        if pid is None:
            return
        process = psutil.Process(pid)
        stopped = [process, *(process.children(recursive=True) if target == POSTGRES else [])]
        self._frozen[target] = stopped
        for one in stopped:
            _signal(one.suspend)
        give_up = time.monotonic() + STOP_WITHIN_S
        while any(_runs(one) for one in stopped) and time.monotonic() < give_up:
            time.sleep(POLL_S)

    def thaw(self, target: str) -> None:
        for one in self._frozen.pop(target, []):
            _signal(one.resume)

    def thaw_all(self) -> None:
        for target in tuple(self._frozen):
            self.thaw(target)

    def rss_mib(self) -> dict[str, int]:
        """Of each process of the services now, in MiB."""
        found = {}
        for name in PROCESSES:
            if (pid := self._pid(name)) is not None:
                found[name] = round(psutil.Process(pid).memory_info().rss / 2**20)
        return found

    def _pid(self, target: str) -> int | None:
        if target in (KAFKA, POSTGRES):
            return self._stack.backing.pids.get(target)
        return self._stack.processes[target].pid

    def _spawn(self, target: str) -> None:
        self._started_s[target] = time.monotonic()
        match target:
            case "kafka":
                self._stack.backing.kafka.start()
            case "postgres":
                self._stack.backing.postgres.start()
            case _:
                self._stack.processes[target].start()

    def _on_main_thread(self, work: Callable[[], None]) -> None:
        if threading.current_thread() is threading.main_thread():
            work()
            return
        done: Future[None] = Future()
        self._asked.put((work, done))
        done.result()


def _runs(process: psutil.Process) -> bool:
    try:
        return process.status() not in (psutil.STATUS_STOPPED, psutil.STATUS_ZOMBIE)
    except psutil.NoSuchProcess:
        return False


def _signal(send: Callable[[], None]) -> None:
    try:
        send()
    except psutil.NoSuchProcess:
        return
