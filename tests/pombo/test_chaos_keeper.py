"""The keeper on real processes: killed, frozen, started from the main thread, started anew when they end."""

import os
import signal
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import psutil
import pytest

from pombo.backing.folders import free_port
from pombo.chaos import keeper as keeper_module
from pombo.chaos.keeper import Keeper
from pombo.stack import RunFolder, Stack, Wishes
from pombo.stack.process import StackProcess

NAME = "sender"


@pytest.fixture
def process(tmp_path: Path) -> Iterator[StackProcess]:
    port = free_port()
    found = StackProcess(
        NAME,
        ["http.server", str(port), "--bind", "127.0.0.1"],
        log=tmp_path / "log",
        environment={},
        ready_url=f"http://127.0.0.1:{port}/",
        die_with_parent=True,
    )
    found.start()
    found.wait_ready(20)
    yield found
    found.kill()


@pytest.fixture
def keeper(process: StackProcess, tmp_path: Path) -> Keeper:
    stack = Stack(RunFolder(tmp_path / "run"), Wishes())
    stack.processes[NAME] = process
    return Keeper(stack)


def meanwhile(keeper: Keeper, work: Callable[[], None]) -> None:
    """A fault's thread at work while the main thread ticks, as in a run."""
    thread = threading.Thread(target=work)
    thread.start()
    while thread.is_alive():
        keeper.tick()
        time.sleep(0.01)
    thread.join()


def test_a_killed_process_stays_down_until_it_is_started(keeper: Keeper, process: StackProcess) -> None:
    before = process.pid

    def fault() -> None:
        keeper.kill(NAME)
        time.sleep(0.2)
        assert process.pid is None
        keeper.start(NAME)

    meanwhile(keeper, fault)
    assert process.pid not in (None, before)
    assert keeper.died == {}


def test_one_that_ended_by_itself_is_started_again_and_counted(keeper: Keeper, process: StackProcess) -> None:
    assert process.pid is not None
    os.kill(process.pid, signal.SIGKILL)
    deadline_s = time.monotonic() + 10
    while not keeper.died and time.monotonic() < deadline_s:
        keeper.tick()
        time.sleep(0.01)
    assert keeper.died == {NAME: 1}
    process.wait_ready(20)


def test_a_frozen_process_does_nothing_and_goes_on_as_the_same(keeper: Keeper, process: StackProcess) -> None:
    before = process.pid
    assert before is not None
    keeper.freeze(NAME)
    assert psutil.Process(before).status() == psutil.STATUS_STOPPED
    assert process.ended_by_itself is False
    keeper.thaw_all()
    process.wait_ready(20)
    assert process.pid == before


def test_a_stop_is_clean_and_nobody_restarts_it_meanwhile(keeper: Keeper, process: StackProcess) -> None:
    def fault() -> None:
        keeper.stop(NAME)
        time.sleep(0.2)
        keeper.start(NAME)

    meanwhile(keeper, fault)
    assert keeper.died == {}
    process.wait_ready(20)


def test_a_crash_point_that_is_never_reached_is_told(
    keeper: Keeper, process: StackProcess, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(keeper_module, "CRASHED_WITHIN_S", 0.5)
    reached: list[bool] = []
    meanwhile(keeper, lambda: reached.append(keeper.crash(NAME, "nowhere", 1)))
    assert reached == [False]
    assert keeper.died == {}
    process.wait_ready(20)
    assert process.pid is not None
    assert psutil.Process(process.pid).environ()["CRASH_AT"] == ""


def test_only_one_fault_at_a_time_has_a_process(keeper: Keeper) -> None:
    order: list[str] = []

    def second() -> None:
        with keeper.only(NAME):
            order.append("second")

    with keeper.only(NAME):
        thread = threading.Thread(target=second)
        thread.start()
        time.sleep(0.1)
        order.append("first")
    thread.join()
    assert order == ["first", "second"]
