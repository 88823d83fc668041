"""What all lanes of a process share."""

from collections.abc import Callable
from dataclasses import dataclass

from sender.instance.instances import Instances
from sender.instance.owners import Owners
from sender.lane.strain import Strain
from sender.ledger.batching import IntentBatcher
from sender.ledger.outcomes import OutcomeWriter
from sender.settings import Settings


@dataclass(frozen=True, slots=True)
class Parts:
    """`clock`: monotonic seconds."""

    settings: Settings
    instances: Instances
    owners: Owners
    intents: IntentBatcher
    outcomes: OutcomeWriter
    strain: Strain
    clock: Callable[[], float]
