"""Each planted bug is seen by the checks with its recorded seed, and the sound code passes with the same seed.

A seed that shows it no more, because a decision has changed and with it every schedule, is made up for by a short
search; `make planted-bugs` records seeds again.
"""

import pytest

from simulation.bugs import BUGS, Bug
from simulation.checks import violations
from simulation.search import recorded, search, seen
from simulation.world import run

TRIES = 60


@pytest.mark.parametrize("bug", BUGS, ids=lambda bug: bug.name.replace(" ", "-"))
def test_a_planted_bug_is_seen(bug: Bug) -> None:
    seed = recorded()[bug.name]
    if not seen(bug, seed):
        assert search(bug, TRIES) is not None, "no longer seen: make planted-bugs, and look why"
    assert violations(run(seed)) == []


def test_there_are_enough_bugs() -> None:
    assert len(BUGS) >= 25
    assert recorded().keys() == {bug.name for bug in BUGS}
