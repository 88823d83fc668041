"""The agenda on a real loop, without asserting how long anything takes."""

import asyncio

from provider_simulator.agenda import Agenda


async def test_things_are_done_in_the_order_they_fall_due_and_one_failure_stops_nothing() -> None:
    done: list[str] = []
    errors: list[Exception] = []
    finished = asyncio.Event()
    agenda = Agenda(asyncio.get_running_loop(), errors.append)

    def fail() -> None:
        raise RuntimeError("broken")

    agenda.add(0.3, finished.set, ())
    agenda.add(0.2, done.append, ("third",))
    agenda.add(0.0, done.append, ("first",))
    agenda.add(0.1, fail, ())
    agenda.add(0.1, done.append, ("second",))
    agenda.add(0.1, lambda: agenda.add(0.0, done.append, ("added meanwhile",)), ())
    await asyncio.wait_for(finished.wait(), 10)
    assert done == ["first", "second", "added meanwhile", "third"]
    assert [str(error) for error in errors] == ["broken"]
    assert len(agenda) == 0


async def test_nothing_is_done_early() -> None:
    loop = asyncio.get_running_loop()
    agenda = Agenda(loop, lambda _: None)
    times: list[tuple[float, float]] = []
    finished = asyncio.Event()
    for i in range(50):
        due = loop.time() + i * 0.004
        agenda.add(i * 0.004, lambda due=due: times.append((due, loop.time())), ())
    agenda.add(0.3, finished.set, ())
    await asyncio.wait_for(finished.wait(), 10)
    assert len(times) == 50
    assert all(at >= due for due, at in times)
