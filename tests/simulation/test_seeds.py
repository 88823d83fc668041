"""The five services' decisions under a virtual clock, seed after seed: see README.md.

SEEDS=100000 widens the search, FIRST=n begins elsewhere; `python -m simulation.show n` shows one.
"""

import os
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import pytest

from simulation.checks import violations
from simulation.town import HOUR_S, draw
from simulation.world import run, run_in

SEEDS = int(os.environ.get("SEEDS", "1000"))
FIRST = int(os.environ.get("FIRST", "0"))
CHUNK = 50
CLOCK_AHEAD = 0
SUPPORT = Path(__file__).resolve().parents[1] / "support"
PRINT_FINGERPRINT = "import sys; from simulation.world import run; print(run(int(sys.argv[1])).fingerprint())"


@pytest.mark.seeds
@pytest.mark.timeout(600)
@pytest.mark.parametrize("first", range(FIRST, FIRST + SEEDS, CHUNK))
def test_nothing_is_lost_doubled_or_sent_too_late(first: int) -> None:
    broken = {}
    for seed in range(first, min(first + CHUNK, FIRST + SEEDS)):
        world = run(seed)
        assert world.failure or world.loop.now >= HOUR_S
        if found := violations(world):
            broken[seed] = found[:3]
            assert run(seed).fingerprint() == world.fingerprint(), f"seed {seed} is not one schedule"
    assert broken == {}


def test_a_seed_is_one_schedule_in_every_process() -> None:
    """Another process hashes in another order and has another clock."""
    here = run(7).fingerprint()
    assert run(7).fingerprint() == here
    for hash_seed in ("1", "2"):
        environment = {**os.environ, "PYTHONHASHSEED": hash_seed, "PYTHONPATH": str(SUPPORT)}
        there = subprocess.run(
            [sys.executable, "-c", PRINT_FINGERPRINT, "7"], env=environment, capture_output=True, text=True, check=True
        )
        assert there.stdout.strip() == here


def test_a_clock_that_is_minutes_ahead_stops_nothing() -> None:
    """Released messages are valid for half a minute of the database's clock."""
    town = draw(CLOCK_AHEAD)
    assert violations(run_in(replace(town, faults=replace(town.faults, skew_s=300.0)))) == []
