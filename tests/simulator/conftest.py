"""One simulator for the whole folder, time running 50 times faster; each test makes numbers of its own."""

from collections.abc import AsyncIterator

import pytest
import pytest_asyncio

from simulated_providers import Receiver, Simulator, receiver, simulator


@pytest_asyncio.fixture(scope="session", loop_scope="session")
async def simulated(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[Simulator]:
    folder = tmp_path_factory.mktemp("simulator")
    async with simulator(folder, {}, "--time-scale", "50", "--seed", "7") as running:
        yield running


@pytest_asyncio.fixture(loop_scope="session")
async def hooks() -> AsyncIterator[Receiver]:
    async with receiver() as running:
        yield running
