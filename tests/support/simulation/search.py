"""Looks for a seed that shows each planted bug, and records it: `make planted-bugs`.

To be run again when the decisions, the drivers or the towns have changed: every schedule is another one then.
"""

import json
import sys
from itertools import chain
from multiprocessing import Pool
from pathlib import Path

from simulation.bugs import BUGS, BY_NAME, Bug, planted
from simulation.checks import violations
from simulation.town import draw
from simulation.world import Violation, run

RECORDED = Path(__file__).resolve().parents[2] / "simulation" / "planted_seeds.json"
SEARCH_MAX = 2000


def seen(bug: Bug, seed: int) -> list[Violation]:
    with planted(bug) as flaws:
        return [one for one in violations(run(seed, flaws)) if one[0] in bug.breaks]


def search(bug: Bug, seeds_max: int, first: int = 0) -> int | None:
    """The first seed that shows the bug and is clean without it."""
    for seed in chain((first,), range(seeds_max)):
        worth_it = seed == first or bug.suits(draw(seed))
        if worth_it and seen(bug, seed) and not violations(run(seed)):
            return seed
    return None


def recorded() -> dict[str, int]:
    found: dict[str, int] = json.loads(RECORDED.read_text()) if RECORDED.exists() else {}
    return found


def _search(job: tuple[str, int]) -> tuple[str, int | None]:
    return job[0], search(BY_NAME[job[0]], SEARCH_MAX, job[1])


def main() -> int:
    known = {name: seed for name, seed in recorded().items() if name in BY_NAME}
    unseen = []
    with Pool(2) as pool:
        jobs = [(bug.name, known.get(bug.name, 0)) for bug in BUGS]
        for name, seed in pool.imap_unordered(_search, jobs):
            sys.stdout.write(f"{'never' if seed is None else seed:>6}  {name}\n")
            sys.stdout.flush()
            if seed is None:
                unseen.append(name)
            else:
                known[name] = seed
            RECORDED.write_text(json.dumps(known, indent=1, sort_keys=True) + "\n")
    return len(unseen)


if __name__ == "__main__":
    sys.exit(main())
