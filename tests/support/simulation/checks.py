"""What must hold of every run, whatever happened in it. Numbers as in the audit: I1 … I14.

Judged by the witness (what left, what providers did, what was committed when) and by the logs; the services' own tables
are only compared with them.
"""

from simulation import checks_of_dispatches as dispatches
from simulation import checks_of_limits as limits
from simulation import checks_of_logs as logs
from simulation import checks_of_warm_up as warm_up
from simulation.world import Violation, World

CHECKS = (
    dispatches.check_completeness, dispatches.check_completed, dispatches.check_failures,
    dispatches.check_at_most_once, dispatches.check_truth, dispatches.check_steps,
    limits.check_rates, limits.check_pace, limits.check_quota, limits.check_pause, limits.check_hours_and_consent,
    limits.check_credit, limits.check_retry_budget, warm_up.check_warm_ups, warm_up.check_reports,
    logs.check_projections, logs.check_logs, logs.check_webhooks, logs.check_fencing,
)  # fmt: skip


def violations(world: World) -> list[Violation]:
    """(invariant, what was seen)."""
    if world.failure:
        return [("no crash", world.failure)]
    found = list(world.witness.violations)
    if not world.rested:
        found.append(("I13", f"not at rest after {world.loop.steps} steps and {world.loop.now:.0f} s"))
    for check in CHECKS:
        found += check(world)
    return found
