"""Shows one seed: its town, what left and what became of it, what people saw, and what was broken.

`make simulate SEED=71`
"""

import sys

from simulation.checks import violations
from simulation.world import World, run


def show(world: World) -> str:
    witness = world.witness
    lines = [
        f"{post.at_s:12.3f} {post.fate:14} {post.dispatch_id} step {post.step} to {post.recipient}"
        f" {post.provider_message_id}"
        for post in witness.posts
    ]
    lines += [
        f"{at_s:12.3f} {type(event).__name__} of run {event.run_epoch}, campaign {of}"
        for at_s, of, event in witness.campaign_events
    ]
    town = world.town
    head = [f"seed {town.seed}: trace {world.fingerprint()}", str(town.faults), str(town.moods), str(town.orders)]
    return "\n".join([*head, *sorted(lines), *(f"{invariant}: {text}" for invariant, text in violations(world))])


if __name__ == "__main__":
    shown = run(int(sys.argv[1]))
    sys.stdout.write(show(shown) + "\n")
    sys.exit(bool(violations(shown)))
