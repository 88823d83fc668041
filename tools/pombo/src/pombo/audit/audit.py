"""The whole audit: what was written down in, findings out."""

from pombo.audit import invariants
from pombo.audit.deliveries import assign
from pombo.audit.finding import Finding
from pombo.audit.promises import Answers, Plan
from pombo.audit.witness import Pause, Witness


def audit(plan: Plan, answers: Answers, witness: Witness, pauses: tuple[Pause, ...]) -> list[Finding]:
    """One finding for each invariant, in their order."""
    deliveries = assign(witness.sends, answers.recipients)
    return [
        invariants.completeness(plan, answers),
        invariants.no_phantom(answers, deliveries, witness),
        invariants.at_most_once(plan, deliveries, witness),
        invariants.rates(plan, witness),
        invariants.pauses_kept(plan, witness, pauses),
        invariants.allowed_times(plan, witness),
        invariants.rebuilt_equals_live(answers),
        invariants.webhooks_kept(answers, witness),
        invariants.accounts_apart(answers),
    ]
